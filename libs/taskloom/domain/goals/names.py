"""What the expressions of a goal's own definition can ask about it, as ``goal.works`` or ``goal.current.tasks``."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from taskloom.domain.goals import asks, progress
from taskloom.domain.goals.plans import PlannedStep
from taskloom.domain.goals.references import BadReference, resolved
from taskloom.domain.goals.state import Current, GoalState
from taskloom.domain.goals.texts import as_text, cut, tokens_of
from taskloom.domain.goals.tools import refusal_of_resolved, task_of
from taskloom.domain.runs import GOAL

LLM_RETRY: Final = {"max_attempts": 5, "initial_s": 5.0, "factor": 2.0, "max_s": 60.0}
_SINGLE: Final = frozenset({"llm-reasoning", "summarization", "sub-goal"})


class GoalNames(Mapping[str, Any]):
    """Worked out when it is asked for, once. ``opened`` gives the value that the claim of a large result stands for."""

    def __init__(self, state: GoalState, opened: Callable[[Any], Any]) -> None:
        self._state, self._opened = state, opened
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._value(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in _NAMES or name == "task"

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(_NAMES))

    def __len__(self) -> int:
        return len(_NAMES)

    def _value(self, name: str) -> Any:
        if name == "task":
            return _task(self._state, self._opened)
        return _NAMES[name](self._state)


def works(state: GoalState) -> bool:
    """A step can begin, or the one under way goes on."""
    going = progress.evaluate_progress(state).should_continue and state.failure is None
    return going and (state.current is not None or state.next is not None)


def wants_plan(state: GoalState) -> bool:
    return progress.evaluate_progress(state).should_continue and (not state.planned or state.failure is not None)


def crowded(state: GoalState) -> bool:
    """The context is so large that it has to be summed up before the next call, and there is something to sum up."""
    if state.current is not None or not (state.findings or state.tool_results or state.history):
        return False
    return progress.should_summarize(tokens_of(state.context), state.given.context_window, state.given.summarize_at)


def _asks(state: GoalState) -> bool:
    return wants_plan(state) and not _is_given(state)


def _is_given(state: GoalState) -> bool:
    return not state.planned and state.given.beforehand is not None


def _wants_detect(state: GoalState) -> bool:
    return _asks(state) and not state.planned and state.given.detect


def _wants_review(state: GoalState) -> bool:
    """A plan is looked at before anything of it is done, and not once more when a reviewer wrote it."""
    begun = state.index > 0 or state.current is not None or state.failure is not None
    return state.given.review and state.planned and not begun and state.by != "reviewer" and works(state)


def _checkpoint_due(state: GoalState) -> bool:
    done = len(state.done)
    return done > 0 and done % state.given.checkpoint_interval == 0 and state.failure is None


def _reports(state: GoalState) -> bool:
    """Several steps are told of together; one alone has said what there is to say."""
    several = sum(record.plan == state.version for record in state.done) > 1
    return progress.is_achieved(state) and several and not progress.over_budget(state) and state.settled is None


def _current(state: GoalState) -> dict[str, Any]:
    current = state.current
    if current is None:
        return {"id": "", "single": False, "open": False, "talks": False, "tasks": []}
    step = current.step
    return {
        "id": step.id,
        "single": step.type in _SINGLE or bool(step.tool),
        "open": step.type == "tool-call" and not step.tool,
        "talks": talks(state, current),
        "tasks": [
            task_of(state.given, call.server, call.tool, call.args) for call in current.pending if not call.refused
        ],
    }


def talks(state: GoalState, current: Current) -> bool:
    """The model has another turn: at most one more than rounds of tools."""
    over = current.answered or current.fault is not None or current.round > state.given.max_tool_rounds
    return not over and not progress.over_budget(state)


def _task(state: GoalState, opened: Callable[[Any], Any]) -> dict[str, Any]:
    """Fields of the one task that the step under way is."""
    current = state.current
    if current is None:
        raise KeyError("task")
    usual: dict[str, Any] = {"executor_id": None, "query": "", "name": "", "budget": None, "queue": state.given.queue}
    return {**usual, **_fields(state, current.step, opened)}


def _fields(state: GoalState, step: PlannedStep, opened: Callable[[Any], Any]) -> dict[str, Any]:
    if step.type == "sub-goal":
        fields = {"kind": GOAL, "input": _sub_goal(state, step), "retry": {"max_attempts": 1}, "name": step.id}
        return {**fields, "budget": progress.budget_left(state)}
    if step.type != "tool-call":
        op = "summarize" if step.type == "summarization" else "reason"
        fields = {"kind": "llm", "input": asks.ask(state, op), "retry": LLM_RETRY, "name": f"{op} {step.id}"}
        return {**fields, "budget": progress.budget_left(state)}
    args = resolved(state, step.args, opened)
    if refused := refusal_of_resolved(state.given, step.server, step.tool, args):
        raise BadReference(refused)
    return task_of(state.given, step.server, step.tool, args)


def _sub_goal(state: GoalState, step: PlannedStep) -> dict[str, Any]:
    """What the goal may do its part may do as well, and nothing else."""
    given = state.given
    known = {"summary": state.summary, "findings": dict(state.findings)} if state.summary or state.findings else None
    return {
        "goal": step.goal,
        "model": {**asks.ask(state, "detect")["model"]},
        "tools": asks.tools_of(given.tools),
        "agent_id": given.agent_id,
        "review": given.review,
        "max_steps": given.max_steps,
        "max_plans": given.max_plans,
        "max_tool_rounds": given.max_tool_rounds,
        "checkpoint_interval": given.checkpoint_interval,
        "context_window": given.context_window,
        "summarize_at": given.summarize_at,
        "history": [] if known is None else [{"role": "assistant", "content": cut(as_text(known))}],
        "depth": given.depth + 1,
    }


def _plan_text(state: GoalState) -> str:
    """The plan for people to decide on."""
    lines = [
        f"{at}. [{step.type}] {step.description or step.goal}{_tool(step)}" for at, step in enumerate(state.steps, 1)
    ]
    return cut("\n".join((f"Goal: {cut(state.given.goal, 2_000)}", *lines)), 15 * 1024)


def _tool(step: PlannedStep) -> str:
    return f" ({step.server}/{step.tool} {cut(as_text(step.args), 500)})" if step.tool else ""


def answer(state: GoalState) -> str:
    """The report, else the last step's words."""
    said = (record.text for record in reversed(state.done) if record.text and record.status == "completed")
    return state.answer or next(said, "")


