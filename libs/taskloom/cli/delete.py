"""``taskloom delete``."""

from taskloom.cli.controlling import show_state
from taskloom.cli.remote import HERE, Json, Reason, TaskArgument, Url, answer
from taskloom.client import calls


def command(task: TaskArgument, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Take a task out of all lists, an open one after it was cancelled; its history stays."""
    answer(url, calls.delete(task, {"reason": reason}), as_json, show_state)
