"""A workflow's run as a tree: all steps of its definition, those that have not begun too."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from taskloom.cli.show import state_text
from taskloom.cli.waterfall import first_line
from taskloom.client import Run, RunStep, Task
from taskloom.domain.workflow.references import definition_in

_BODIES: Final = ("steps", "sub_steps", "true_steps", "false_steps", "loop_steps")
_BRANCHES: Final = {"true_steps": "if so", "false_steps": "if not"}
_MARKS: Final = {
    "": "○",
    "ready": "○",
    "running": "▶",
    "waiting": "◷",
    "completed": "✓",
    "failed": "✗",
    "cancelled": "✗",
    "skipped": "–",
}
_ENDS: Final = frozenset({"completed", "failed", "cancelled", "timed_out"})
_Steps = Mapping[str, RunStep]


def run_tree(task: Task, run: Run) -> Tree:
    """``task`` is the run's own, whose input has the definition; a goal shows none, and its steps are in a row."""
    definition = _definition(task.input or {})
    title = Text.assemble(
        (task.name or definition.get("name", ""), "bold"), "  ", state_text(run.status), f"  {run.progress:.0f} %"
    )
    tree = Tree(title, guide_style="dim")
    over = RunStep("", "skipped", "") if run.status in _ENDS else None
    if not definition:
        for step in run.steps:
            tree.add(_label({"id": step.path, "step_type": "task"}, step, ""))
    _grow(tree, definition.get("steps", ()), "", {step.path: step for step in run.steps}, over)
    return tree


def _definition(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it was sent, or as the stored workflow was when the run began; empty for what is no workflow."""
    try:
        return definition_in(given)
    except (LookupError, TypeError):
        return {}


def _grow(
    tree: Tree, steps: Iterable[Mapping[str, Any]], frame: str, seen: _Steps, absent: RunStep | None, word: str = ""
) -> None:
    for step in steps:
        path = f"{frame}.{step['id']}" if frame else step["id"]
        found, inner = seen.get(path, absent), path
        note = word
        if step["step_type"] == "loop" and (number := _latest_round(path, seen)):
            inner, note = f"{path}.{number}", f"round {number}"
        elif step["step_type"] == "loop" and found is not None and found.status == "completed":
            absent = found  # its rounds are over, and the last one is not kept
        branch = tree.add(_label(step, found, note))
        for body in _BODIES:
            if step.get(body):
                _grow(branch, step[body], inner, seen, absent, _BRANCHES.get(body, ""))


def _latest_round(path: str, seen: _Steps) -> int:
    """Number of the round that runs, 0 for none."""
    tails = (other.removeprefix(f"{path}.").partition(".")[0] for other in seen if other.startswith(f"{path}."))
    return max((int(tail) for tail in tails if tail.isdecimal()), default=0)


def _label(step: Mapping[str, Any], found: RunStep | None, note: str) -> Text:
    status = "" if found is None else found.status
    name = str(step.get("name") or step["id"])
    template = step.get("task_template") or {}
    kind = "" if step["step_type"] == "task" else f"  {step['step_type']}"
    mark, style = _MARKS.get(status, "?"), state_text(status).style or "dim"
    told = Text.assemble((f"{mark} ", style), (name, style if status else "dim"), (kind, "dim"))
    if (title := template.get("name")) and title != name:
        told.append(f"  {title}", "dim")
    if note:
        told.append(f"  ({note})", "dim")
    if found is not None and found.error:
        told.append(f"  {first_line(found.error)}", "red")
    return told
