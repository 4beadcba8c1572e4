"""Changing a task after it was submitted: a retry after its end, other fields, and taking it out of the lists."""

from datetime import datetime
from typing import Any, Final

from msgspec import UNSET

from taskloom.domain.refusals import Refusal
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task import runs
from taskloom.domain.task.approvals import request_anew
from taskloom.domain.task.dependencies import release
from taskloom.domain.task.evolve import metadata_after
from taskloom.domain.task.state import TaskState
from taskloom.domain.task.submission import WEBHOOK_KIND, Invalid, check_size, priority_of, utc_of
from taskloom.domain.values import TaskSpec
from taskloom.domain.workflow.wanted import parent_of

Decision = list[e.TaskEvent] | Refusal

_ENDS: Final = frozenset(e.TERMINAL_EVENTS)
_WHEN_ENDED: Final = frozenset({"name", "description", "tags", "metadata"})
_NOT_WHILE_IT_RUNS: Final = {"executor_id": "assigned_to", "queue": "queue"}


def retry(state: TaskState, command: c.RetryTask, now: datetime) -> Decision:
    """Back to the queue, or to what it still waits for: its start time, an approval, tasks that never ended. A workflow
    that had begun goes on."""
    parent = parent_of(state.task_id)
    if parent is not None:
        return _conflict(state, f"the step of a workflow is tried again by its workflow alone: retry {parent[0]}")
    if not state.ended or (state.phase == "completed" and state.spec.kind != WEBHOOK_KIND):
        return _conflict(state, f"cannot retry {state.word} task")
    retried = e.TaskRetried(command.reason)
    if state.run is not None:
        return runs.go_on(state, command.start, retried, now)
    held = request_anew(state, now)
    if state.waiting_for:
        held.append(e.TaskWaiting(tuple(sorted(state.waiting_for))))
    return [retried, *(held or release(state.spec, now, "retried"))]


def retry_child(state: TaskState, _command: c.RetryChild, now: datetime) -> Decision:
    """A child workflow goes on because the run around it does. What of it was undone makes it begin at its start."""
    if not state.ended or state.phase == "completed" or state.deleted or state.run is None:
        return _conflict(state, f"the child workflow is {state.word} and cannot go on")
    return runs.go_on(state, "start" if state.run.undone else "failed", e.TaskRetried(), now)


def update(state: TaskState, command: c.UpdateTask, _now: datetime) -> Decision:
    """Only what is not so already; an empty list when that is nothing."""
    try:
        changed = _changed(state.spec, command)
    except Invalid as invalid:
        return Refusal("invalid", invalid.message, invalid.field, state.word)
    if not changed:
        return []
    if state.ended and (late := sorted(changed.keys() - _WHEN_ENDED - {"metadata_removed"})):
        field = _NOT_WHILE_IT_RUNS.get(late[0], late[0])
        return _conflict(state, f"the task is {state.word}: its {field} cannot change any more", field)
    if state.live is not None and (bound := sorted(changed.keys() & _NOT_WHILE_IT_RUNS.keys())):
        field = _NOT_WHILE_IT_RUNS[bound[0]]
        where = f"attempt {state.live.number} is with executor {state.live.executor_id}"
        return _conflict(state, f"the task is {state.word}, {where}: its {field} cannot change now", field)
    return [e.TaskUpdated(**changed)]


def remove(state: TaskState, command: c.DeleteTask, cancelling: Decision) -> Decision:
    """``cancelling`` is what a cancel would lead to; an open task is deleted with its end (``with_deletion``)."""
    if state.deletion is not None:
        return []
    if state.ended:
        return [e.TaskDeleted(command.reason)]
    if parent_of(state.task_id) is not None:
        return _conflict(state, "the step of a workflow is deleted after its end; cancel the workflow first")
    wish = e.TaskDeleteRequested(command.reason)
    return cancelling if isinstance(cancelling, Refusal) else [wish, *cancelling]


def with_deletion(state: TaskState, events: list[e.TaskEvent]) -> list[e.TaskEvent]:
    """``events`` of a decision; when they end a task that is to be deleted, with its deletion."""
    if _ENDS.isdisjoint(map(type, events)):
        return events
    wish = state.deletion or next((event for event in events if isinstance(event, e.TaskDeleteRequested)), None)
    return events if wish is None else [*events, e.TaskDeleted(wish.reason)]


def checked(command: c.UpdateTask) -> None:
    """What can be said of an update without its task.

    Raises:
        Invalid: names the field.
    """
    _named(command)


def _changed(spec: TaskSpec, command: c.UpdateTask) -> dict[str, Any]:
    changed = {name: value for name, value in _named(command).items() if getattr(spec, name) != value}
    if command.metadata is not UNSET:
        changed |= _changed_metadata(spec, command.metadata)
    return changed


def _named(command: c.UpdateTask) -> dict[str, Any]:
    """The fields that the command names, as a specification holds them, but for the metadata."""
    named: dict[str, Any] = {}
    for name in ("name", "description", "queue"):
        if (value := getattr(command, name)) is not UNSET:
            named[name] = value
    if command.priority is not UNSET:
        named["priority"] = priority_of(command.priority)
    if command.assigned_to is not UNSET:
        named["executor_id"] = command.assigned_to or ""
    if command.deadline is not UNSET:
        named["deadline"] = utc_of(command.deadline, "deadline")
    if command.tags is not UNSET:
        named["tags"] = tuple(dict.fromkeys(command.tags))
        check_size("tags", named["tags"])
    if command.metadata is not UNSET:
        check_size("metadata", command.metadata)
    return named


def _changed_metadata(spec: TaskSpec, wished: dict[str, Any]) -> dict[str, Any]:
    there = spec.metadata
    new = {name: value for name, value in wished.items() if value is not None and there.get(name) != value}
    gone = tuple(name for name, value in wished.items() if value is None and name in there)
    changed: dict[str, Any] = {"metadata": new} if new else {}
    if gone:
        changed["metadata_removed"] = gone
    check_size("metadata", metadata_after(there, e.TaskUpdated(**changed)))
    return changed


def _conflict(state: TaskState, message: str, field: str = "") -> Refusal:
    return Refusal("conflict", message, field, state.word)
