"""What each act of a goal's definition decides: the events that follow from how the step before it ended. Pure."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from taskloom.domain.goals import events as g
from taskloom.domain.goals import progress
from taskloom.domain.goals.checking import check_plan, fallback
from taskloom.domain.goals.names import answer
from taskloom.domain.goals.outcomes import Outcome, made_calls, summed_up, text_of, usage_of
from taskloom.domain.goals.plans import PlannedBy, PlannedStep
from taskloom.domain.goals.state import Current, GoalState, refused_call
from taskloom.domain.goals.texts import as_text, cut, cut_value, result_limit, text_limit, tokens_of
from taskloom.domain.goals.tools import MAX_CALLS, is_idempotent, refusal, result_of
from taskloom.domain.values import ErrorInfo, Usage

NOTHING: Final = Outcome()


class Decision(Struct, frozen=True):
    """``error``: the act fails, and with it what it is part of."""

    events: tuple[g.GoalEvent, ...] = ()
    error: ErrorInfo | None = None


def _plan(state: GoalState, path: str, told: Outcome) -> Decision:
    """The proposal, mended; one step of reasoning where nothing is left of it."""
    given, limit = state.given, _steps_left(state)
    failed = "" if state.failure is None else f"{state.failure.step.id} failed: {state.failure.fault.message}"
    if given.beforehand is not None and not state.planned:
        steps = check_plan(given, given.beforehand, limit).steps or fallback(given)
        return _planned(state, path, steps, "client", failed)
    value = told.value if isinstance(told.value, dict) else {}
    checked = check_plan(given, value.get("steps"), limit)
    notes = told.error.message if told.error is not None else checked.reason
    reason = cut("; ".join(part for part in (failed, notes) if part), 2_000)
    if not checked.steps:
        return _planned(state, path, fallback(given), "fallback", reason or "no step was proposed", value)
    return _planned(state, path, checked.steps, _author(value), reason, value)


def _steps_left(state: GoalState) -> int:
    return max(1, state.given.max_steps - state.steps_begun)


def _author(value: dict[str, Any]) -> PlannedBy:
    return "rules" if value.get("model_used") == "taskloom-offline" else "model"


def _planned(
    state: GoalState,
    path: str,
    steps: tuple[PlannedStep, ...],
    by: PlannedBy,
    reason: str,
    value: Any = None,
) -> Decision:
    model = as_text(value.get("model_used"))[:256] if isinstance(value, dict) else ""
    return Decision((g.GoalPlanned(path, state.version + 1, steps, by, reason, model, usage_of(value)),))


def _detect(state: GoalState, path: str, told: Outcome) -> Decision:
    """A goal that needs no orchestration is one step; so is one that nobody could say it of."""
    value = told.value if isinstance(told.value, dict) else {}
    if value.get("orchestrate") is True:
        return Decision()
    return _planned(state, path, fallback(state.given), "rules", "one step is enough for it", value)


def _review(state: GoalState, path: str, told: Outcome) -> Decision:
    """The plan as its reviewer edited it; ``reviewing`` has looked at it when the decision came in."""
    answer = told.value if isinstance(told.value, dict) else {}
    edited = answer.get("modified_action")
    if not isinstance(edited, dict) or "steps" not in edited:
        return Decision()
    steps = check_plan(state.given, edited["steps"], _steps_left(state)).steps
    return _planned(state, path, steps, "reviewer", cut(as_text(answer.get("comment")), 2_000)) if steps else Decision()


def _begin(state: GoalState, path: str, _told: Outcome) -> Decision:
    """A step that a retry of the run goes on with has begun already."""
    step = state.next
    if step is None or state.current is not None:
        return Decision()
    return Decision((g.GoalStepStarted(path, state.version, state.index, step.id),))


def _calls(state: GoalState, path: str, told: Outcome) -> Decision:
    """The calls of a turn, each of them checked."""
    current = state.current
    if current is None:
        return Decision()
    number = current.round + 1
    if told.error is not None:
        fault = g.StepFault(told.error.type, cut(told.error.message, 2_000))
        return Decision((g.GoalCallsChecked(path, state.version, current.index, number, error=fault),))
    value = told.value if isinstance(told.value, dict) else {"text": text_of(told.value)}
    wanted = value.get("calls")
    last = current.round >= state.given.max_tool_rounds
    calls = _checked(state, wanted, number) if isinstance(wanted, list) and not last else ()
    text = cut(text_of(value), text_limit(state.given.context_window))
    model = as_text(value.get("model_used"))[:256]
    return Decision(
        (g.GoalCallsChecked(path, state.version, current.index, number, calls, text, model, usage_of(value)),)
    )


def _checked(state: GoalState, wanted: Sequence[Any], number: int) -> tuple[g.CheckedCall, ...]:
    calls: list[g.CheckedCall] = []
    used: set[str] = set()
    for place, one in enumerate(wanted[: 2 * MAX_CALLS], 1):
        asked = one if isinstance(one, dict) else {}
        server, tool, args = _name(asked.get("server")), _name(asked.get("tool")), asked.get("args", {})
        call_id = _name(asked.get("id"))
        if not call_id or call_id in used:
            call_id = f"call-{number}-{place}"
        used.add(call_id)
        refused = refusal(state.given, server, tool, args)
        if place > MAX_CALLS:
            refused = f"a turn may have {MAX_CALLS} calls"
        shown = args if isinstance(args, dict) and not refused else {}
        calls.append(g.CheckedCall(call_id, server, tool, shown, refused))
    return tuple(calls)


def _name(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 256 else ""


def _results(state: GoalState, path: str, told: Outcome) -> Decision:
    """How the calls of the round ended; one of which nobody knows whether it was made ends the step."""
    current = state.current
    if current is None:
        return Decision()
    limit = result_limit(state.given.context_window, len(current.pending))
    made, ends = [], iter(told.items)
    error = None
    for call in current.pending:
        if call.refused:
            made.append(refused_call(call))
            continue
        end = next(ends, Outcome(error=ErrorInfo("lost", "its end is not known")))
        made.append(made_calls(call.id, call.server, call.tool, call.args, end, limit))
        error = error or _uncertain(state, call.server, call.tool, call.args, end.error)
    return Decision((g.GoalCallsEnded(path, state.version, current.index, current.round, tuple(made), error),))


def _uncertain(
    state: GoalState, server: str, tool: str, args: dict[str, Any], error: ErrorInfo | None
) -> g.StepFault | None:
    if error is None or not progress.is_uncertain(error) or is_idempotent(state.given, server, tool, args):
        return None
    verdict = progress.handle_tool_failure(f"{server}/{tool}", error.type, 1, idempotent=False)
    return g.StepFault(error.type, cut(f"{verdict.reason}: {error.message}", 2_000), uncertain=True)


def _end(state: GoalState, path: str, told: Outcome) -> Decision:
    """The step under way is over."""
    current = state.current
    if current is None:
        return Decision()
    step = current.step
    if step.type == "checkpoint":
        return _ended(state, path, "completed")
    if step.type == "tool-call" and not step.tool:
        return _talked(state, path, current)
    if step.type == "tool-call":
        return _called_once(state, path, step, told)
    if told.error is not None:
        uncertain = told.error.details.get("uncertain") is True
        fault = g.StepFault(told.error.type, cut(told.error.message, 2_000), uncertain)
        return _ended(state, path, "failed", error=fault)
    text = cut(text_of(told.value), text_limit(state.given.context_window))
    model = as_text(told.value.get("model_used"))[:256] if isinstance(told.value, dict) else ""
    usage = usage_of(told.value)
    if step.type == "summarization":
        summary = g.GoalSummarized(path, text, tokens_of(state.context), tokens_of(text))
        return Decision((summary, *_ended(state, path, "completed", usage=usage, model=model).events))
    whole = told.value if step.type == "sub-goal" and told.stored is None else text
    return _ended(state, path, "completed", text=text, usage=usage, model=model, result=whole, stored=told.stored)


def _ended(state: GoalState, path: str, status: Any, **fields: Any) -> Decision:
    current = state.current
    assert current is not None
    return Decision((g.GoalStepEnded(path, state.version, current.index, current.step.id, status, **fields),))


def _talked(state: GoalState, path: str, current: Current) -> Decision:
    made = [call for calls in current.exchange for call in calls]
    limit = result_limit(state.given.context_window, len(made))
    calls = tuple(_shortened(call, limit) for call in made)
    fault = current.fault
    if fault is None and not current.answered:
        spent = progress.over_budget(state)
        why = spent or f"the model gave no answer after {state.given.max_tool_rounds} rounds of tools"
        fault = g.StepFault("BudgetExceeded" if spent else "NoAnswer", why)
    about = {"calls": calls, "usage": current.usage, "model": current.model}
    if fault is not None:
        return _ended(state, path, "failed", error=fault, **about)
    return _ended(state, path, "completed", text=current.text, result=current.text, **about)


def _shortened(call: g.MadeCall, limit: int) -> g.MadeCall:
    return g.MadeCall(
        *(call.id, call.server, call.tool, _short_args(call.args), call.status),
        *(cut_value(call.result, limit), cut(call.error, limit), call.duration_ms),
    )


def _short_args(args: dict[str, Any]) -> dict[str, Any]:
    shown = cut_value(args, 4 * 1024)
    return shown if isinstance(shown, dict) else {"cut": shown}


def _called_once(state: GoalState, path: str, step: PlannedStep, told: Outcome) -> Decision:
    limit = result_limit(state.given.context_window, 1)
    call = made_calls(step.id, step.server, step.tool, _short_args(step.args), told, limit)
    if told.error is not None:
        fault = _uncertain(state, step.server, step.tool, step.args, told.error)
        fault = fault or g.StepFault(told.error.type, cut(told.error.message, 2_000))
        return _ended(state, path, "failed", calls=(call,), error=fault)
    result = result_of(step.server, step.tool, told.value)
    text = cut(as_text(result), text_limit(state.given.context_window))
    whole = None if told.stored is not None else result
    return _ended(state, path, "completed", text=text, calls=(call,), result=whole, stored=told.stored)


def _summary(state: GoalState, path: str, told: Outcome) -> Decision:
    """What the model made of it; when it made nothing, the beginnings of what was found."""
    text = text_of(told.value) if told.error is None else ""
    text = cut(text or summed_up(state), text_limit(state.given.context_window))
    return Decision((g.GoalSummarized(path, text, tokens_of(state.context), tokens_of(text), usage_of(told.value)),))


def _settle(state: GoalState, path: str, told: Outcome) -> Decision:
    """The goal is over when it was achieved, or when nothing is left to try; else it goes on."""
    if state.settled is not None:
        return Decision()
    judged = progress.evaluate_progress(state)
    if progress.is_achieved(state):
        text = (cut(text_of(told.value)) if told.error is None else "") or answer(state)
        return Decision((g.GoalSettled(path, True, "All steps completed", text, usage_of(told.value)),))
    if judged.should_continue:
        return Decision()
    error = _why(state, judged.reason)
    return Decision((g.GoalSettled(path, False, error.message),), error)


def _why(state: GoalState, reason: str) -> ErrorInfo:
    spent = progress.over_budget(state)
    failure = state.failure
    if failure is not None and (failure.fault.uncertain or not spent):
        about = f"{failure.step.id} of plan {state.version}: {failure.fault.message}"
        details = {"uncertain": True} if failure.fault.uncertain else {"reason": reason}
        kind = "BudgetExceeded" if failure.fault.type == "budget_exceeded" else failure.fault.type
        return ErrorInfo(kind, about, retryable=False, details=details)
    kind = "BudgetExceeded" if spent else "TooManySteps"
    return ErrorInfo(kind, f"{reason}; {progress.task_summary(state, 'stopped')}", retryable=False)


ACTS: Final[dict[str, Callable[[GoalState, str, Outcome], Decision]]] = {
    "plan": _plan,
    "detect": _detect,
    "review": _review,
    "begin": _begin,
    "calls": _calls,
    "results": _results,
    "end": _end,
    "summary": _summary,
    "settle": _settle,
}
__all__ = ["ACTS", "NOTHING", "Decision", "Usage"]
