"""The step kind ``goal``: hands how the step before it ended to the goal's rules, and takes down what they decide."""

from contextlib import suppress
from typing import Any

from taskloom.domain.goals.acts import ACTS, NOTHING
from taskloom.domain.goals.outcomes import Outcome
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import definition as d
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow.draft import within
from taskloom.domain.workflow.expressions import BadExpression
from taskloom.domain.workflow.happenings import ChildEnded
from taskloom.domain.workflow.scope import Scope
from taskloom.domain.workflow.state import Node
from taskloom.domain.workflow.stopping import fail
from taskloom.domain.workflow.values import Ref, ref_of
from taskloom.domain.workflow.work import Work


def act(work: Work, node: Node, step: d.GoalStep) -> None:
    """The act happens, and the step completes; or fails, when the goal does."""
    goal = work.d.goal
    if goal is None:
        raise BadExpression("a goal's steps stand only in the definition that a goal is given")
    decision = ACTS[step.act](goal, node.path, _told(work, node, step.of))
    for event in decision.events:
        work.emit(event)
    if decision.error is not None:
        fail(work, work.d.nodes[node.path], decision.error)
    else:
        work.emit(e.StepCompleted(node.path))


def with_text(ended: ChildEnded) -> Any:
    """The answer of a goal's task with what it says to people: for a command that is its output."""
    answer = ended.result
    if not ended.text or not isinstance(answer, dict) or "text" in answer or ref_of(answer) is not None:
        return answer
    return {**answer, "text": ended.text}


def _told(work: Work, node: Node, of: str) -> Outcome:
    """How the step ``of`` in the same body ended."""
    before = work.d.nodes.get(within(node.frame, of)) if of else None
    if before is None or not before.ended:
        return NOTHING
    if before.plan.kind == "map":
        return _items(work, node, before.result)
    if before.status != "completed":
        return Outcome(error=before.error or ErrorInfo("Failed", before.doomed or before.status, retryable=False))
    took = 0 if before.since is None else max(0, int((work.now - before.since).total_seconds() * 1000))
    return _opened(work, node, before.result, took)


def _items(work: Work, node: Node, result: Any) -> Outcome:
    if not isinstance(result, dict):
        return NOTHING
    errors = {
        one["index"]: ErrorInfo(one.get("type", "Failed"), one["error"], one.get("retryable", False))
        for one in result["errors"]
    }
    ends = enumerate(result["results"])
    return Outcome(
        items=tuple(Outcome(error=errors[at]) if at in errors else _opened(work, node, one) for at, one in ends)
    )


def _opened(work: Work, node: Node, result: Any, took: int = 0) -> Outcome:
    """A large result that nobody has any more, or that is too large to be looked at, is told of by its claim alone."""
    if not isinstance(result, Ref):
        return Outcome(result, duration_ms=took)
    value = None
    with suppress(BadExpression):
        value = Scope(work.d, node.frame, node.plan.id, work.means.values).opened(result)
    return Outcome(value, result, duration_ms=took)
