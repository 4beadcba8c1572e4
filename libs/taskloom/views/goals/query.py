"""Reads of goals. Who asks has looked whose task it is; for the steps and traces its id is enough."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from taskloom.views.goals.rows import Goal, GoalStep, Trace
from taskloom.views.goals.write import GOAL_COLUMNS, STEP_COLUMNS, TRACE_COLUMNS, goal_of, step_of, trace_of
from taskloom.views.reading import Pool, row, rows

GET: Final = f"SELECT {', '.join(GOAL_COLUMNS)} FROM goals WHERE task_id = %(task)s AND tenant_id = %(tenant)s"
STEPS: Final = f"SELECT {', '.join(STEP_COLUMNS)} FROM goal_steps WHERE task_id = %(task)s ORDER BY plan, number"
TRACES: Final = f"""
SELECT {", ".join(TRACE_COLUMNS)} FROM goal_traces
WHERE task_id = %(task)s AND (%(before)s::bigint IS NULL OR number < %(before)s::bigint)
ORDER BY number DESC LIMIT %(limit)s
"""


class GoalView(Struct, frozen=True):
    """A goal, the steps of all its plans in their order, and its newest traces, newest first."""

    goal: Goal
    steps: list[GoalStep]
    traces: list[Trace]


async def get(pool: Pool, tenant_id: str, task_id: str, *, traces: int) -> GoalView | None:
    """The goal with up to ``traces`` traces; None when it is unknown, another tenant's, or no goal."""
    found = await row(pool, GET, {"task": task_id, "tenant": tenant_id})
    if found is None:
        return None
    steps = await rows(pool, STEPS, {"task": task_id})
    return GoalView(goal_of(found), [step_of(each) for each in steps], await newest_traces(pool, task_id, limit=traces))


async def newest_traces(pool: Pool, task_id: str, *, limit: int, before: int | None = None) -> list[Trace]:
    """Newest first, those with a number below ``before``."""
    if not limit:
        return []
    found = await rows(pool, TRACES, {"task": task_id, "before": before, "limit": limit})
    return [trace_of(each) for each in found]


def context_of(view: GoalView) -> dict[str, Any]:
    """What the goal's models are told of what was found so far: summary, findings by step, results of tools, and the
    messages before the goal. Findings and results that were summed up are part of the summary."""
    since = [step for step in view.steps if step.ended > view.goal.summarized and step.status == "completed"]
    return {
        "summary": view.goal.summary,
        "findings": {step.description or step.step_id: step.text for step in since if step.text},
        "toolResults": [
            {"toolName": f"{call['server']}.{call['tool']}", "result": call.get("result")}
            for step in since
            for call in step.calls
        ],
        "messageHistory": msgspec.to_builtins(view.goal.asked.get("history", [])),
    }
