"""``taskloom sessions``: tasks that belong together."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago, console, moment, state_text
from taskloom.client import Client
from taskloom.client import session_calls as calls
from taskloom.client.session_calls import SessionChoice, SessionHistory, SessionPage

app = typer.Typer(help="Tasks that belong together.", no_args_is_help=True, add_completion=False)

Id = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.", show_default=False)]


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
def title(session: Id, text: Annotated[str, typer.Argument(help="1 to 60 characters.")], url: Url = HERE) -> None:
    """Give a session a title."""
    with Client(url) as client:
        print(client.sessions.title(session, text).title)


@app.command()
def delete(session: Id, url: Url = HERE) -> None:
    """Remove a session. Its tasks stay; one submitted under its id later begins a new session."""
    with Client(url) as client:
        client.sessions.delete(session)
    print(f"{session} is removed")


def _show_page(page: SessionPage) -> None:
    table = Table("session", "title", "tasks", "failed", "tokens", "cost", "last", "newest task", box=None)
    for each in page.sessions:
        numbers = (f"{each.task_count:,}", f"{each.failed_tasks:,}", f"{each.tokens_used:,}")
        cost = f"{each.total_cost_usd:.4f}"
        newest = Text(each.latest_task_query[:40] or each.latest_task_id)
        table.add_row(Text(each.session_id), Text(each.title), *numbers, cost, ago(each.updated_at), newest)
    console().print(table if page.sessions else "no sessions")
    if page.next_cursor:
        console().print(f"more: --cursor {page.next_cursor}")


def _show_history(history: SessionHistory) -> None:
    table = Table("task", "state", "kind", "started", "query", "result", box=None)
    for task in history.tasks:
        result = Text((task.error_message or task.result)[:60])
        row = (Text(task.task_id), state_text(task.state), task.kind, moment(task.started_at))
        table.add_row(*row, Text(task.query[:40]), result)
    console().print(table if history.tasks else "no tasks")
