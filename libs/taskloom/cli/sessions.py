"""``taskloom sessions``: tasks that belong together."""

from typing import Annotated

import typer

from taskloom.cli import completing
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Url, answer, connected
from taskloom.cli.show import ago, moment, print_json, state_text
from taskloom.cli.waterfall import first_line
from taskloom.client import session_calls as calls
from taskloom.client.session_calls import SessionChoice, SessionHistory, SessionPage

app = typer.Typer(help="Tasks that belong together.", no_args_is_help=True, add_completion=False)

Id = Annotated[
    str,
    typer.Argument(
        metavar="SESSION", help="Id of the session.", show_default=False, autocompletion=completing.sessions
    ),
]


@app.command("list")
def list_sessions(
    text: Annotated[str, typer.Option(help="With this text in title or id.")] = "",
    user: Annotated[str, typer.Option(help="Of this user.")] = "",
    active: Annotated[bool, typer.Option("--active", help="Something happened within 24 hours.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    cursor: Annotated[str, typer.Option(help="Go on where the last page ended.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List sessions, newest first."""
    chosen: SessionChoice = {"q": text, "user_id": user, "limit": limit, "cursor": cursor}
    if active:
        chosen["active"] = True
    answer(url, calls.list_sessions(chosen), as_json, _show_page)


@app.command()
def show(
    session: Id,
    as_of: Annotated[str, typer.Option(metavar="TIME", help="As it was at an RFC 3339 time.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Show a session's tasks, oldest first."""
    answer(url, calls.history(session, as_of=as_of), as_json, _show_history)


@app.command()
def title(
    session: Id,
    text: Annotated[str, typer.Argument(help="1 to 60 characters.")],
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Give a session a title."""
    answer(url, calls.title(session, text), as_json, lambda done: print(done.title))


@app.command()
def delete(session: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Remove a session. Its tasks stay; one submitted under its id later begins a new session."""
    with connected(url) as client:
        client.sessions.delete(session)
    if as_json:
        print_json({"session_id": session, "success": True})
    else:
        print(f"{session} is removed")


def _show_page(page: SessionPage) -> None:
    columns = (
        *(Column("session"), Column("title", 1, most=40), Column("tasks", right=True), Column("failed", 2, right=True)),
        *(Column("tokens", 5, right=True), Column("cost", 6, right=True), Column("last", 3)),
        Column("newest task", 4, most=40),
    )
    rows = [
        (
            *(each.session_id, each.title, f"{each.task_count:,}", f"{each.failed_tasks:,}"),
            *(f"{each.tokens_used:,}", f"{each.total_cost_usd:.4f}", ago(each.updated_at)),
            first_line(each.latest_task_query or each.latest_task_id),
        )
        for each in page.sessions
    ]
    print_listing(columns, rows, empty="no sessions", cursor=f"--cursor {page.next_cursor}" if page.next_cursor else "")


def _show_history(history: SessionHistory) -> None:
    columns = (
        *(Column("task"), Column("state"), Column("kind", 3), Column("started", 2)),
        *(Column("query", 1, most=40), Column("result", 4, most=60)),
    )
    rows = [
        (
            *(task.task_id, state_text(task.state), task.kind, moment(task.started_at)[:-4]),
            *(first_line(task.query), first_line(task.error_message or task.result)),
        )
        for task in history.tasks
    ]
    print_listing(columns, rows, empty="no tasks")
