"""``Folded.fold(recorded)``: how a goal's events change its row, steps and traces. Projection and verify run it.

The row holds all that the next event needs, so that no event has to read the steps or traces before it.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from math import floor
from typing import Any, Final

import msgspec
from msgspec import Struct, field, structs

from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.goals import events as g
from taskloom.domain.task import events as e
from taskloom.domain.workflow import events as w
from taskloom.views.goals import traces as t
from taskloom.views.goals.rows import (
    ERROR_CHARS,
    MAX_TRACES,
    TRACES_OF_AN_EVENT,
    Doing,
    Goal,
    GoalCheckpoint,
    GoalStep,
    Plan,
    Trace,
    cut,
)
from taskloom.views.goals.traces import Told

KIND: Final = "goal"
_ASKED: Final = (
    "model",
    "tools",
    "agent_id",
    "mentions",
    "history",
    "review",
    "detect",
    "depth",
    "max_steps",
    "max_plans",
)
_DONE: Final = frozenset({"completed", "skipped"})
"""What a goal ends before it comes to is skipped as well, but is not measured any more."""

StepKey = tuple[int, int]
"""Version of the plan, number of the step."""


class Folded(Struct):
    """A goal as its last event left it, and what changed on the way: its steps by key, and new traces. ``began_anew``:
    the steps that were there before go."""

    goal: Goal
    steps: dict[StepKey, GoalStep] = field(default_factory=dict)
    traces: list[Trace] = field(default_factory=list)
    began_anew: bool = False

    def fold(self, recorded: Recorded) -> None:
        """Takes one more event that ``concerns`` goals."""
        before, kept = self.goal, len(self.traces)
        self.goal = structs.replace(before, updated_at=recorded.meta.at)
        told = _CHANGES[type(recorded.event)](self, recorded.event, recorded)
        self._tell(told, recorded)
        if b"\\u0000" in recorded.body:
            self.goal = _cleaned(self.goal)
            self.steps = {key: _cleaned(step) for key, step in self.steps.items()}
            self.traces[kept:] = map(_cleaned, self.traces[kept:])

    def _tell(self, told: Iterable[Told], recorded: Recorded) -> None:
        goal = self.goal
        for place, one in enumerate(told):
            if goal.traces >= MAX_TRACES or place >= TRACES_OF_AN_EVENT:
                break
            new = one if goal.traces < MAX_TRACES - 1 else t.LAST
            number = recorded.version * TRACES_OF_AN_EVENT + place
            self.traces.append(
                Trace(goal.task_id, number, new.type, new.message, recorded.meta.at, new.plan, new.step, new.metadata)
            )
            goal = structs.replace(goal, traces=goal.traces + 1)
        self.goal = goal

    def change(self, **changes: Any) -> None:
        self.goal = structs.replace(self.goal, **changes)

    def set_step(self, number: int, state: str, **changes: Any) -> GoalStep:
        """The step of the plan that holds, changed; what it did not say anew is as it was planned."""
        goal = self.goal
        step = self.steps.get((goal.plan, number)) or _planned_step(goal.task_id, goal.plans[-1], number)
        step = structs.replace(step, status=state, **changes)
        self.steps[goal.plan, number] = step
        self.change(states=(*goal.states[:number], state, *goal.states[number + 1 :]))
        return step

    def measure(self) -> None:
        states = self.goal.states
        done = sum(state in _DONE for state in states)
        self.change(current_step=done, progress=floor(100 * done / len(states)) if states else 0)

    def leave_the_rest(self, at: datetime, error: str) -> None:
        """Steps of the plan that will not run any more: the one under way has failed, the others are skipped."""
        goal = self.goal
        for number, state in enumerate(goal.states):
            if state == "running":
                self.set_step(
                    number, "failed", started_at=goal.current_since, ended_at=at, error=cut(error, ERROR_CHARS)
                )
            elif state == "pending":
                self.set_step(number, "skipped")
        self.change(current=-1, current_since=None, doing={}, told=0)

    def go_on(self) -> None:
        """The steps behind the last one that completed have yet to come."""
        states = self.goal.states
        done = next((place for place in range(len(states), 0, -1) if states[place - 1] == "completed"), 0)
        for number in range(done, len(states)):
            self.set_step(number, "pending")
        self.measure()


def concerns(event: Event) -> bool:
    """Whether an event of a goal changes what this view shows."""
    return type(event) in _CONCERN


def begun(recorded: Recorded) -> Folded:
    """A goal after its submission."""
    event, meta = recorded.event, recorded.meta
    assert isinstance(event, e.TaskSubmitted)
    spec = event.spec
    asked = {name: value for name in _ASKED if (value := spec.input.get(name))}
    if spec.budget is not None:
        asked["budget"] = msgspec.to_builtins(spec.budget)
    text = spec.input.get("goal") or spec.query
    goal = Goal(meta.task_id, meta.tenant_id, spec.user_id, spec.session_id, str(text), asked, meta.at, meta.at)
    return Folded(_cleaned(goal) if b"\\u0000" in recorded.body else goal)


def fold_all(history: Iterable[Recorded]) -> Folded | None:
    """Everything of a goal's history; None of any other task's."""
    found: Folded | None = None
    for recorded in history:
        if isinstance(recorded.event, e.TaskSubmitted):
            if recorded.event.spec.kind != KIND:
                return None
            found = begun(recorded)
        elif found is not None and type(recorded.event) in _CHANGES:
            found.fold(recorded)
    return found


def _planned_step(task_id: str, plan: Plan, number: int) -> GoalStep:
    planned = plan.steps[number]
    return GoalStep(
        task_id,
        plan.version,
        number,
        step_id=planned["id"],
        type=planned["type"],
        description=planned.get("description", ""),
        server=planned.get("server", ""),
        tool=planned.get("tool", ""),
        args=planned.get("args", {}),
        estimated_ms=min(planned["estimated_ms"], _MOST_MS),
    )


_MOST_MS: Final = 2**31 - 1


def _planned(folded: Folded, event: g.GoalPlanned, r: Recorded) -> list[Told]:
    folded.leave_the_rest(r.meta.at, "a new plan took its place")
    steps = tuple(
        {**msgspec.to_builtins(each), "type": each.type, "estimated_ms": each.estimated_ms} for each in event.steps
    )
    plan = Plan(event.plan_version, r.meta.at, event.by, steps, event.reason, event.model)
    others = tuple(each for each in folded.goal.plans if each.version != event.plan_version)
    pending = ("pending",) * len(steps)
    folded.change(plan=event.plan_version, plans=(*others, plan), states=pending, total_steps=len(steps))
    for number in range(len(steps)):
        folded.set_step(number, "pending")
    folded.measure()
    return t.planned(event)


def _step_started(folded: Folded, event: g.GoalStepStarted, r: Recorded) -> list[Told]:
    if not _is_held(folded.goal, event):
        return []
    step = folded.set_step(event.index, "running", started_at=r.meta.at, ended_at=None)
    folded.change(current=event.index, current_since=r.meta.at, told=0)
    folded.measure()
    return t.step_started(event, step.description)


def _calls_checked(folded: Folded, event: g.GoalCallsChecked, _r: Recorded) -> list[Told]:
    """Where every call was refused nothing ends, and this is the last that is heard of them."""
    told = t.turn_failed(event)
    if event.calls and all(call.refused for call in event.calls):
        refused = [
            g.MadeCall(call.id, call.server, call.tool, call.args, "failed", error=f"refused: {call.refused}")
            for call in event.calls
        ]
        told += _calls_told(folded, refused, event.plan_version, event.index)
    return told


def _calls_told(folded: Folded, calls: Sequence[g.MadeCall], plan: int, step: int) -> list[Told]:
    goal = folded.goal
    folded.change(told=goal.told + len(calls), tool_calls=goal.tool_calls + len(calls))
    return [t.tool_called(call, plan, step) for call in calls]


def _calls_ended(folded: Folded, event: g.GoalCallsEnded, _r: Recorded) -> list[Told]:
    return _calls_told(folded, event.calls, event.plan_version, event.index)


def _step_ended(folded: Folded, event: g.GoalStepEnded, r: Recorded) -> list[Told]:
    goal = folded.goal
    if not _is_held(goal, event):
        return []
    error = "" if event.error is None else cut(event.error.message, ERROR_CHARS)
    step = folded.set_step(
        event.index,
        event.status,
        started_at=goal.current_since,
        ended_at=r.meta.at,
        ended=r.version,
        text=event.text,
        calls=tuple(msgspec.to_builtins(call) for call in event.calls),
        usage={name: getattr(event.usage, name) for name in ("input_tokens", "output_tokens", "cost_usd")},
        model=event.model,
        error=error,
    )
    calls = _calls_told(folded, event.calls[goal.told :], event.plan_version, event.index)
    last_error = error or folded.goal.last_error
    folded.change(current=-1, current_since=None, told=0, last_error=last_error)
    folded.measure()
    return [*calls, t.step_ended(event, step.type, step.description)]


def _is_held(goal: Goal, event: g.GoalStepStarted | g.GoalStepEnded) -> bool:
    """The event is of the plan that holds; of another one nothing is left to change."""
    return event.plan_version == goal.plan and 0 <= event.index < len(goal.states)


def _summarized(folded: Folded, event: g.GoalSummarized, r: Recorded) -> list[Told]:
    folded.change(summary=event.text, summarized=r.version)
    return t.summarized(event)


def _settled(folded: Folded, event: g.GoalSettled, r: Recorded) -> list[Told]:
    folded.leave_the_rest(r.meta.at, event.reason)
    last_error = "" if event.achieved else cut(event.reason, ERROR_CHARS) or folded.goal.last_error
    folded.change(achieved=event.achieved, last_error=last_error)
    return t.settled(event)


def _scheduled(folded: Folded, event: w.StepScheduled, r: Recorded) -> list[Told]:
    kind, given = event.submission.get("kind"), event.submission.get("input")
    given = given if isinstance(given, dict) else {}
    if kind == "llm":
        model = given.get("model")
        wanted = model.get("model") if isinstance(model, dict) else ""
        doing = Doing("llm", str(given.get("op", "")), r.meta.at, str(wanted or ""))
    elif kind == KIND:
        doing = Doing("goal", cut(str(given.get("goal", "")), t.SHOWN_CHARS), r.meta.at)
    else:
        return []
    goal = folded.goal
    folded.change(doing={**goal.doing, event.path: doing}, model_calls=goal.model_calls + (kind == "llm"))
    return t.asked(doing, event.path, goal.plan, goal.current)


def _child_completed(folded: Folded, event: w.StepCompleted, r: Recorded) -> list[Told]:
    doing = _taken(folded, event.path)
    if doing is None:
        return []
    goal, result = folded.goal, event.result if isinstance(event.result, dict) else {}
    usage = result.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    folded.change(
        input_tokens=goal.input_tokens + _number(usage, "input_tokens", int),
        output_tokens=goal.output_tokens + _number(usage, "output_tokens", int),
        cost_usd=goal.cost_usd + _number(usage, "cost_usd", float),
        model_used=str(result.get("model_used") or goal.model_used),
    )
    return t.answered(doing, result, r.meta.at, goal.plan, goal.current)


def _child_failed(folded: Folded, event: w.StepFailed, r: Recorded) -> list[Told]:
    doing = _taken(folded, event.path)
    if doing is None:
        return []
    return [t.child_failed(doing, event.error.message, r.meta.at, folded.goal.plan, folded.goal.current)]


def _child_cancelled(folded: Folded, event: w.StepCancelled, _r: Recorded) -> list[Told]:
    _taken(folded, event.path)
    return []


def _taken(folded: Folded, path: str) -> Doing | None:
    doing = folded.goal.doing.get(path)
    if doing is not None:
        folded.change(doing={name: each for name, each in folded.goal.doing.items() if name != path})
    return doing


def _number(values: dict[str, Any], name: str, kind: type[int] | type[float]) -> Any:
    """A model's port says numbers; whatever else is there counts for nothing."""
    value = values.get(name, 0)
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return kind(value) if fits else kind(0)


