"""Goals natively: their plans with steps, context, usage and traces, now or then; and tasks as jobs of a queue."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, structs

from services.gateway.problems import Conflict, NotFound
from services.gateway.read import Reader, moment_of
from services.gateway.security import Caller
from taskloom.domain.ids import is_task_id
from taskloom.views.goals.fold import KIND, fold_all
from taskloom.views.goals.query import GoalView, context_of
from taskloom.views.goals.rows import Goal, GoalCheckpoint, GoalStep, Plan, Trace
from taskloom.views.task_executions.fold import fold_all as fold_row
from taskloom.views.task_executions.row import Row

_JOB_OF_STEP: Final = re.compile(r"(.+)-(?:step|continue)-(\d{1,6})")
_JOB_STATES: Final = {
    "scheduled": "delayed",
    "waiting": "waiting-children",
    "ready": "waiting",
    "assigned": "waiting",
    "running": "active",
    "cancelling": "active",
    "retrying": "delayed",
    "pausing": "active",
    "paused": "paused",
    "completed": "completed",
}
_STEP_STATES: Final = {"pending": "waiting", "running": "active", "completed": "completed"}


class GoalQuery(Struct, frozen=True):
    as_of: Annotated[str, Meta(description="A version or RFC 3339 time: the goal as it was then")] = ""
    traces: Annotated[int, Meta(ge=0, le=1000, description="Most traces, the newest first")] = 50


class GoalUsage(Struct, frozen=True):
    """What its calls of models took, those of goals within it too, and how many calls there were."""

    input_tokens: int
    output_tokens: int
    cost_usd: float
    model_calls: int
    tool_calls: int


class PlanShown(Struct, frozen=True):
    """One version of the plan, with what became of its steps."""

    version: int
    at: datetime
    by: str
    reason: str
    model: str
    steps: list[GoalStep]


class GoalShown(Struct, frozen=True):
    """``state`` is the task's. ``plan`` is the version that holds, 0 before the first; ``progress`` and the counts of
    steps are that plan's. ``achieved`` is null until the goal is settled."""

    task_id: str
    state: str
    goal: str
    asked: dict[str, Any]
    plan: int
    plans: list[PlanShown]
    progress: int
    current_step: int
    total_steps: int
    estimated_completion_at: datetime | None
    context: dict[str, Any]
    usage: GoalUsage
    model_used: str
    checkpoints: tuple[GoalCheckpoint, ...]
    achieved: bool | None
    last_error: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    traces: list[Trace]


class Job(Struct, frozen=True):
    """``state``: waiting, waiting-children, delayed, active, paused, completed or failed. ``progress`` in percent."""

    id: str
    task_id: str
    state: str
    progress: int
    result: Any = None
    failed_reason: str | None = None


async def with_goal(reader: Reader, caller: Caller, row: Row, as_of: str = "") -> Row:
    """The row of a goal with its usage, the model that was asked last and its progress, all as of that moment; other
    rows as they are. Sums over tasks never take them: there every call of a model counts as the task that it is.

    Raises:
        NotFound, BadRequest: as ``Reader.history``.
    """
    if row.kind != KIND:
        return row
    moment = moment_of(as_of)
    if moment is None:
        view = await reader.views.goal(caller.tenant_id, row.task_id, traces=0)
        goal = None if view is None else view.goal
    else:
        folded = fold_all(await reader.history(caller, row.task_id, moment))
        goal = None if folded is None else folded.goal
    if goal is None:
        return row
    return structs.replace(
        row,
        input_tokens=goal.input_tokens,
        output_tokens=goal.output_tokens,
        cost_usd=goal.cost_usd,
        model_used=goal.model_used,
        progress=goal.progress / 100,
    )


