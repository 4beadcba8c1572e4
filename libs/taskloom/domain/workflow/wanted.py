"""What the shell has to do for an event of a run: make a child, stop one, or end the run's own task."""

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, structs

from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as e

SEPARATOR: Final = "~"
"""Between a run's id and the path of a step. No id that a client may choose contains it."""

LIFE: Final = ".."


class SubmitChild(Struct, frozen=True):
    """Submit ``command`` under the id ``child_id(run_id, path, restart)``, for the run's tenant and session."""

    path: str
    command: SubmitTask
    restart: int = 0


class RetryChild(Struct, frozen=True):
    """The child workflow ended badly, and goes on where it failed."""

    path: str
    restart: int = 0


class CancelChild(Struct, frozen=True):
    path: str
    reason: str
    restart: int = 0


class EndRun(Struct, frozen=True):
    """End the run's own task. A completed one's response is ``results.run_result(state)``."""

    outcome: Literal["completed", "failed", "cancelled", "timed_out"]
    error: ErrorInfo | None = None
    reason: str = ""
    limit_s: float = 0.0


Wanted = SubmitChild | RetryChild | CancelChild | EndRun


def wanted(event: e.WorkflowEvent) -> Wanted | None:
    """The deed that an event asks for, or None. Timers need none: ``state.next_due`` says when to come back."""
    if isinstance(event, e.StepScheduled):
        return SubmitChild(event.path, msgspec.convert(event.submission, SubmitTask), event.restart)
    if isinstance(event, e.StepRetried):
        return RetryChild(event.path, event.restart)
    if isinstance(event, e.StepCancelRequested):
        return CancelChild(event.path, event.reason, event.restart)
    if isinstance(event, e.WorkflowCompleted):
        return EndRun("completed")
    if isinstance(event, e.WorkflowFailed):
        return EndRun("failed", _at(event.path, event.error))
    if isinstance(event, e.WorkflowCancelled):
        return EndRun("cancelled", reason=event.reason)
    if isinstance(event, e.WorkflowTimedOut):
        return EndRun("timed_out", limit_s=event.limit_s)
    return None


def _at(path: str, error: ErrorInfo) -> ErrorInfo:
    """The error with the step that failed in front, so that who reads the run's own error need not look for it."""
    return structs.replace(error, message=f"step {path}: {error.message}") if path else error


def child_id(run_id: str, path: str, restart: int = 0) -> str:
    """Id of the task of a step: ``<run id>~<path>``; of one submitted after a retry of the run ``<run id>~<path>..2``,
    after the second ``..3``. Within a path no full stop follows another."""
    return f"{run_id}{SEPARATOR}{path}{LIFE}{restart + 1}" if restart else f"{run_id}{SEPARATOR}{path}"


def parent_of(task_id: str) -> tuple[str, str] | None:
    """The run a task belongs to and the path of its step; None for a task of its own."""
    run_id, separator, path = task_id.rpartition(SEPARATOR)
    return (run_id, path.partition(LIFE)[0]) if separator else None


def restart_of(task_id: str) -> int:
    """After how many retries of its run the task of a step was submitted."""
    life = task_id.rpartition(SEPARATOR)[2].partition(LIFE)[2]
    return int(life) - 1 if life else 0


def root_of(task_id: str) -> str:
    """The outermost run of a task, or the task itself: what decides on its partition."""
    return task_id.partition(SEPARATOR)[0]


def event_names() -> dict[str, Any]:
    """Event classes by their public names."""
    return {str(kind.__struct_config__.tag): kind for kind in e.AnyWorkflowEvent.__args__}