def _steps(state: GoalState) -> list[dict[str, Any]]:
    return [
        {
            "plan": record.plan,
            "id": record.step.id,
            "description": record.step.description,
            "type": record.step.type,
            "status": record.status,
            "error": record.error,
        }
        for record in state.done
    ]


def _usage(state: GoalState) -> dict[str, Any]:
    total = state.total
    return {"input_tokens": total.input_tokens, "output_tokens": total.output_tokens, "cost_usd": total.cost_usd}


def _findings(state: GoalState) -> dict[str, str]:
    return {
        f"{record.plan}/{record.step.id}: {record.step.description}": record.text
        for record in state.done
        if record.text and record.status == "completed"
    }


def _tokens_left(state: GoalState) -> int | None:
    return (progress.budget_left(state) or {}).get("tokens")


_NAMES: Final[dict[str, Callable[[GoalState], Any]]] = {
    "text": lambda state: state.given.goal,
    "settled": lambda state: state.settled is not None,
    "version": lambda state: state.version,
    "context": lambda state: state.context,
    "tokens": lambda state: tokens_of(state.context),
    "tokens_left": _tokens_left,
    "budget_left": progress.budget_left,
    "failure": lambda state: None if state.failure is None else state.failure.fault.message,
    "next": lambda state: None if state.next is None else state.next.id,
    "works": works,
    "wants_plan": wants_plan,
    "wants_detect": _wants_detect,
    "asks": _asks,
    "is_given": lambda state: wants_plan(state) and _is_given(state),
    "wants_review": _wants_review,
    "plan_text": _plan_text,
    "crowded": crowded,
    "checkpoint_due": _checkpoint_due,
    "reports": _reports,
    "current": _current,
    "ask_detect": lambda state: asks.ask(state, "detect"),
    "ask_plan": lambda state: asks.ask(state, "plan"),
    "ask_summary": lambda state: asks.ask(state, "summarize"),
    "ask_turn": lambda state: asks.ask(state, "turn"),
    "ask_report": lambda state: asks.ask(state, "report"),
    "answer": answer,
    "queue": lambda state: state.given.queue,
    "steps": _steps,
    "plans": lambda state: state.version,
    "usage": _usage,
    "findings": _findings,
}