_MOST_TOKENS: Final = 1e12


def _checkpoint(folded: Folded, _event: w.CheckpointSaved, r: Recorded) -> list[Told]:
    goal = folded.goal
    saved = GoalCheckpoint(r.version, goal.current_step, r.meta.at)
    folded.change(checkpoints=(*goal.checkpoints, saved))
    return t.checkpoint(saved, goal.plan, goal.current)


def _asked_to_approve(folded: Folded, event: w.ApprovalRequested, _r: Recorded) -> list[Told]:
    return t.approval_requested(event, folded.goal.plan)


def _approved(folded: Folded, event: w.ApprovalDecided, _r: Recorded) -> list[Told]:
    return t.approval_decided(event, folded.goal.plan)


def _went_on(folded: Folded, event: w.WorkflowRetried, _r: Recorded) -> list[Told]:
    """After a retry from its start nothing of the plans before holds; else the run says itself what begins anew."""
    folded.change(ended_at=None, achieved=None, last_error="", doing={}, told=0, current=-1, current_since=None)
    if event.start == "start":
        folded.steps, folded.began_anew = {}, True
        folded.change(
            **dict.fromkeys(("plan", "total_steps", "current_step", "progress", "summarized"), 0),
            **dict.fromkeys(("plans", "states", "checkpoints"), ()),
            summary="",
        )
    else:
        folded.go_on()
    return t.retried(event)


