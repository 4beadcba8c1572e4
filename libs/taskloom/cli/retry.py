"""``taskloom retry``."""

from taskloom.cli.controlling import show_state
from taskloom.cli.remote import HERE, Json, Reason, TaskArgument, Url, answer
from taskloom.client import calls


def command(task: TaskArgument, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Let a task that failed, timed out or was cancelled begin anew."""
    answer(url, calls.control(task, "retry", {"reason": reason}), as_json, show_state)
