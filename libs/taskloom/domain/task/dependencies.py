"""Tasks that wait for other tasks.

Each side keeps its half in its own stream: the waiting task what it still waits for, the other one who has to be told
of its end. What one tells the other travels as a command (policies.py, ``elsewhere``).
"""

from collections.abc import Sequence
from datetime import datetime

from taskloom.domain.refusals import Refusal
from taskloom.domain.runs import is_run
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task import runs
from taskloom.domain.task.state import TaskState
from taskloom.domain.values import DependencyOutcome, ErrorInfo, TaskSpec
from taskloom.domain.workflow.means import USUAL, Means

Decision = list[e.TaskEvent] | Refusal


def release(
    spec: TaskSpec,
    now: datetime,
    reason: e.QueueReason = "dependencies",
    *,
    held: bool = False,
    means: Means = USUAL,
) -> list[e.TaskEvent]:
    """What follows when nothing holds a task back any more but, maybe, its own start time.

    A workflow begins at once; one that is ``held`` by a pause is queued, and begins when it is resumed.
    """
    if spec.run_at is not None and spec.run_at > now:
        return [e.TaskScheduled(spec.run_at)]
    return runs.begin(spec, now, means) if is_run(spec.kind) and not held else [e.TaskQueued(reason)]


def note(state: TaskState, command: c.NoteDependency, now: datetime) -> Decision:
    """A dependency ended. The last one lets the task go; one that did not complete does what the policy says."""
    if state.phase != "waiting" or command.dependency not in state.waiting_for:
        return []
    ended: list[e.TaskEvent] = [e.DependencyEnded(command.dependency, command.outcome)]
    policy = state.spec.on_dependency_failure
    if command.outcome != "completed" and policy != "continue":
        reason = f"dependency {command.dependency} {_WORDS[command.outcome]}"
        if policy == "skip":
            return [*ended, e.TaskCancelled(was_paused=state.pause is not None, reason=f"skipped: {reason}")]
        return [*ended, e.TaskFailed(ErrorInfo("dependency_failed", reason, retryable=False))]
    return ended if len(state.waiting_for) > 1 else [*ended, *_let_go(state, now)]


def _let_go(state: TaskState, now: datetime) -> list[e.TaskEvent]:
    """Nothing while somebody has yet to approve the task."""
    if state.approval is not None:
        return []
    return release(state.spec, now, held=state.pause is not None)


def add(state: TaskState, command: c.AddDependency, _now: datetime) -> Decision:
    if command.dependency == state.task_id:
        return Refusal("invalid", "a task cannot depend on itself", "dependency", state.word)
    if state.phase not in ("waiting", "scheduled", "ready") or state.attempts or state.cancel is not None:
        return Refusal("conflict", f"the task is {state.word}: it waits for nothing any more", state=state.word)
    return [] if command.dependency in state.waiting_for else [e.DependencyAdded(command.dependency)]


def remove(state: TaskState, command: c.RemoveDependency, now: datetime) -> Decision:
    if command.dependency not in state.waiting_for:
        return Refusal("conflict", f"the task does not wait for {command.dependency}", "dependency", state.word)
    removed: list[e.TaskEvent] = [e.DependencyRemoved(command.dependency)]
    return removed if len(state.waiting_for) > 1 else [*removed, *_let_go(state, now)]


def watch(state: TaskState, command: c.WatchTask, _now: datetime) -> Decision:
    """Another task wants to know of this one's end; one that comes too late, or asks anew after its own retry, is told
    at once, by the event itself."""
    if command.watcher in state.watchers and not state.ended:
        return []
    return [e.WatcherAdded(command.watcher, outcome_of(state))]


def tell_watchers(state: TaskState, events: Sequence[e.TaskEvent]) -> list[e.TaskEvent]:
    """``events`` of a decision, with who has to be told of the end, when they end a watched task."""
    if not state.watchers:
        return list(events)
    for place, event in enumerate(events):
        outcome = _OUTCOMES.get(type(event))
        if outcome is not None:
            told = e.WatchersTold(state.watchers, outcome)
            return [*events[:place], told, *events[place:]]
    return list(events)


def outcome_of(state: TaskState) -> DependencyOutcome | None:
    """How an ended task ended; None while it is open."""
    return _PHASES.get(state.phase)


_OUTCOMES: dict[type[e.Event], DependencyOutcome] = {
    e.TaskCompleted: "completed",
    e.TaskFailed: "failed",
    e.TaskTimedOut: "timed_out",
    e.TaskCancelled: "cancelled",
}
_PHASES: dict[str, DependencyOutcome] = {
    "completed": "completed",
    "failed": "failed",
    "timed_out": "timed_out",
    "cancelled": "cancelled",
}
_WORDS: dict[DependencyOutcome, str] = {
    "completed": "completed",
    "failed": "failed",
    "timed_out": "timed out",
    "cancelled": "was cancelled",
    "unknown": "does not exist",
}
