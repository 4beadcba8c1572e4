"""What is remembered of a goal: its plan, how far that is, and the context that the next step is told. Folded from the
goal's events alone."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from taskloom.domain.goals import events as g
from taskloom.domain.goals.inputs import GoalInput, Message
from taskloom.domain.goals.plans import PlannedStep
from taskloom.domain.goals.texts import cut, cut_value, result_limit, text_limit
from taskloom.domain.values import Usage
from taskloom.domain.workflow.values import Ref

KEPT_MESSAGES: Final = 10
"""Messages of the conversation before the goal that its steps are told, the last ones."""

NOTHING_USED: Final = Usage()


class Current(Struct, frozen=True, omit_defaults=True):
    """The step under way. Of an open one: ``pending`` are the calls being made in this ``round``, ``exchange`` those of
    the rounds before; ``answered`` when the model has said its last word."""

    index: int
    step: PlannedStep
    round: int = 0
    pending: tuple[g.CheckedCall, ...] = ()
    exchange: tuple[tuple[g.MadeCall, ...], ...] = ()
    answered: bool = False
    text: str = ""
    model: str = ""
    usage: Usage = NOTHING_USED
    fault: g.StepFault | None = None


class StepRecord(Struct, frozen=True, omit_defaults=True):
    """A step that ended. ``result`` or ``stored`` (the claim of a large one) is what later steps can refer to."""

    plan: int
    step: PlannedStep
    status: str
    text: str = ""
    error: str = ""
    result: Any = None
    stored: Ref | None = None


class Failure(Struct, frozen=True):
    step: PlannedStep
    fault: g.StepFault


class GoalState(Struct, frozen=True, omit_defaults=True):
    """A goal after some of its events. ``index`` is the next step of the plan, ``done`` are all steps that ended, of
    all plans. ``findings``, ``tool_results`` and ``history`` are the context since the last ``summary``. ``plans_made``
    and ``steps_begun`` count since the goal was last retried, as ``used`` does."""

    given: GoalInput
    version: int = 0
    steps: tuple[PlannedStep, ...] = ()
    by: str = ""
    index: int = 0
    current: Current | None = None
    failure: Failure | None = None
    done: tuple[StepRecord, ...] = ()
    summary: str = ""
    findings: tuple[tuple[str, str], ...] = ()
    tool_results: tuple[tuple[str, Any], ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    plans_made: int = 0
    steps_begun: int = 0
    used: Usage = NOTHING_USED
    total: Usage = NOTHING_USED
    settled: bool | None = None
    answer: str = ""

    @property
    def planned(self) -> bool:
        return bool(self.steps)

    @property
    def next(self) -> PlannedStep | None:
        return self.steps[self.index] if self.index < len(self.steps) else None

    @property
    def used_with_current(self) -> Usage:
        """Since the goal was last retried, with what the step under way has used so far."""
        return self.used if self.current is None else plus(self.used, self.current.usage)

    @property
    def context(self) -> dict[str, Any]:
        """What a model is told of what happened so far."""
        return {
            "summary": self.summary,
            "findings": dict(self.findings),
            "toolResults": [{"toolName": name, "result": result} for name, result in self.tool_results],
            "messageHistory": [{"role": role, "content": content} for role, content in self.history],
        }


def open_goal(run_input: dict[str, Any]) -> GoalState:
    """The state before the first event, from the input of the goal's task, which has passed ``submitting``."""
    return _opened(structs.replace(msgspec.convert(run_input, GoalInput), definition=None))


def _opened(given: GoalInput) -> GoalState:
    limit = text_limit(given.context_window)
    if given.checkpoint is None:
        return GoalState(given, history=_kept(given.history, limit))
    context = given.checkpoint.goal.context
    return GoalState(
        given,
        summary=cut(context.summary, limit),
        findings=tuple((words, cut(text, limit)) for words, text in context.findings.items()),
        tool_results=tuple((each.tool_name, cut_value(each.result, limit)) for each in context.tool_results),
        history=_kept(given.history or context.message_history, limit),
    )


def _kept(messages: tuple[Message, ...], limit: int) -> tuple[tuple[str, str], ...]:
    return tuple((each.role, cut(each.content, limit)) for each in messages[-KEPT_MESSAGES:])


def saved(state: GoalState) -> dict[str, Any]:
    """What another goal can go on from, as ``input.checkpoint.goal``: JSON data."""
    left = [{**msgspec.to_builtins(step), "type": step.type} for step in state.steps[state.index :]]
    return {"plan": state.version, "done": len(state.done), "context": state.context, "steps": left}


