"""``taskloom get``: a task, now or as of an earlier moment."""

from taskloom.cli.remote import HERE, AsOf, Json, TaskArgument, Url, answer
from taskloom.cli.task_view import show_task
from taskloom.client import calls


def command(task: TaskArgument, as_of: AsOf = "", as_json: Json = False, url: Url = HERE) -> None:
    """Show a task, now or as of an earlier moment."""
    answer(url, calls.get(task, as_of), as_json, show_task)
