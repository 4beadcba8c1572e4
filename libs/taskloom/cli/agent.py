"""``taskloom agent``: an executor that needs nothing but a way to a gateway."""

import json
import os
from typing import Annotated

import typer

from taskloom.errors import TaskloomError


def command(
    agent_id: Annotated[str, typer.Option("--id", help="Its id, as it was enrolled.", show_default=False)],
    url: Annotated[
        list[str] | None, typer.Option("--url", help="Address of a gateway; given again: others, tried in turn.")
    ] = None,
    token: Annotated[
        str, typer.Option(help="Its token. Others on the machine see it here; TASKLOOM_AGENT_TOKEN hides it.")
    ] = "",
    queue: Annotated[list[str] | None, typer.Option(help="Takes work from this queue; can be given again.")] = None,
    capability: Annotated[list[str] | None, typer.Option(help="What tasks may ask for; can be given again.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; can be given again.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Attempts that run at once.")] = None,
) -> None:
    """Run an agent: connects to a gateway, runs what tasks of its tenant ask of it, comes back after every cut.

    It runs what names it (executor_id), a queue of its own, a capability or a label. Further settings are those of an
    executor, TASKLOOM_*.
    """
    for variable, value in (
        ("EXECUTOR_ID", agent_id),
        ("GATEWAY_URLS", ",".join(url or ())),
        ("AGENT_TOKEN", token),
        ("QUEUES", ",".join(("default", *(queue or ()))) if queue else ""),
        ("CAPABILITIES", ",".join(capability or ())),
        ("LABELS", json.dumps(dict(_pair(each) for each in label)) if label else ""),
        ("SLOTS", slots),
    ):
        if value:
            os.environ[f"TASKLOOM_{variable}"] = str(value)
    os.environ.setdefault("TASKLOOM_GATEWAY_URLS", os.environ.get("TASKLOOM_URL", "http://127.0.0.1:8080"))
    from services.executor.link.app import run
    from services.executor.link.settings import AgentSettings
    from taskloom.lifecycle import main

    main("agent", AgentSettings, run)


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise TaskloomError(f"--label {text!r}: NAME=VALUE is needed")
    return name, value
