"""What leaves the API about tasks: made here, in one place, from the read rows. Names are fixed by Shannon's contract.

Optional fields are absent, not null (``UNSET``): Shannon's clients rely on it.
"""

from datetime import datetime
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from taskloom.domain.goals.submitting import DEFINITION
from taskloom.domain.runs import GOAL
from taskloom.domain.values import OUTPUT_SEQ_SPAN
from taskloom.domain.values import Usage as AttemptUsage
from taskloom.views.task_executions.row import Row

STATUS_PREFIX: Final = "TASK_STATUS_"
Optional = UnsetType


class Usage(Struct, frozen=True):
    """Tokens and money, in both spellings that clients read."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    prompt_tokens: int
    completion_tokens: int
    estimated_cost: float
    cost_usd: float


class Steps(Struct, frozen=True):
    """Top-level steps of a workflow: how many have ended and failed, and which one began last and has not ended."""

    total: int
    ended: int
    failed: int
    current: str


class TaskSummary(Struct, frozen=True, kw_only=True):
    """A task in a list."""

    task_id: str
    workflow_id: str
    query: str
    status: str
    state: str
    mode: str
    kind: str
    queue: str
    priority: int
    session_id: str
    tags: tuple[str, ...]
    attempt: int
    created_at: datetime
    name: str | Optional = UNSET
    started_at: datetime | Optional = UNSET
    completed_at: datetime | Optional = UNSET
    progress: float | Optional = UNSET
    steps: Steps | Optional = UNSET
    error: str | Optional = UNSET
    total_token_usage: Usage | Optional = UNSET


class TaskList(Struct, frozen=True):
    """``total_count`` is a lower bound when ``total_is_exact`` is false."""

    tasks: list[TaskSummary]
    total_count: int
    total_is_exact: bool
    next_cursor: str | None


class TaskStatus(Struct, frozen=True, kw_only=True):
    """A task. ``status`` is one of Shannon's words, ``state`` is finer; ``result`` is text, ``response`` structured."""

    task_id: str
    workflow_id: str
    status: str
    state: str
    kind: str
    queue: str
    priority: int
    query: str
    session_id: str
    user_id: str
    mode: str
    input: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    tags: tuple[str, ...]
    attempt: int
    max_attempts: int
    version: int
    progress: float
    model_used: str
    provider: str
    usage: Usage
    is_paused: bool
    is_cancelled: bool
    overdue: bool
    created_at: datetime
    updated_at: datetime
    name: str | Optional = UNSET
    description: str | Optional = UNSET
    assigned_to: str | Optional = UNSET
    result: str | Optional = UNSET
    response: Any | Optional = UNSET
    error: str | Optional = UNSET
    error_type: str | Optional = UNSET
    exit_code: int | Optional = UNSET
    progress_message: str | Optional = UNSET
    steps: Steps | Optional = UNSET
    executor_id: str | Optional = UNSET
    queued_at: datetime | Optional = UNSET
    started_at: datetime | Optional = UNSET
    completed_at: datetime | Optional = UNSET
    retry_at: datetime | Optional = UNSET
    run_at: datetime | Optional = UNSET
    deadline: datetime | Optional = UNSET
    output_bytes: int | Optional = UNSET
    trace_id: str | Optional = UNSET


class ControlState(Struct, frozen=True):
    """``paused_at`` is RFC 3339, or empty while the task is not held; pause fields are empty again after a resume."""

    is_paused: bool
    is_cancelled: bool
    paused_at: str
    pause_reason: str
    paused_by: str
    cancel_reason: str
    cancelled_by: str
    state: str
    checkpoint: str


def usage_of(used: Row | AttemptUsage) -> Usage:
    """Of a task over all its attempts, or of one attempt."""
    tokens_in, tokens_out, cost = used.input_tokens, used.output_tokens, used.cost_usd
    return Usage(tokens_in + tokens_out, tokens_in, tokens_out, tokens_in, tokens_out, cost, cost)


