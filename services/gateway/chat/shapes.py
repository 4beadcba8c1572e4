"""The JSON of the chat orchestrator's calls: what they answer."""

from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from taskloom.views.goals.query import GoalView, context_of
from taskloom.views.goals.rows import GoalStep, Trace
from taskloom.views.task_executions.row import Row

NEWEST_TRACES: Final = 10
STATUSES: Final[dict[str, str]] = {
    **dict.fromkeys(("scheduled", "waiting", "ready", "assigned"), "pending"),
    **dict.fromkeys(("running", "retrying", "cancelling"), "running"),
    **dict.fromkeys(("pausing", "paused"), "paused"),
    "completed": "completed",
    **dict.fromkeys(("failed", "timed_out", "cancelled"), "failed"),
}
"""By fine state."""


class StrategyStep(Struct, frozen=True, rename="camel"):
    """``estimatedDuration`` in milliseconds."""

    id: str
    description: str
    type: str
    status: str
    estimated_duration: int


class Strategy(Struct, frozen=True, rename="camel"):
    steps: list[StrategyStep]
    total_steps: int


class Orchestrated(Struct, frozen=True, rename="camel"):
    """``estimatedDuration`` in seconds, that of all steps."""

    task_id: str
    status: str
    strategy: Strategy
    estimated_duration: float
    message: str


class StepStatus(Struct, frozen=True, rename="camel"):
    """``index`` from 0, and ``duration`` in milliseconds, are texts."""

    index: str
    description: str
    status: str
    type: str
    started_at: str | None
    completed_at: str | None
    duration: str | None


class TraceEntry(Struct, frozen=True):
    type: str
    message: str
    timestamp: str


class OrchestrationStatus(Struct, frozen=True, rename="camel"):
    """``progress`` in whole percents, rounded down; ``currentStep`` counts the steps that ended. ``steps`` are those of
    the plan that holds, ``latestTraces`` the newest ten, the newest first."""

    task_id: str
    status: str
    goal: str
    progress: int
    current_step: int
    total_steps: int
    steps: list[StepStatus]
    latest_traces: list[TraceEntry]
    context: dict[str, Any]
    last_error: str | None
    created_at: str
    updated_at: str
    completed_at: str | None


class OrchestrationCancelled(Struct, frozen=True, rename="camel"):
    task_id: str
    status: str
    message: str


class ChatAnswer(Struct, frozen=True, rename="camel", omit_defaults=True):
    """``orchestrated``: the message became the goal ``taskId``; else ``content`` is the answer."""

    id: str
    content: str
    task_id: str
    role: str = "assistant"
    orchestrated: bool = False

    def body(self) -> dict[str, Any]:
        """As it is sent: an answer has no field ``orchestrated``."""
        told = {"id": self.id, "role": self.role, "content": self.content, "taskId": self.task_id}
        return {**told, "orchestrated": True} if self.orchestrated else told


class ChatError(Struct, frozen=True):
    """Every answer of 400 and above of /api/chat/orchestrate; /api/chat answers with the text alone."""

    error: str


def strategy_of(steps: list[GoalStep]) -> Strategy:
    """What is planned; nothing of it has begun."""
    planned = [StrategyStep(each.step_id, each.description, each.type, "pending", each.estimated_ms) for each in steps]
    return Strategy(planned, len(planned))


def seconds_of(strategy: Strategy) -> float:
    """That of all steps, without a fraction where there is none."""
    seconds = sum(step.estimated_duration for step in strategy.steps) / 1000
    return int(seconds) if seconds == int(seconds) else seconds


def status_of(row: Row, view: GoalView) -> OrchestrationStatus:
    goal = view.goal
    return OrchestrationStatus(
        task_id=goal.task_id,
        status=STATUSES[row.state],
        goal=goal.goal,
        progress=goal.progress,
        current_step=goal.current_step,
        total_steps=goal.total_steps,
        steps=[_step(step) for step in view.steps if step.plan == goal.plan],
        latest_traces=[_trace(trace) for trace in view.traces[:NEWEST_TRACES]],
        context=context_of(view),
        last_error=(goal.last_error or row.error or None) if row.failed_at or goal.last_error else None,
        created_at=iso(goal.created_at),
        updated_at=iso(row.updated_at or goal.updated_at),
        completed_at=None if row.completed_at is None else iso(row.completed_at),
    )


def _step(step: GoalStep) -> StepStatus:
    started, ended = step.started_at, step.ended_at
    duration = None if started is None or ended is None else str(round((ended - started).total_seconds() * 1000))
    begun, over = (None if at is None else iso(at) for at in (started, ended))
    return StepStatus(str(step.number), step.description, step.status, step.type, begun, over, duration)


def _trace(trace: Trace) -> TraceEntry:
    return TraceEntry(trace.type, trace.message, iso(trace.at))


def iso(at: datetime) -> str:
    """As JavaScript writes times: milliseconds, in UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
