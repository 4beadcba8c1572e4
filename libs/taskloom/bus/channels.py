"""The whole flow on one page: each topic, its key, who writes and reads it, what it carries, and why it is apart."""

from typing import Final, get_args

from msgspec import Struct

from taskloom.bus.dead_letters import Redriven
from taskloom.domain.entities.commands import ENTITY_CLIENT_COMMANDS
from taskloom.domain.entities.events import ENTITY_EVENTS
from taskloom.domain.task.commands import ClientCommand, Report
from taskloom.domain.task.events import TaskEvent
from taskloom.wire.messages import (
    AuditEntry,
    DeadLetter,
    Directive,
    DrainNoted,
    ExecutorHeartbeat,
    LinkTaken,
    OrchestratorHeartbeat,
    OutputChunk,
    Reply,
)


class Reader(Struct, frozen=True):
    """Who reads a topic: a member of ``group``, or, without one, of given partitions by itself."""

    who: str
    group: str = ""


class Channel(Struct, frozen=True):
    """A topic. ``name`` is what comes after the prefix."""

    name: str
    key: str
    why: str
    messages: tuple[type[Struct], ...]
    writers: tuple[str, ...]
    readers: tuple[Reader, ...]

    @property
    def kind(self) -> str:
        """Name of the topic's property in ``Topics`` and of its row in ``admin.TOPICS``."""
        return self.name.replace("-", "_")


CHANNELS: Final = (
    Channel(
        "commands",
        "task id",
        "Wishes for tasks and reports of attempts share a topic, so that a task is decided on in one order.",
        (*get_args(ClientCommand), *ENTITY_CLIENT_COMMANDS, *get_args(Report)),
        ("clients", "gateway", "executor"),
        (Reader("orchestrator", "orchestrator.commands"),),
    ),
    Channel(
        "events",
        "task id",
        "What happened, as it is stored, for everybody to build on; the only topic others should build on.",
        (*get_args(TaskEvent), *ENTITY_EVENTS),
        ("orchestrator",),
        (Reader("projection", "projection.views"), Reader("gateway"), Reader("clients")),
    ),
    Channel(
        "outputs",
        "task id",
        "What attempts write; apart from events, since one task may write gigabytes and nothing is decided on it.",
        (OutputChunk,),
        ("executor", "gateway"),
        (Reader("projection", "projection.views"), Reader("gateway"), Reader("clients")),
    ),
    Channel(
        "assignments",
        "executor id",
        "Orders to one executor; keyed by it, so that it reads one partition and skips what is for others. Gateways "
        "read all of them while they hold links of agents.",
        (*get_args(Directive), LinkTaken, DrainNoted),
        ("orchestrator", "gateway"),
        (Reader("executor"), Reader("gateway")),
    ),
    Channel(
        "replies",
        "reply-to of the command",
        "The outcome of a command, to who asked: short-lived, in the partition that the asker's name falls into.",
        (Reply,),
        ("orchestrator",),
        (Reader("gateway"), Reader("clients")),
    ),
    Channel(
        "executors",
        "executor id, or the orchestrator's instance",
        "Who is there and what it can do, with signs of life; compacted: a starting orchestrator reads it whole.",
        (ExecutorHeartbeat, OrchestratorHeartbeat),
        ("executor", "gateway", "orchestrator"),
        (Reader("orchestrator"), Reader("projection")),
    ),
    Channel(
        "audit",
        "tenant",
        "Who changed what, refused or not; apart from events, since it is told by gateways and decides nothing.",
        (AuditEntry,),
        ("gateway",),
        (Reader("projection", "projection.views"), Reader("clients")),
    ),
    Channel(
        "dead-letters",
        "task id where it is known",
        "Records that could not be applied, whole and with the reason, so that they never block and can be sent again.",
        (DeadLetter, Redriven),
        ("orchestrator", "projection", "operators"),
        (Reader("operators"),),
    ),
)


def type_of(message: type[Struct]) -> str:
    """Public name of a message, for example ``taskloom.task.submit.v1``."""
    return str(message.__struct_config__.tag)
