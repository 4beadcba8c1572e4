"""A workflow's task: its run advances in the task's own stream, and the run's end is the task's end."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from taskloom.domain.refusals import Refusal
from taskloom.domain.runs import is_run
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.state import TaskState, run_due
from taskloom.domain.values import ErrorInfo, TaskSpec
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.advance import Start, advance, restart, start
from taskloom.domain.workflow.events import WORKFLOW_ENDS, WorkflowEvent
from taskloom.domain.workflow.evolve import evolve_run, fold_run, open_run
from taskloom.domain.workflow.means import USUAL, Means
from taskloom.domain.workflow.results import run_result
from taskloom.domain.workflow.state import RunState
from taskloom.domain.workflow.wanted import EndRun, wanted

Decision = list[e.TaskEvent] | Refusal

_ENDS: Final = frozenset(WORKFLOW_ENDS)


def begin(spec: TaskSpec, now: datetime, means: Means = USUAL) -> list[e.TaskEvent]:
    """The first events of the run that a workflow's specification describes."""
    run = open_run(spec.input)
    return _with_end(run, start(run, now, means), means)


def happen(state: TaskState, happening: h.Happening, now: datetime, means: Means = USUAL) -> Decision:
    """What a happening leads to, with the end of the task when the run ends; an empty list when the run never began."""
    if state.run is None:
        return []
    decision = advance(state.run, happening, now, means)
    if isinstance(decision, Refusal):
        return decision
    return _with_end(state.run, decision, means, was_paused=state.pause is not None)


def go_on(state: TaskState, begin: Start, retried: e.TaskRetried, now: datetime) -> Decision:
    """How a run that ended badly goes on, behind the event that says so of its task. What needs large values is left:
    the run is due at once then."""
    assert state.run is not None
    decision = restart(state.run, begin, now)
    return decision if isinstance(decision, Refusal) else [retried, *_with_end(state.run, decision)]


def fire(state: TaskState, now: datetime, means: Means = USUAL) -> list[e.TaskEvent]:
    """Events of the run's timers that are due, or of the rest of a long piece of work.

    Conditions that steps wait for are looked at too: a large value may be at hand now.
    """
    due = run_due(state)
    if (due is None or due > now) and (state.run is None or not state.run.watching):
        return []
    return _events_of(happen(state, h.TimerDue(), now, means))


def break_off(state: TaskState, error: ErrorInfo, now: datetime) -> list[e.TaskEvent]:
    """A workflow that cannot go on fails as it stands."""
    if state.ended or not is_run(state.spec.kind):
        return []
    return [e.TaskFailed(error)] if state.run is None else _events_of(happen(state, h.Break(error), now))


def _events_of(decision: Decision) -> list[e.TaskEvent]:
    return [] if isinstance(decision, Refusal) else decision


def _with_end(
    run: RunState, events: Sequence[Any], means: Means = USUAL, *, was_paused: bool = False
) -> list[e.TaskEvent]:
    if _ENDS.isdisjoint(map(type, events)):
        return list(events)
    for event in reversed(events):
        deed = wanted(event) if type(event) in _ENDS else None
        if isinstance(deed, EndRun):
            return [*events, _end(fold_run(run, events), deed, was_paused, means)]
    return list(events)


def _end(run: RunState, deed: EndRun, was_paused: bool, means: Means) -> e.TaskEvent:
    if deed.outcome == "completed":
        text = "" if run.goal is None else run.goal.answer
        return e.TaskCompleted(0, text, run_result(run, means.values))
    if deed.outcome == "timed_out":
        return e.TaskTimedOut("total", deed.limit_s)
    if deed.outcome == "cancelled":
        return e.TaskCancelled(was_paused=was_paused, reason=deed.reason)
    assert deed.error is not None
    return e.TaskFailed(deed.error)


def after_event(state: TaskState, event: WorkflowEvent, at: datetime) -> RunState:
    """The run after one more of its events; the first one opens it."""
    return evolve_run(open_run(state.spec.input) if state.run is None else state.run, event, at)


def tell(state: TaskState, command: Any, now: datetime, caller: Caller) -> Decision:
    """A child's end, a signal, new variables."""
    if isinstance(command, c.NoteChild):
        told = (command.result, command.error, command.restart, command.text)
        ended = h.ChildEnded(command.path, command.outcome, *told)
        return happen(state, ended, now, caller.means)
    return _not_running(state) or happen(state, _HAPPENINGS[type(command)](command), now, caller.means)


def decide(state: TaskState, step: str, command: c.DecideApproval, now: datetime, caller: Caller) -> Decision:
    """A decision on the approval of a step."""
    about = (command.comment, command.modified_action, command.on_behalf_of)
    made = h.Decide(step, command.approved, caller.actor, *about)
    return _not_running(state) or happen(state, made, now, caller.means)


def _not_running(state: TaskState) -> Refusal | None:
    if not is_run(state.spec.kind):
        return Refusal("conflict", "the task is no workflow", state=state.word)
    if state.ended:
        return Refusal("conflict", f"Task is already in terminal state: {state.word}", state=state.word)
    if state.run is None:
        return Refusal("conflict", f"the workflow has not begun, it is {state.word}", state=state.word)
    return None


_HAPPENINGS: Final[dict[type[c.Command], Callable[[Any], h.Happening]]] = {
    c.SignalTask: lambda command: h.Signal(command.name, command.payload),
    c.PatchVariables: lambda command: h.PatchVariables(command.values),
}
COMMANDS: Final[frozenset[type[c.Command]]] = frozenset((c.NoteChild, *_HAPPENINGS))