def _ended(folded: Folded, event: Any, r: Recorded) -> list[Told]:
    error = _error_of(event)
    folded.leave_the_rest(r.meta.at, error)
    goal = folded.goal
    if isinstance(event, e.TaskCompleted):
        folded.change(ended_at=r.meta.at, progress=100)
        return []
    folded.change(ended_at=r.meta.at, last_error=cut(error, ERROR_CHARS))
    return t.failed(error, goal.plan)


def _error_of(event: Any) -> str:
    if isinstance(event, e.TaskFailed):
        return event.error.message
    if isinstance(event, e.TaskTimedOut):
        return f"the time limit {event.timeout} of {event.limit_s:g} s was reached"
    if isinstance(event, e.TaskCancelled):
        return event.reason or "Task cancelled"
    return ""


def _cleaned(row: Any) -> Any:
    """PostgreSQL's text cannot hold the character U+0000: it is shown as U+FFFD. The event keeps it."""
    kind = type(row)
    return msgspec.convert(_without_nul(msgspec.to_builtins(row, builtin_types=(datetime,))), kind)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nul(item) for item in value]
    return value


_CHANGES: Final[dict[type[Event], Callable[[Folded, Any, Recorded], list[Told]]]] = {
    g.GoalPlanned: _planned,
    g.GoalStepStarted: _step_started,
    g.GoalCallsChecked: _calls_checked,
    g.GoalCallsEnded: _calls_ended,
    g.GoalStepEnded: _step_ended,
    g.GoalSummarized: _summarized,
    g.GoalSettled: _settled,
    w.StepScheduled: _scheduled,
    w.StepCompleted: _child_completed,
    w.StepFailed: _child_failed,
    w.StepCancelled: _child_cancelled,
    w.CheckpointSaved: _checkpoint,
    w.ApprovalRequested: _asked_to_approve,
    w.ApprovalDecided: _approved,
    w.WorkflowRetried: _went_on,
    **dict.fromkeys(e.TERMINAL_EVENTS, _ended),
}
_CONCERN: Final = frozenset({e.TaskSubmitted, *_CHANGES})