def plus(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cost_usd + other.cost_usd,
        other.model or one.model,
        other.provider or one.provider,
    )


def evolve_goal(state: GoalState, event: g.GoalEvent) -> GoalState:
    """The state after one more event."""
    after: GoalState = _CHANGES[type(event)](state, event)
    return after


def retried(state: GoalState, *, from_start: bool) -> GoalState:
    """The goal goes on where it failed: with the step that failed, a new budget, and as many new plans as at first."""
    if from_start:
        return structs.replace(_opened(state.given), version=state.version, total=state.total)
    return structs.replace(
        state,
        failure=None,
        settled=None,
        plans_made=1 if state.planned else 0,
        steps_begun=0 if state.current is None else 1,
        used=NOTHING_USED,
    )


def _charged(state: GoalState, usage: Usage, **changes: Any) -> GoalState:
    changed: GoalState = structs.replace(state, used=plus(state.used, usage), total=plus(state.total, usage), **changes)
    return changed


def _planned(state: GoalState, event: g.GoalPlanned) -> GoalState:
    made = state.plans_made + (event.by != "reviewer")
    changes = {"version": event.plan_version, "steps": event.steps, "by": event.by, "index": 0, "failure": None}
    return _charged(state, event.usage, **changes, current=None, plans_made=made)


def _started(state: GoalState, event: g.GoalStepStarted) -> GoalState:
    current = Current(event.index, state.steps[event.index])
    return structs.replace(state, index=event.index, current=current, steps_begun=state.steps_begun + 1)


def _checked(state: GoalState, event: g.GoalCallsChecked) -> GoalState:
    current = state.current
    assert current is not None
    made = tuple(call for call in event.calls if not call.refused)
    answered = not event.calls
    refused = tuple(refused_call(call) for call in event.calls if call.refused)
    current = structs.replace(
        current,
        round=event.round,
        pending=event.calls if made else (),
        exchange=current.exchange if made or not refused else (*current.exchange, refused),
        answered=answered,
        text=event.text if answered else current.text,
        model=event.model or current.model,
        usage=plus(current.usage, event.usage),
        fault=event.error,
    )
    return structs.replace(state, current=current)


def refused_call(call: g.CheckedCall) -> g.MadeCall:
    return g.MadeCall(call.id, call.server, call.tool, call.args, "failed", error=f"refused: {call.refused}")


def _called(state: GoalState, event: g.GoalCallsEnded) -> GoalState:
    assert state.current is not None
    exchange = (*state.current.exchange, event.calls)
    return structs.replace(
        state, current=structs.replace(state.current, pending=(), exchange=exchange, fault=event.error)
    )


def _ended(state: GoalState, event: g.GoalStepEnded) -> GoalState:
    step = state.steps[event.index]
    error = "" if event.error is None else event.error.message
    record = StepRecord(event.plan_version, step, event.status, event.text, error, event.result, event.stored)
    failed = event.status == "failed"
    limit = result_limit(state.given.context_window, len(event.calls))
    results = tuple(
        (f"{call.server}/{call.tool}", cut_value(call.error if call.status == "failed" else call.result, limit))
        for call in event.calls
    )
    return _charged(
        state,
        event.usage,
        current=None,
        index=event.index if failed else event.index + 1,
        failure=Failure(step, event.error or g.StepFault("Failed", "the step failed")) if failed else None,
        done=(*state.done, record),
        findings=(*state.findings, _finding(state, step, event.text)) if event.text and not failed else state.findings,
        tool_results=(*state.tool_results, *results),
    )


def _finding(state: GoalState, step: PlannedStep, text: str) -> tuple[str, str]:
    """Findings go by what their steps were to do; steps of the same words are told apart."""
    words = step.description or step.id
    known = {name for name, _ in state.findings}
    name, number = words, 1
    while name in known:
        number += 1
        name = f"{words} ({number})"
    return name, text


def _summarized(state: GoalState, event: g.GoalSummarized) -> GoalState:
    return _charged(state, event.usage, summary=event.text, findings=(), tool_results=(), history=())


def _settled(state: GoalState, event: g.GoalSettled) -> GoalState:
    return _charged(state, event.usage, settled=event.achieved, answer=event.text)


_CHANGES: Final[dict[type[g.GoalEvent], Callable[[GoalState, Any], GoalState]]] = {
    g.GoalPlanned: _planned,
    g.GoalStepStarted: _started,
    g.GoalCallsChecked: _checked,
    g.GoalCallsEnded: _called,
    g.GoalStepEnded: _ended,
    g.GoalSummarized: _summarized,
    g.GoalSettled: _settled,
}
