"""What one round of the command loop collects for one shard: stored in one transaction, then published."""

from dataclasses import dataclass, field

from taskloom.domain.entities.entity import Entity
from taskloom.domain.envelope import Recorded
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.directives import Directive
from taskloom.domain.task.state import TaskState
from taskloom.store.batch import SnapshotRow
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope
from taskloom.wire.messages import DeadLetter


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply in the making: it leaves only after its events are stored."""

    task_id: str
    attributes: Attributes
    refusal: Refusal | None = None
    repeated: bool = False
    explain: bool = False
    recall: bool = False


@dataclass(slots=True)
class Batch:
    """``events`` in the order of their decision, each with the traceparent it is published under; ``touched`` are the
    tasks whose state changed, ``entities`` the aggregates that are none; ``peers`` are commands for other tasks that
    follow from the events, ``local`` those between a workflow and its steps, applied in the same round; ``forwards``
    are commands that no event stands for; ``offsets`` the next offset to read, by partition."""

    events: list[Recorded] = field(default_factory=list)
    directives: list[Directive] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    forwards: list[Envelope] = field(default_factory=list)
    peers: list[Envelope] = field(default_factory=list)
    local: list[Envelope] = field(default_factory=list)
    claims: list[tuple[str, bytes]] = field(default_factory=list)
    snapshots: dict[str, TaskState] = field(default_factory=dict)
    entity_snapshots: list[SnapshotRow] = field(default_factory=list)
    touched: dict[str, TaskState] = field(default_factory=dict)
    entities: dict[str, Entity] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.events or self.offsets or self.answers or self.directives or self.touched)