async def goal_shown(reader: Reader, caller: Caller, task_id: str, query: GoalQuery) -> GoalShown:
    """The goal, now or then.

    Raises:
        NotFound: unknown, another tenant's, or nothing had happened yet.
        Conflict: the task is no goal.
        BadRequest: ``as_of`` is no moment.
    """
    moment = moment_of(query.as_of)
    if moment is None:
        row = await reader.row(caller, task_id)
        view = await reader.views.goal(caller.tenant_id, task_id, traces=query.traces) if row.kind == KIND else None
    else:
        history = await reader.history(caller, task_id, moment)
        folded, then = fold_all(history), fold_row(history)
        assert then is not None
        row, view = then, None
        if folded is not None:
            steps = sorted(folded.steps.values(), key=lambda step: (step.plan, step.number))
            view = GoalView(folded.goal, steps, folded.traces[::-1][: query.traces])
    if view is None:
        raise Conflict("the task is no goal", task_id=task_id)
    return shown_of(row, view)


def shown_of(row: Row, view: GoalView) -> GoalShown:
    goal = view.goal
    used = GoalUsage(goal.input_tokens, goal.output_tokens, goal.cost_usd, goal.model_calls, goal.tool_calls)
    return GoalShown(
        task_id=goal.task_id,
        state=row.state,
        goal=goal.goal,
        asked=goal.asked,
        plan=goal.plan,
        plans=[_plan(plan, view.steps) for plan in goal.plans],
        progress=goal.progress,
        current_step=goal.current_step,
        total_steps=goal.total_steps,
        estimated_completion_at=_estimate(goal, view.steps),
        context=context_of(view),
        usage=used,
        model_used=goal.model_used,
        checkpoints=goal.checkpoints,
        achieved=goal.achieved,
        last_error=goal.last_error,
        created_at=goal.created_at,
        updated_at=goal.updated_at,
        ended_at=goal.ended_at,
        traces=view.traces,
    )


def _plan(plan: Plan, steps: list[GoalStep]) -> PlanShown:
    own = [step for step in steps if step.plan == plan.version]
    return PlanShown(plan.version, plan.at, plan.by, plan.reason, plan.model, own)


def _estimate(goal: Goal, steps: list[GoalStep]) -> datetime | None:
    """When the rest of the plan will have taken as long as was planned; None for a goal without a plan, or ended."""
    if goal.ended_at is not None or not goal.plan:
        return None
    left = [step for step in steps if step.plan == goal.plan and step.status in ("pending", "running")]
    return goal.updated_at + timedelta(milliseconds=sum(step.estimated_ms for step in left))


async def job(reader: Reader, caller: Caller, job_id: str) -> Job:
    """A task, or a step of a goal (``<task>-step-<number from 0>``, or ``-continue-``), as a job of a queue.

    Raises:
        NotFound: there is no such task, or no such step in the plan that holds.
    """
    of_step = _JOB_OF_STEP.fullmatch(job_id)
    if is_task_id(job_id):
        try:
            return await _of_task(reader, caller, job_id)
        except NotFound:
            if of_step is None:
                raise
    if of_step is None or not is_task_id(of_step[1]):
        raise NotFound("Job not found", job_id=job_id)
    return await _of_step(reader, caller, of_step[1], int(of_step[2]), job_id)


async def _of_task(reader: Reader, caller: Caller, task_id: str) -> Job:
    row = await reader.with_values(await reader.row(caller, task_id))
    result = row.result if row.response is None else row.response
    progress = 100 if row.state == "completed" else round(100 * (row.progress or 0.0))
    reason = (row.error or row.cancel_reason or row.state) if row.failed_at else None
    return Job(task_id, task_id, _JOB_STATES.get(row.state, "failed"), progress, result or None, reason)


async def _of_step(reader: Reader, caller: Caller, task_id: str, number: int, job_id: str) -> Job:
    row = await reader.row(caller, task_id)
    view = await reader.views.goal(caller.tenant_id, task_id, traces=0) if row.kind == KIND else None
    steps = [] if view is None else [step for step in view.steps if step.plan == view.goal.plan]
    if number >= len(steps):
        raise NotFound("Job not found", job_id=job_id)
    step = steps[number]
    state = _STEP_STATES.get(step.status, "failed")
    done = step.status == "completed"
    result = {"text": step.text, "toolCalls": msgspec.to_builtins(step.calls)} if done else None
    reason = (step.error or step.status) if state == "failed" else None
    return Job(job_id, task_id, state, 100 if done else 0, result, reason)
