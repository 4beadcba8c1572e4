"""``taskloom goal``: begins a goal, or draws one: its plan, and how each step is."""

import asyncio
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from taskloom.cli import completing
from taskloom.cli.follow_run import LOOK_S, appeared, listen
from taskloom.cli.goal_tree import goal_tree
from taskloom.cli.remote import HERE, AsOf, Json, Url, answer, connected, exit_for
from taskloom.cli.show import console, print_json
from taskloom.client import AsyncClient, Submission, Task, calls
from taskloom.client.goal_answers import Goal
from taskloom.errors import TaskloomError

SHOW = "show"


def command(
    text: Annotated[str, typer.Argument(help="What is to be achieved; or show, with the id of a goal.")],
    task: Annotated[
        str, typer.Argument(help="With show: the goal's id.", autocompletion=completing.tasks, metavar="[TASK]")
    ] = "",
    tools: Annotated[
        list[str] | None,
        typer.Option("--tools", metavar="SERVER[:TOOL,…]", help="Tools it may use; may be repeated. Else none."),
    ] = None,
    review: Annotated[bool, typer.Option("--review", help="Somebody approves each plan before it runs.")] = False,
    model: Annotated[str, typer.Option(metavar="[PROVIDER/]MODEL", help="Which model to ask.")] = "",
    agent: Annotated[str, typer.Option(help="The executor that shell commands run on.")] = "",
    plan: Annotated[str, typer.Option(metavar="@FILE", help="A plan of your own: a JSON list of steps.")] = "",
    tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens it may use.")] = None,
    session: Annotated[str, typer.Option(help="Session it belongs to.", autocompletion=completing.sessions)] = "",
    task_id: Annotated[str, typer.Option("--id", help="An id of your own; the same again is the same goal.")] = "",
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Redraw it until its end.")] = False,
    as_of: AsOf = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Begin a goal and print its id, or draw one; with --watch exit 1 when it was not achieved."""
    if text == SHOW and task:
        _show(task, as_of, follow, as_json, url)
        return
    given: dict[str, Any] = {"goal": text, "tools": tools_of(tools or ()), "review": review, "agent_id": agent}
    if model:
        provider, _, name = model.rpartition("/")
        given["model"] = {"provider": provider, "model": name}
    if plan:
        given["steps"] = read_plan(plan)
    kept = {name: value for name, value in given.items() if value or name == "tools"}
    wish: Submission = {"kind": "goal", "query": text, "input": kept}
    if session:
        wish["session_id"] = session
    if task_id:
        wish["task_id"] = task_id
    if tokens is not None:
        wish["budget"] = {"tokens": tokens}
    with connected(url) as client:
        content = client.raw(calls.submit(wish))
        begun = calls.submit(wish).read(content).task_id
    if follow:
        exit_for(asyncio.run(_follow(begun, url)))
    elif as_json:
        print_json(content)
    else:
        print(begun)


def _show(task_id: str, as_of: str, follow: bool, as_json: bool, url: str) -> None:
    if follow and not as_json:
        exit_for(asyncio.run(_follow(task_id, url)))
        return
    answer(url, calls.goal(task_id, as_of), as_json, lambda goal: console().print(goal_tree(goal)))


def tools_of(named: Any) -> dict[str, Any]:
    """``logs``, ``logs:errors,count`` as allowed tools by server; a server alone is all that it has."""
    found: dict[str, Any] = {}
    for one in named:
        server, _, tools = one.partition(":")
        names = [name.strip() for name in tools.split(",") if name.strip()]
        found[server.strip()] = {"tools": names or None}
    return found


def read_plan(text: str) -> list[Any]:
    """The JSON list in the file after ``@``, or in the text.

    Raises:
        TaskloomError: it cannot be read, or is no list.
    """
    try:
        content = Path(text[1:]).read_text() if text.startswith("@") else text
        return msgspec.json.decode(content, type=list[Any])
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise TaskloomError(f"--plan {text[:100]!r}: {error}; give a JSON list of steps, or @file") from error


async def _follow(task_id: str, url: str) -> Task:
    async with AsyncClient(url) as client:
        return await follow_goal(client, task_id, console())


async def follow_goal(client: AsyncClient, task_id: str, out: Console) -> Task:
    """The goal's task, once it has ended; drawn anew at each change, and once where nothing can be redrawn.

    Raises:
        NotFound, Conflict: there is no such task after 10 s, or it is no goal.
    """
    await appeared(client, task_id)
    changed = asyncio.Event()
    with Live(console=out, auto_refresh=False) if out.is_terminal else nullcontext() as live:

        def show(goal: Goal) -> None:
            if live is not None:
                live.update(goal_tree(goal), refresh=True)

        listening = asyncio.create_task(listen(client, task_id, changed))
        try:
            while not listening.done():
                await changed.wait()
                changed.clear()
                show(await client.goal(task_id))
                await asyncio.sleep(LOOK_S)
            await listening
        finally:
            listening.cancel()
        last = await client.goal(task_id)
        show(last)
        if live is None:
            out.print(goal_tree(last))
    return await client.get(task_id)
