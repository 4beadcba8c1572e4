"""What goes into the store in one transaction, and what comes out of it."""

from datetime import datetime
from typing import NamedTuple

from msgspec import Struct, field

from taskloom.domain.envelope import Recorded
from taskloom.domain.scheduling.leases import Limit
from taskloom.domain.scheduling.quotas import Use
from taskloom.tenant_limits import LimitsRow


class OffsetMove(Struct, frozen=True):
    """Moves a partition's offset, if its owner is still the one of ``epoch`` and its offset is still ``expected``.

    ``next_offset`` is the next Kafka offset to read; equal to ``expected`` it only fences. ``published`` is the
    position up to which the partition's events are on the topic, as far as the owner knows.
    """

    partition: int
    epoch: int
    expected: int
    next_offset: int
    published: int


class OpenTask(NamedTuple):
    """A task that has not ended. ``due_at`` is its next timer; None: nothing but a message can move it."""

    task_id: str
    partition: int
    due_at: datetime | None


class SnapshotRow(NamedTuple):
    """A task's folded state as of ``version``; only the newest one of a task is kept."""

    task_id: str
    version: int
    state: bytes


class Lease(NamedTuple):
    """A task's place of a limit."""

    limit: Limit
    task_id: str


class Batch(Struct):
    """One transaction. A task in ``open`` and ``closed`` is closed; claims are ``(sha256 in hex, bytes)``;
    ``uses``: what attempts that ended in it used, each scope and period once; ``ended``: their leases of limits;
    ``limits``: tenants' that changed."""

    events: list[Recorded] = field(default_factory=list)
    moves: list[OffsetMove] = field(default_factory=list)
    open: list[OpenTask] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    claims: list[tuple[str, bytes]] = field(default_factory=list)
    snapshots: list[SnapshotRow] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    ended: list[Lease] = field(default_factory=list)
    limits: list[LimitsRow] = field(default_factory=list)


class Ownership(Struct, frozen=True):
    """A partition in our hands: no one with a smaller ``epoch`` can write for it any more."""

    partition: int
    epoch: int
    next_offset: int
    published: int


class History(Struct):
    """A task as stored: the newest snapshot (``version`` 0: none), then the events after it, in order."""

    task_id: str
    snapshot: bytes | None = None
    version: int = 0
    events: list[Recorded] = field(default_factory=list)
