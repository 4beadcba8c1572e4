"""What the orchestrator needs of the event store and of Kafka: tests put others in their place."""

from collections.abc import Sequence
from typing import Protocol

from taskloom.bus.publish import OutRecord
from taskloom.store.batch import Batch, History, OpenTask, Ownership


class Store(Protocol):
    """One shard of the event store, as ``taskloom.store.shard.ShardStore`` is; called in threads."""

    def take_over(self, partition: int) -> Ownership: ...
    def put(self, batch: Batch) -> list[int]: ...
    def load(self, task_ids: Sequence[str]) -> dict[str, History]: ...
    def open_tasks(self, partition: int) -> list[OpenTask]: ...
    def log(self, after: int, limit: int = 1000) -> list[tuple[int, bytes]]: ...
    def mark_published(self, marks: Sequence[tuple[int, int, int]]) -> None: ...


class Publishes(Protocol):
    """As ``taskloom.bus.publish.Publisher``: returns when Kafka has all records."""

    async def publish(self, records: Sequence[OutRecord]) -> None: ...
