"""What can be wrong with an app's functions and workflows, or come of running them."""

from taskloom.client.answers import Task as TaskAnswer
from taskloom.errors import TaskloomError


class AppError(TaskloomError):
    """A task or workflow cannot be used as it is written."""


class LoadError(AppError):
    """``module:app`` does not lead to an app."""


class TraceError(AppError):
    """A workflow function does what only a running program could do, for example decide on a result that is to come."""


class Mismatch(TaskloomError):
    """A value does not have the declared type. ``field`` is the first fault's path, ``faults`` all (path, message)."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" for path, message in faults[:10]))
        self.faults = faults
        self.field = faults[0][0]


class TaskFailed(TaskloomError):
    """The task ended, but not well. ``task`` is the server's answer; ``state``: failed, cancelled or timed_out."""

    def __init__(self, task: TaskAnswer) -> None:
        reason = f"{task.error_type}: {task.error}" if task.error_type else task.error
        super().__init__(f"{task.name or task.kind} {task.task_id} {task.state}{': ' if reason else ''}{reason}")
        self.task = task
        self.state = task.state
        self.type = task.error_type
