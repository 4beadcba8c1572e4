"""``taskloom retry``."""

from typing import Annotated

import typer

from taskloom.cli.controlling import show_state
from taskloom.cli.remote import HERE, Json, Reason, TaskArgument, Url, answer
from taskloom.client import calls
from taskloom.client.submission import Control

FromStart = Annotated[bool, typer.Option("--from-start", help="A workflow begins again with nothing done.")]


def command(
    task: TaskArgument, reason: Reason = "", start: FromStart = False, as_json: Json = False, url: Url = HERE
) -> None:
    """Let a task that failed, timed out or was cancelled begin anew; a workflow goes on where it failed."""
    wish: Control = {"reason": reason, "from": "start"} if start else {"reason": reason}
    answer(url, calls.control(task, "retry", wish), as_json, show_state)
