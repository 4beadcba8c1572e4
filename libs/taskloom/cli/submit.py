"""``taskloom submit``: sends a task, and follows it when asked to."""

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import typer

from taskloom.cli import completing
from taskloom.cli.remote import HERE, NOT_ENDED, Json, Url, connected, exit_for
from taskloom.cli.show import console, print_json
from taskloom.cli.task_view import show_task
from taskloom.cli.watch import watch
from taskloom.client import Client, NotEnded, Submission, calls
from taskloom.errors import TaskloomError


def command(
    query: Annotated[str, typer.Argument(help="What to ask; leave it out with --cmd or --kind.")] = "",
    cmd: Annotated[str, typer.Option(help="A shell task: this command, under bash.")] = "",
    kind: Annotated[
        str,
        typer.Option(
            help="echo, sleep, shell, python, http, or a kind an executor brings.", autocompletion=completing.kinds
        ),
    ] = "",
    value: Annotated[
        str, typer.Option("--input", metavar="JSON|@FILE|-", help="Input of the kind: JSON, @file, or - for stdin.")
    ] = "",
    task_id: Annotated[str, typer.Option("--id", help="An id of your own; the same again is the same task.")] = "",
    name: Annotated[str, typer.Option(help="For people.")] = "",
    queue: Annotated[str, typer.Option(help="Queue; default: default.", autocompletion=completing.queues)] = "",
    priority: Annotated[str, typer.Option(help="low, normal, high, urgent, critical, or 1 to 5.")] = "",
    session: Annotated[str, typer.Option(help="Session it belongs to.", autocompletion=completing.sessions)] = "",
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
    capability: Annotated[list[str] | None, typer.Option(help="What its executor must have; may be repeated.")] = None,
    run_at: Annotated[str, typer.Option(metavar="TIME", help="Not before this RFC 3339 time.")] = "",
    attempts: Annotated[int | None, typer.Option(min=1, help="Attempts at most, the first counted.")] = None,
    time_limit: Annotated[float | None, typer.Option(min=0.001, help="Seconds an attempt may take.")] = None,
    key: Annotated[str, typer.Option(help="Idempotency key: the same again is the same task.")] = "",
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until its end.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and show it.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="With --wait: seconds to wait at most, then exit 3.")
    ] = None,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Submit a task and print its id. With --watch or --wait exit 1 when it did not complete."""
    task: Submission = {"query": query, "kind": kind, "task_id": task_id, "name": name, "queue": queue}
    task |= {"session_id": session, "tags": tag or [], "capabilities": capability or [], "run_at": run_at}
    if value:
        task["input"] = read_input(value)
    if cmd:
        task["kind"], task["input"] = kind or "shell", {**task.get("input", {}), "cmd": cmd}
    if priority:
        task["priority"] = int(priority) if priority.isdigit() else priority
    if attempts is not None:
        task["retry"] = {"max_attempts": attempts}
    if time_limit is not None:
        task["timeouts"] = {"start_to_close_s": time_limit}
    with connected(url) as client:
        _run(client, _without_empty(task), key, follow=follow, wait=wait, timeout_s=timeout, as_json=as_json)


def _run(
    client: Client, task: Submission, key: str, *, follow: bool, wait: bool, timeout_s: float | None, as_json: bool
) -> None:
    call = calls.submit(task, idempotency_key=key)
    content = client.raw(call)
    task_id = call.read(content).task_id
    if follow:
        exit_for(watch(client, task_id))
    elif wait:
        _wait(client, task_id, timeout_s, as_json)
    elif as_json:
        print_json(content)
    else:
        print(task_id)


def _wait(client: Client, task_id: str, timeout_s: float | None, as_json: bool) -> None:
    try:
        task = client.wait(task_id, timeout_s=timeout_s)
    except NotEnded as late:
        console(stderr=True).print(f"{late}; look again with: taskloom get {task_id}", soft_wrap=True)
        raise typer.Exit(NOT_ENDED) from late
    if as_json:
        print_json(client.raw(calls.get(task_id)))
    else:
        show_task(task)
    exit_for(task)


def read_input(text: str) -> dict[str, Any]:
    """The JSON object in ``text``, in the file after ``@``, or on stdin for ``-``.

    Raises:
        TaskloomError: it cannot be read, or is no JSON object.
    """
    try:
        content = sys.stdin.read() if text == "-" else Path(text[1:]).read_text() if text.startswith("@") else text
        found: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise TaskloomError(f"--input {text[:100]!r}: {error}; give a JSON object, @file or -") from error
    return found


def _without_empty(task: Submission) -> Submission:
    return cast(Submission, {name: value for name, value in task.items() if value not in ("", [])})
