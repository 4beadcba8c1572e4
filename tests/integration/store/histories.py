"""Sealed events for the store's tests."""

from datetime import UTC, datetime

from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.task.events import AttemptHeartbeat, TaskEvent, TaskQueued, TaskSubmitted
from taskloom.domain.values import TaskSpec
from taskloom.wire.recorded import GENESIS, seal
from taskloom.wire.topics import partition_of

PARTITIONS = 8
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def history(task_id: str, count: int, *, after: Recorded | None = None) -> list[Recorded]:
    """``count`` events in one chain, following ``after``."""
    version, digest = (0, GENESIS) if after is None else (after.version, after.digest)
    events: list[Recorded] = []
    for number in range(version + 1, version + count + 1):
        recorded = seal(_event(number), EventMeta(task_id, number, AT, "default"), digest)
        digest = recorded.digest
        events.append(recorded)
    return events


def _event(version: int) -> TaskEvent:
    if version == 1:
        return TaskSubmitted(TaskSpec("echo", input={"text": "é" * 100}), body_hash="0" * 64)
    return TaskQueued() if version == 2 else AttemptHeartbeat(attempt=1)


def task_on(partition: int, name: str = "task") -> str:
    """A task id that belongs to the partition."""
    return next(i for n in range(10_000) if partition_of(i := f"{name}-{n}", PARTITIONS) == partition)
