"""Cancel, pause and resume: how their answers are shown."""

from taskloom.cli.remote import answer
from taskloom.cli.show import console, state_text
from taskloom.client import Controlled, calls
from taskloom.client.submission import Control


def control(url: str, task_id: str, verb: str, wish: Control, as_json: bool) -> None:
    """Sends the wish and prints the task's state after it; a refusal is an error with the server's text."""
    answer(url, calls.control(task_id, verb, wish), as_json, _show)


def _show(done: Controlled) -> None:
    console().print(f"{done.message} to {done.task_id}: it is now", state_text(done.state))


def show_state(done: Controlled) -> None:
    """For what is no signal: the message and the task's state after it."""
    console().print(f"{done.message}: {done.task_id} is", state_text(done.state))
