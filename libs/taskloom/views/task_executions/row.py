"""The row of a task: one field a column of ``task_executions``, in the same order."""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct

STATUSES: Final[dict[str, str]] = {
    "scheduled": "QUEUED",
    "waiting": "QUEUED",
    "ready": "QUEUED",
    "assigned": "QUEUED",
    "running": "RUNNING",
    "retrying": "RUNNING",
    "cancelling": "RUNNING",
    "pausing": "PAUSED",
    "paused": "PAUSED",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
    "timed_out": "TIMEOUT",
}
"""The seven words of the REST API (without their prefix) by fine state; a deleted task keeps that of its end."""

DELETED: Final = "deleted"

OPEN_STATUSES: Final = frozenset({"QUEUED", "RUNNING", "PAUSED"})
FAILED_STATUSES: Final = frozenset({"FAILED", "CANCELLED", "TIMEOUT"})


class Row(Struct):
    """A task as of ``version``. Times are event times; empty text, ``{}``, ``()`` and False are NULL in the table.

    ``phase`` is what lies below a pause or a cancel, ``state`` what people see, ``status`` the REST word for it.
    The steps of a workflow are its top-level ones; ``current_step`` is the one that began last and has not ended.
    ``steps_parts`` are the steps under way, or failed, that have items, rounds or steps of their own: by id how many of
    those completed and how many there are. ``progress`` counts them: whole percents, never rounded up.
    ``restarts`` counts its retries; ``steps_since`` is the one after which it last began from its start.
    ``started_at`` is the first attempt's start (the first since the last retry), ``attempt_started_at`` that of the
    attempt under way. ``failed_at`` is set at an end other than completed. Usage and output are sums over all attempts;
    ``output_last_seq`` is the last chunk of the last attempt that reported one, and ``output_ends`` are those of all
    attempts that did, so that a reader knows when it has every chunk.
    ``assigned_to`` is the executor it has to run on, ``executor_id`` where it last ran. A deleted task keeps its row,
    so that an event that comes twice does not bring it back; nothing shows or counts it.
    """

    task_id: str
    tenant_id: str
    user_id: str
    session_id: str
    name: str
    kind: str
    queue: str
    priority: int
    query: str
    mode: str
    context: dict[str, Any]
    metadata: dict[str, Any]
    tags: tuple[str, ...]
    input: dict[str, Any]
    max_attempts: int
    created_at: datetime
    run_at: datetime | None
    deadline: datetime | None
    callback_url: str
    correlation_id: str
    traceparent: str
    description: str
    assigned_to: str
    deleted_at: datetime | None

    version: int
    phase: str
    state: str
    status: str
    attempt: int = 0
    failures: int = 0
    executor_id: str = ""
    result: str = ""
    response: Any = None
    error: str = ""
    error_type: str = ""
    exit_code: int | None = None
    progress: float | None = None
    progress_message: str = ""
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    updated_at: datetime | None = None
    retry_at: datetime | None = None
    overdue: bool = False
    is_paused: bool = False
    pause_requested_at: datetime | None = None
    paused_at: datetime | None = None
    pause_reason: str = ""
    paused_by: str = ""
    checkpoint: str = ""
    is_cancelled: bool = False
    cancel_requested_at: datetime | None = None
    cancel_reason: str = ""
    cancelled_by: str = ""
    was_paused: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    model_used: str = ""
    provider: str = ""
    output_last_seq: int = 0
    output_ends: tuple[int, ...] = ()
    output_chunks: int = 0
    output_bytes: int = 0
    attempt_started_at: datetime | None = None
    steps_total: int = 0
    steps_ended: int = 0
    steps_failed: int = 0
    current_step: str = ""
    steps_completed: int = 0
    steps_running: int = 0
    steps_parts: dict[str, Any] = {}
    restarts: int = 0
    steps_since: int = 0

    @property
    def attempts(self) -> int:
        """How many attempts there were; they are numbered from 1."""
        return self.attempt

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def ended(self) -> bool:
        return self.completed_at is not None


FIELDS: Final[tuple[str, ...]] = Row.__struct_fields__
FIXED: Final[tuple[str, ...]] = FIELDS[: FIELDS.index("version")]
"""What the submission fixed; written again only when somebody changed it by hand."""

EDITABLE: Final = (
    "name", "queue", "priority", "metadata", "tags", "deadline", "description", "assigned_to", "deleted_at",
)  # fmt: skip
"""Those of ``FIXED`` that a client can change. Few tasks ever are, so they are no part of the ordinary update."""

CHANGING: Final[tuple[str, ...]] = FIELDS[FIELDS.index("version") :]
