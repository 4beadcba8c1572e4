"""Listens to executors: their offers fill the scheduler's pool, their silence and their restarts end attempts."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from services.orchestrator.announced import Announced
from services.orchestrator.memory import Memory
from taskloom.domain.scheduling.executors import ExecutorPool, Lease
from taskloom.domain.scheduling.match import ExecutorOffer
from taskloom.domain.task.commands import LoseAttempt
from taskloom.domain.task.directives import StopAttempt
from taskloom.domain.task.state import TaskState
from taskloom.wire.messages import ExecutorHeartbeat, OrchestratorHeartbeat

MISSED_BEFORE_LOST = 3
"""Heartbeats in a row that must leave an attempt out before it is lost, and likewise before a stray is stopped."""

STRAY_GRACE_S = 5.0
MAX_MISSES = 100_000
"""Leases under suspicion that are remembered; beyond it counting begins anew."""

_log = structlog.get_logger(__name__)
_decoder = msgspec.json.Decoder(ExecutorHeartbeat | OrchestratorHeartbeat)

Lose = Callable[[str, LoseAttempt], None]
Stop = Callable[[StopAttempt], None]


class Misses(Struct):
    """How many of our beats a lease was missed in, and in which last."""

    times: int = 0
    beat: int = -1


class Listener:
    """Applies records of the executors topic.

    Args:
        instance: this orchestrator's name; only its own beats count silence, so that more orchestrators do not
            shorten the patience with executors.
        lose: asked for each attempt that is lost.
        stop: asked for each attempt that runs although no task has it.
        caught_up: whether a task's partition has no commands waiting; while some wait, its end may be among them.
    """

    def __init__(
        self,
        instance: str,
        pool: ExecutorPool,
        announced: Announced,
        memory: Memory,
        lose: Lose,
        stop: Stop,
        caught_up: Callable[[str], bool],
    ) -> None:
        self._instance = instance
        self._pool = pool
        self._announced = announced
        self._memory = memory
        self._lose = lose
        self._stop = stop
        self._caught_up = caught_up
        self._absent: dict[Lease, Misses] = {}
        self._strays: dict[Lease, Misses] = {}
        self._beats = 0

    def apply(self, record: Any, *, history: bool = False) -> None:
        """``record`` is an aiokafka ``ConsumerRecord``; one that cannot be read is logged and skipped.

        ``history``: it was there before we started; then only a fresh one says that its executor lives.
        """
        try:
            message = _decoder.decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.warning("unreadable record on the executors topic", offset=record.offset, error=str(error))
            return
        if isinstance(message, OrchestratorHeartbeat):
            if message.instance == self._instance:
                self._beat()
            return
        self._announced.hear(message)
        if history and (datetime.now(UTC) - message.at).total_seconds() > message.interval_s * 3:
            return
        if message.status == "stopped":
            gone = self._pool.leave(message.executor_id, message.incarnation)
            self._lost(gone, f"executor {message.executor_id} stopped")
        else:
            self._heard(message)

    def _beat(self) -> None:
        self._beats += 1
        for executor_id, leases in self._pool.beat().items():
            _log.warning("executor lost", executor=executor_id, attempts=len(leases))
            self._lost(leases, f"executor {executor_id} was not heard of any more")

    def _heard(self, message: ExecutorHeartbeat) -> None:
        lost = self._pool.hear(offer_of(message))
        self._lost(lost, f"executor {message.executor_id} was restarted")
        live = {(attempt.task_id, attempt.attempt) for attempt in message.live}
        for lease in self._missed(self._absent, self._absentees(message, live), live):
            if self._caught_up(lease[0]):
                self._pool.lost(message.executor_id, [lease])
                self._lost([lease], f"executor {message.executor_id} does not have the attempt")
        strays = {lease for lease in live if self._is_stray(lease, message)}
        for task_id, attempt in self._missed(self._strays, strays, live - strays):
            _log.warning("stopping an attempt that no task has", task_id=task_id, attempt=attempt)
            where = (message.executor_id, message.incarnation)
            self._stop(StopAttempt(task_id, attempt, *where, STRAY_GRACE_S, "its task has no such attempt any more"))

    def _absentees(self, message: ExecutorHeartbeat, live: set[Lease]) -> set[Lease]:
        """Attempts that hold a slot there although the executor does not list them."""
        held = self._pool.leases_of(message.executor_id, message.incarnation)
        return {lease for lease in held if lease[1] and lease not in live}

    def _missed(self, misses: dict[Lease, Misses], missed: set[Lease], fine: set[Lease]) -> list[Lease]:
        """Counts once a beat of ours, so that a burst of heartbeats counts once; gives those over the limit."""
        for lease in fine:
            misses.pop(lease, None)
        if len(misses) > MAX_MISSES:
            misses.clear()
        over = []
        for lease in missed:
            count = misses.setdefault(lease, Misses())
            if count.beat != self._beats:
                count.beat, count.times = self._beats, count.times + 1
            if count.times >= MISSED_BEFORE_LOST:
                over.append(lease)
                del misses[lease]
        return over

    def _is_stray(self, lease: Lease, message: ExecutorHeartbeat) -> bool:
        state: TaskState | None = self._memory.get(lease[0])
        if state is None or not self._caught_up(lease[0]):
            return False
        live = state.live
        return live is None or live.number != lease[1] or live.executor_id != message.executor_id

    def _lost(self, leases: list[Lease], reason: str) -> None:
        for task_id, attempt in leases:
            self._absent.pop((task_id, attempt), None)
            if attempt:
                self._lose(task_id, LoseAttempt(attempt, reason))


def offer_of(message: ExecutorHeartbeat) -> ExecutorOffer:
    return ExecutorOffer(
        executor_id=message.executor_id,
        incarnation=message.incarnation,
        kinds=frozenset(message.kinds),
        queues=frozenset(message.queues),
        capabilities=frozenset(message.capabilities),
        labels=message.labels,
        slots=message.slots,
        prefetch=message.prefetch,
        ready=message.status == "ready",
        resources=message.resources,
        tenant_id=message.tenant_id,
        agent_id=message.agent_id,
        epoch=message.epoch,
    )
