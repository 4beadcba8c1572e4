"""``taskloom resume``."""

from taskloom.cli.controlling import control
from taskloom.cli.remote import HERE, Json, Reason, TaskArgument, Url


def command(task: TaskArgument, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Let a paused task go on."""
    control(url, task, "resume", {"reason": reason}, as_json)
