"""``taskloom pause``."""

from taskloom.cli.controlling import control
from taskloom.cli.remote import HERE, Json, Reason, TaskArgument, Url


def command(task: TaskArgument, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Pause a task: before it starts, or at its next checkpoint."""
    control(url, task, "pause", {"reason": reason}, as_json)