def _steps_of(row: Row) -> Steps | UnsetType:
    if not row.steps_total:
        return UNSET
    return Steps(row.steps_total, row.steps_ended, row.steps_failed, row.current_step)


def _input_of(row: Row) -> dict[str, Any]:
    """Without the definition of a goal, which is long and made of the rest. Its first event has it."""
    if row.kind != GOAL or DEFINITION not in row.input:
        return row.input
    return {name: value for name, value in row.input.items() if name != DEFINITION}


def summary_of(row: Row) -> TaskSummary:
    return TaskSummary(
        task_id=row.task_id,
        workflow_id=row.task_id,
        query=row.query,
        status=STATUS_PREFIX + row.status,
        state=row.state,
        mode=f"EXECUTION_MODE_{row.mode.upper()}",
        kind=row.kind,
        queue=row.queue,
        priority=row.priority,
        session_id=row.session_id,
        tags=row.tags,
        attempt=row.attempt,
        created_at=row.created_at,
        name=row.name or UNSET,
        started_at=row.started_at or UNSET,
        completed_at=row.completed_at or UNSET,
        progress=UNSET if row.progress is None else row.progress,
        steps=_steps_of(row),
        error=row.error or UNSET,
        total_token_usage=usage_of(row) if row.total_tokens or row.cost_usd else UNSET,
    )


def status_of(row: Row) -> TaskStatus:
    return TaskStatus(
        task_id=row.task_id,
        workflow_id=row.task_id,
        status=STATUS_PREFIX + row.status,
        state=row.state,
        kind=row.kind,
        queue=row.queue,
        priority=row.priority,
        query=row.query,
        session_id=row.session_id,
        user_id=row.user_id,
        mode=row.mode,
        input=_input_of(row),
        context=row.context,
        metadata=row.metadata,
        tags=row.tags,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        version=row.version,
        progress=row.progress or 0.0,
        model_used=row.model_used,
        provider=row.provider,
        usage=usage_of(row),
        is_paused=row.is_paused,
        is_cancelled=row.is_cancelled,
        overdue=row.overdue,
        created_at=row.created_at,
        updated_at=row.updated_at or row.created_at,
        name=row.name or UNSET,
        description=row.description or UNSET,
        assigned_to=row.assigned_to or UNSET,
        result=row.result or UNSET,
        response=UNSET if row.response is None else row.response,
        error=row.error or UNSET,
        error_type=row.error_type or UNSET,
        exit_code=UNSET if row.exit_code is None else row.exit_code,
        progress_message=row.progress_message or UNSET,
        steps=_steps_of(row),
        executor_id=row.executor_id or UNSET,
        queued_at=row.queued_at or UNSET,
        started_at=row.started_at or UNSET,
        completed_at=row.completed_at or UNSET,
        retry_at=row.retry_at or UNSET,
        run_at=row.run_at or UNSET,
        deadline=row.deadline or UNSET,
        output_bytes=row.output_bytes or UNSET,
        trace_id=row.traceparent[3:35] or UNSET,
    )


def control_state_of(row: Row) -> ControlState:
    return ControlState(
        is_paused=row.is_paused,
        is_cancelled=row.is_cancelled,
        # Shannon sets it when the pause is accepted; the moment the task really holds is in its events.
        paused_at=_text(row.paused_at or row.pause_requested_at) if row.is_paused else "",
        pause_reason=row.pause_reason,
        paused_by=row.paused_by,
        cancel_reason=row.cancel_reason,
        cancelled_by=row.cancelled_by,
        state=row.state,
        checkpoint=row.checkpoint,
    )


def attempt_of_seq(seq: int) -> int:
    """Number of the attempt that wrote output chunk ``seq``."""
    return (seq - 1) // OUTPUT_SEQ_SPAN + 1


def _text(at: datetime | None) -> str:
    return "" if at is None else at.isoformat().replace("+00:00", "Z")
