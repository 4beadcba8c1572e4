"""``taskloom executor``: runs attempts."""

import asyncio
import os
import re
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from taskloom.app import App


def executor(
    app: Annotated[
        list[str] | None, typer.Option("--app", help="Run the tasks of this app, module:app; may be given again")
    ] = None,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", help="Take work from this queue; default: those of the apps' tasks")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Attempts that run at once")] = None,
    executor_id: Annotated[
        str | None, typer.Option("--id", help="Its id; running executors have different ones")
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="With --app: run the built-in kinds and those of packages too")
    ] = False,
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="With --app: store the apps' workflows at the server")
    ] = True,
) -> None:
    """Run an executor: takes assignments from Kafka, runs them, reports. Settings come from TASKLOOM_* variables.

    With --app it runs the app's tasks; beside a running `taskloom up` it finds Kafka and the database by itself.
    """
    if app:
        _prepare(app, common=common, register=register)
    for variable, value in (("QUEUES", ",".join(queue or ())), ("SLOTS", slots), ("EXECUTOR_ID", executor_id)):
        if value:
            os.environ[f"TASKLOOM_{variable}"] = str(value)
    from services.executor.app import run
    from services.executor.settings import ExecutorSettings
    from taskloom.lifecycle import main

    main("executor", ExecutorSettings, run)


def _prepare(names: list[str], *, common: bool, register: bool) -> None:
    """Loads the apps, so that what is wrong with one is said at once, and chooses what was not said."""
    from taskloom.app import load_apps
    from taskloom.cli.beside import use_running_home

    apps = load_apps(names)
    use_running_home()
    os.environ["TASKLOOM_APPS"] = ",".join(names)
    if not common:
        os.environ.setdefault("TASKLOOM_COMMON_KINDS", "false")
    queues = sorted({each for found in apps for each in found.queues} | ({"default"} if common else set()))
    os.environ.setdefault("TASKLOOM_QUEUES", ",".join(queues))
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64]
    os.environ.setdefault("TASKLOOM_EXECUTOR_ID", f"executor-{host}-{apps[0].name}"[:128])
    _show(apps)
    if register and os.environ.get("TASKLOOM_URL") and any(found.workflows for found in apps):
        _register(apps)


def _register(apps: "list[App]") -> None:
    """Stores the apps' workflows. A server that is away, or says no, does not keep the executor from running tasks."""
    from taskloom.client import ClientError

    try:
        stored = asyncio.run(_stored(apps))
    except ClientError as error:
        print(f"the workflows are not stored: {error}", file=sys.stderr)
        return
    for name, revision in stored.items():
        print(f"stored {name}, revision {revision}")


async def _stored(apps: "list[App]") -> dict[str, int]:
    from taskloom.app import register_definitions
    from taskloom.client import AsyncClient

    async with AsyncClient() as client:
        found = [await register_definitions(client, app) for app in apps]
    return {name: revision for each in found for name, revision in each.items()}


def _show(apps: "list[App]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("kind", "arguments", "runs", "queue", box=None, pad_edge=False)
    for app in apps:
        for kind, task in sorted(app.tasks.items()):
            how = "in a process" if task.process else "in the loop" if task.is_async else "in a thread"
            table.add_row(kind, ", ".join(task.signature.codecs) or "none", how, task.queue)
        for name, workflow in sorted(app.workflows.items()):
            table.add_row(name, ", ".join(workflow.signature.codecs) or "none", f"workflow {workflow.version}", "")
    console = Console(width=None if os.isatty(1) else 120)
    console.print(table)
