"""``taskloom cancel``."""

from typing import Annotated

import typer

from taskloom.cli.controlling import control
from taskloom.cli.remote import HERE, Json, Reason, TaskArgument, Url
from taskloom.client.submission import Control


def command(
    task: TaskArgument,
    reason: Reason = "",
    grace: Annotated[
        float | None, typer.Option(min=0, max=3600, help="Seconds between SIGTERM and SIGKILL (server: 5).")
    ] = None,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Cancel a task: its processes are signalled, after the grace time killed; the end is confirmed in its history."""
    wish: Control = {"reason": reason}
    if grace is not None:
        wish["grace_s"] = grace
    control(url, task, "cancel", wish, as_json)
