"""What can go wrong in the store, one class per thing that a caller can act on."""

from collections.abc import Sequence

from taskloom.errors import TaskloomError


class StoreError(TaskloomError):
    """The event store could not do what was asked."""


class StoreUnavailable(StoreError):
    """PostgreSQL could not be reached in time; whether the last write was stored is unknown until a take-over."""


class Fenced(StoreError):
    """Another owner has taken over the partition, or has moved its offset: drop its states and take it over anew."""

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"partition {partition} has another owner or another offset: drop its states and take it over anew"
        )
        self.partition = partition


class VersionConflict(StoreError):
    """An event of that version is already stored: load the tasks named by ``task_ids`` anew and decide again."""

    def __init__(self, task_ids: Sequence[str]) -> None:
        named = ", ".join(task_ids[:10]) or "unknown"
        super().__init__(f"events of these versions are already stored; load anew and decide again. Tasks: {named}")
        self.task_ids = tuple(task_ids)


class MigrationError(StoreError):
    """The database's tables do not match this release's migrations."""


class LayoutMismatch(StoreError):
    """The data was written with other numbers of partitions or shards than the settings say."""


def check_layout(stored: tuple[int, ...], partitions: int, shards: int) -> None:
    """Raises ``LayoutMismatch`` when ``stored`` (partitions, shards) differs from the settings."""
    if stored != (partitions, shards):
        raise LayoutMismatch(
            f"the store was written with {stored[0]} partitions and {stored[1]} shards, the settings say {partitions} "
            f"and {shards}: set TASKLOOM_PARTITIONS={stored[0]} and TASKLOOM_SHARDS={stored[1]}"
        )


class ClaimMissing(StoreError):
    """A value is referred to, but not stored."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"the value sha256:{digest} is referred to, but it is not in the claims table")
        self.digest = digest


class ClaimCorrupt(StoreError):
    """A stored value does not have the hash that it is stored under."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"the value stored as sha256:{digest} has another hash: the stored bytes were changed")
        self.digest = digest
