"""The server's answers as values. Fields that a newer server adds are passed over; absent ones have these defaults."""

from base64 import b64decode
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, field

STATUS_PREFIX: Final = "TASK_STATUS_"
ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"})


class Submitted(Struct, frozen=True):
    task_id: str
    status: str
    created_at: datetime


class BatchEntry(Struct, frozen=True):
    """An accepted entry has a ``task_id``, a refused one an ``error`` and the ``field`` at fault."""

    index: int
    task_id: str = ""
    status: str = ""
    error: str = ""
    field: str = ""


class Batch(Struct, frozen=True):
    tasks: list[BatchEntry]
    accepted: int
    rejected: int


class _WithStatus(Struct, frozen=True):
    task_id: str
    status: str
    state: str
    kind: str
    queue: str
    priority: int
    attempt: int
    created_at: datetime

    @property
    def word(self) -> str:
        """Status without prefix: QUEUED, RUNNING, PAUSED, COMPLETED, FAILED, CANCELLED or TIMEOUT."""
        return self.status.removeprefix(STATUS_PREFIX)

    @property
    def ended(self) -> bool:
        return self.word in ENDED

    @property
    def completed(self) -> bool:
        return self.word == "COMPLETED"


class TaskSummary(_WithStatus, frozen=True, kw_only=True):
    """A task in a list."""

    query: str = ""
    name: str = ""
    session_id: str = ""
    tags: tuple[str, ...] = ()
    started_at: datetime | None = None
    completed_at: datetime | None = None
    progress: float | None = None
    error: str = ""


class TaskPage(Struct, frozen=True):
    """``total_count`` is a lower bound when ``total_is_exact`` is false; ``next_cursor`` leads to the next page."""

    tasks: list[TaskSummary]
    total_count: int
    total_is_exact: bool = True
    next_cursor: str | None = None


class Task(_WithStatus, frozen=True, kw_only=True):
    """``result`` is text for people, ``response`` the structured value; ``version`` counts the task's events."""

    version: int
    max_attempts: int
    query: str = ""
    name: str = ""
    session_id: str = ""
    user_id: str = ""
    input: dict[str, Any] = {}
    context: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    progress: float = 0.0
    progress_message: str = ""
    is_paused: bool = False
    is_cancelled: bool = False
    overdue: bool = False
    result: str = ""
    response: Any = None
    error: str = ""
    error_type: str = ""
    exit_code: int | None = None
    executor_id: str = ""
    updated_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    retry_at: datetime | None = None
    run_at: datetime | None = None
    deadline: datetime | None = None
    output_bytes: int = 0
    trace_id: str = ""


class Event(Struct, frozen=True):
    """``seq`` rises by 1 from 1; ``payload`` is the stored event's own data."""

    workflow_id: str
    type: str
    timestamp: datetime
    seq: int
    message: str = ""
    agent_id: str = ""
    payload: dict[str, Any] = {}


class Events(Struct, frozen=True):
    events: list[Event]


class Line(Struct, frozen=True):
    """A line of a timeline; ``version`` is that of the stored event behind it."""

    type: str
    message: str
    timestamp: datetime
    seq: int
    version: int = 0
    payload: dict[str, Any] | None = None


class Timeline(Struct, frozen=True):
    workflow_id: str
    events: list[Line]


class OutputChunk(Struct, frozen=True):
    """A piece of output, as ``text`` or, where it is not UTF-8, as ``base64``."""

    seq: int
    attempt: int
    stream: str
    at: datetime
    text: str = ""
    base64: str = ""

    @property
    def data(self) -> bytes:
        return b64decode(self.base64) if self.base64 else self.text.encode()


class Output(Struct, frozen=True):
    """``next``: the ``after`` of the next page. ``complete``: this and what came before is all there will be."""

    chunks: list[OutputChunk]
    next: int
    complete: bool


