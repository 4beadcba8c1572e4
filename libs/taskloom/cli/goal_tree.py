"""A goal as a tree: its plans, and how each of their steps is."""

from datetime import UTC, datetime
from typing import Final

from rich.text import Text
from rich.tree import Tree

from taskloom.cli.show import span_text, state_text
from taskloom.cli.waterfall import first_line
from taskloom.client.goal_answers import Goal, GoalPlan, GoalStep

TITLE_CHARS: Final = 60
TRACES: Final = 3
_MARKS: Final = {"pending": "○", "running": "▶", "completed": "✓", "failed": "✗", "skipped": "–"}


def goal_tree(goal: Goal, now: datetime | None = None) -> Tree:
    """``now`` measures what has not ended; by default it is the time of drawing."""
    now = now or datetime.now(UTC)
    title = first_line(goal.goal)
    title = title if len(title) <= TITLE_CHARS else f"{title[: TITLE_CHARS - 1]}…"
    done = f"  {goal.current_step}/{goal.total_steps} steps, {goal.progress} %"
    tree = Tree(Text.assemble((title, "bold"), "  ", state_text(goal.state), done), guide_style="dim")
    for plan in goal.plans:
        several = len(goal.plans) > 1
        branch = tree.add(_plan_text(plan)) if several else tree
        if not several or plan.version == goal.plan:
            for step in plan.steps:
                branch.add(_step_text(step, goal, now))
        else:
            for step in (each for each in plan.steps if each.started_at is not None):
                branch.add(_step_text(step, goal, now))
    if not goal.plans:
        tree.add(Text("no plan yet", "dim"))
    if goal.ended_at is None:
        for trace in reversed(goal.traces[:TRACES]):
            tree.add(Text(f"{trace.type}: {first_line(trace.message)}", "dim"))
    if goal.last_error and goal.ended_at is not None:
        tree.add(Text(first_line(goal.last_error), "red"))
    tree.add(Text(_usage(goal), "dim"))
    return tree


def _plan_text(plan: GoalPlan) -> Text:
    why = f": {first_line(plan.reason)}" if plan.reason else ""
    return Text(f"plan {plan.version} by {plan.by}{why}", "dim")


def _step_text(step: GoalStep, goal: Goal, now: datetime) -> Text:
    style = state_text(step.status).style or "dim"
    tool = f"  {step.server}.{step.tool}" if step.tool else ""
    told = Text.assemble(
        (f"{_MARKS.get(step.status, '?')} ", style),
        (first_line(step.description or step.step_id), style if step.status != "pending" else "dim"),
        (f"{tool or f'  {step.type}'}", "dim"),
    )
    if step.started_at is not None:
        told.append(f"  {span_text(step.started_at, step.ended_at or goal.ended_at or now)}", "dim")
    if step.error:
        told.append(f"  {first_line(step.error)}", "red")
    return told


def _usage(goal: Goal) -> str:
    used = goal.usage
    calls = f"{used.model_calls} calls of models, {used.tool_calls} of tools"
    tokens = f"{used.input_tokens + used.output_tokens} tokens, {used.cost_usd:.4f} USD"
    return f"{calls}; {tokens}" + (f"; {goal.model_used}" if goal.model_used else "")
