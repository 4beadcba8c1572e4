"""Messages between services that are not task commands or events. Each is JSON with its public name as ``type``."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from taskloom.domain.agents import agent_id_of
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.directives import Directive, PauseAttempt, ResumeAttempt, RunAttempt, StopAttempt
from taskloom.domain.values import Resources, Stream

__all__ = [
    "AuditEntry",
    "DeadLetter",
    "Directive",
    "ExecutorHeartbeat",
    "HostMetrics",
    "LinkTaken",
    "LiveAttempt",
    "Message",
    "OrchestratorHeartbeat",
    "OutputChunk",
    "PauseAttempt",
    "Reply",
    "ResumeAttempt",
    "RunAttempt",
    "StopAttempt",
]


class Message(Struct, frozen=True, omit_defaults=True):
    """Base; readers ignore fields they do not know."""


# Executor -> everyone.


class LiveAttempt(Struct, frozen=True, array_like=True):
    task_id: str
    attempt: int


class HostMetrics(Struct, frozen=True, omit_defaults=True):
    """An agent's machine. ``cpu_percent`` of all cores since the beat before; network: all bytes since it booted."""

    cpu_percent: float = 0.0
    cpu_count: int = 0
    load_1m: float = 0.0
    memory_used_bytes: int = 0
    memory_total_bytes: int = 0
    disk_used_bytes: int = 0
    disk_total_bytes: int = 0
    network_sent_bytes: int = 0
    network_received_bytes: int = 0


class ExecutorHeartbeat(Message, frozen=True, tag="taskloom.executor.heartbeat.v1"):
    """Registration and sign of life in one, on the compacted executors topic; key = executor id.

    ``slots`` run at once; ``prefetch`` more may wait in the executor. ``live`` are all attempts it holds (running and
    waiting). ``status``: ready takes work, draining finishes what it has, stopped said good-bye.
    ``schemas``: JSON Schemas of the inputs of its kinds, as far as they have one and it is small.
    ``tenant_id``: whose tasks alone it runs, of an agent; empty: everybody's. ``epoch``: of the agent's link; a beat of
    an earlier one is not heard. ``gateway``: who holds the link.
    """

    executor_id: str
    incarnation: str
    status: Literal["ready", "draining", "stopped"]
    at: datetime
    kinds: tuple[str, ...]
    queues: tuple[str, ...] = ("default",)
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    slots: int = 1
    prefetch: int = 0
    resources: Resources = Resources()
    live: tuple[LiveAttempt, ...] = ()
    host: str = ""
    pid: int = 0
    version: str = ""
    started_at: datetime | None = None
    interval_s: float = 5.0
    schemas: dict[str, dict[str, Any]] = {}
    tenant_id: str = ""
    epoch: int = 0
    gateway: str = ""
    metrics: HostMetrics | None = None

    @property
    def agent_id(self) -> str:
        """What the agent is called in its tenant; empty for an executor that is no agent."""
        return agent_id_of(self.executor_id) if self.tenant_id else ""


class OrchestratorHeartbeat(Message, frozen=True, tag="taskloom.orchestrator.heartbeat.v1"):
    """Presence of an orchestrator, on the executors topic too: executors' silence is counted in these beats, so that an
    outage of the broker, which silences both, loses nobody. Key = instance."""

    instance: str
    partitions: tuple[int, ...]
    at: datetime
    interval_s: float = 5.0


class OutputChunk(Message, frozen=True, tag="taskloom.attempt.output.v1"):
    """Piece of an attempt's output, on the outputs topic; key = task id. ``data`` (base64) where it is not UTF-8.

    ``seq`` rises by one within the attempt, from ``(attempt - 1) * OUTPUT_SEQ_SPAN + 1``.
    """

    task_id: str
    attempt: int
    seq: int
    stream: Stream
    at: datetime
    text: str = ""
    data: bytes = b""
    tenant_id: str = "default"


# Gateway -> gateways, on the assignments topic; key = the agent's executor id.


class LinkTaken(Message, frozen=True, tag="taskloom.agent.link-taken.v1"):
    """A gateway holds the agent's link from here on; whoever held it before lets go. Its offset is the link's epoch."""

    executor_id: str
    link_id: str
    incarnation: str
    gateway: str
    at: datetime


class DrainNoted(Message, frozen=True, tag="taskloom.agent.drain-noted.v1"):
    """An agent is drained, or no more, as of this version of it. What is assigned to it behind this is declined."""

    executor_id: str
    version: int
    draining: bool
    at: datetime


# Orchestrator -> who asked, on the replies topic; key = the command's reply-to.


class Reply(Message, frozen=True, tag="taskloom.reply.v1"):
    """Outcome of one command: ``refusal`` is set when it was not carried out; ``data`` is what the command asks for.

    ``version`` and ``state`` are the task's after the command. For ``ExplainTask`` ``data`` is the answer of /why.
    """

    command_id: str
    task_id: str
    at: datetime
    state: str = ""
    version: int = 0
    refusal: Refusal | None = None
    created_at: datetime | None = None
    data: dict[str, Any] = {}


class AuditEntry(Message, frozen=True, tag="taskloom.audit.entry.v1"):
    """A mutating call and what came of it, on the audit topic; key = tenant. ``id`` rises with time.

    ``by``: open, key, token or nobody. ``home_tenant`` and ``home_user``: whose credentials they were, when they acted
    for somebody else. ``route``: its template, or the path where the call was
    refused before it was looked at. ``named``: the ids in the path. ``status`` 499: the caller left before the answer.
    """

    id: str
    at: datetime
    tenant_id: str
    method: str
    route: str
    status: int
    user_id: str = ""
    key_id: str = ""
    by: str = ""
    role: str = ""
    home_tenant: str = ""
    home_user: str = ""
    task_id: str = ""
    named: dict[str, str] = {}
    remote: str = ""
    trace_id: str = ""
    gateway: str = ""


class DeadLetter(Message, frozen=True, tag="taskloom.dead-letter.v1"):
    """A record that could not be applied, with all that is needed to send it again; ``value`` and headers in base64."""

    topic: str
    partition: int
    offset: int
    at: datetime
    reason: str
    field: str = ""
    key: str = ""
    value: bytes = b""
    headers: tuple[tuple[str, bytes], ...] = ()