class Execution(Struct, frozen=True, kw_only=True):
    """An attempt."""

    attempt: int
    status: str
    executor_id: str = ""
    queued_at: datetime | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    exit_code: int | None = None
    error: dict[str, Any] | None = None
    peak_resource_usage: dict[str, Any] = {}


class Executions(Struct, frozen=True):
    executions: list[Execution]


class GateLease(Struct, frozen=True):
    """A task that holds a place of a limit, and since when."""

    task_id: str
    since: datetime


class Gate(Struct, frozen=True):
    """What holds a task, since when, and who holds it; ``leases``: those that hold places of a limit."""

    gate: str
    detail: str
    since: datetime | None = None
    held_by: tuple[str, ...] = ()
    leases: tuple[GateLease, ...] = ()


class Why(Struct, frozen=True):
    """No gates when the task runs or has ended."""

    state: str
    gates: tuple[Gate, ...] = ()
    expected_start: datetime | None = None


class Controlled(Struct, frozen=True):
    success: bool
    message: str
    task_id: str
    state: str = ""


class RunStep(Struct, frozen=True):
    """``path``: ids from the outermost step inwards, with the round of a loop and the index in a map between them.
    ``task_id`` and ``attempts`` are set for a step that is a task of its own; ``status``: running, waiting, completed,
    failed, skipped or cancelled. ``parent`` is the path of the step around it, ``index`` the item of a map,
    ``iteration`` the round of a loop. ``result`` comes with ``steps`` alone; a large one is a reference."""

    path: str
    status: str
    kind: str
    task_id: str = ""
    error: str = ""
    error_type: str = ""
    parent: str = ""
    index: int | None = None
    iteration: int | None = None
    attempts: int = 0
    executor_id: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    result: Any = None


class RunSteps(Struct, frozen=True):
    """A page of steps in the order of their paths; ``next`` is the path to go on after, empty on the last one."""

    steps: list[RunStep]
    next: str = ""


class Run(Struct, frozen=True):
    """A workflow's run. ``progress`` in percent; ``steps`` are those that have begun; ``counts`` of top-level steps."""

    status: str
    progress: float
    counts: dict[str, int]
    steps: list[RunStep]
    variables: dict[str, Any]
    restarts: int = 0


class BulkRefusal(Struct, frozen=True):
    task_id: str
    error: str


class BulkResult(Struct, frozen=True, kw_only=True):
    """``matched`` tasks; of those looked at now, ``sent`` got the command and ``skipped`` were in no state for it; of
    the sent, ``refused`` said no and ``unanswered`` may still do it."""

    matched: int
    sent: int
    skipped: int
    refused: list[BulkRefusal] = []
    unanswered: int = 0
    matched_is_exact: bool = True
    dry_run: bool = False
    next_cursor: str | None = None


class Executor(Struct, frozen=True, kw_only=True):
    """``held`` attempts in ``slots``; ``status``: ready, draining, stopped or lost."""

    executor_id: str
    status: str
    kinds: tuple[str, ...]
    queues: tuple[str, ...]
    slots: int
    held: int
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    host: str = ""
    pid: int = 0
    version: str = ""
    started_at: datetime | None = None
    last_heartbeat_at: datetime | None = None


class Executors(Struct, frozen=True):
    executors: list[Executor]


class Waits(Struct, frozen=True):
    """From submission to the first start, in seconds."""

    p50_s: float
    p90_s: float
    p99_s: float


class Queue(Struct, frozen=True, kw_only=True):
    """``depth`` tasks wait for an executor; ``started``, ``completed`` and ``waits`` are of the last five minutes."""

    name: str
    depth: int = 0
    open: int = 0
    by_state: dict[str, int] = field(default_factory=dict)
    by_priority: dict[str, int] = field(default_factory=dict)
    oldest_waiting_since: datetime | None = None
    started: int = 0
    completed: int = 0
    completed_per_s: float = 0.0
    waits: Waits | None = None


class Queues(Struct, frozen=True):
    queues: list[Queue]
