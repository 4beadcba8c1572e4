"""``taskloom audit``: who changed what, or wanted to."""

from typing import Annotated

import typer
from rich.text import Text

from taskloom.cli import completing
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import moment
from taskloom.client import access_calls as calls
from taskloom.client.access_calls import AuditChoice, AuditEntry, AuditPage


def command(
    user: Annotated[str, typer.Option(help="By this user.")] = "",
    key: Annotated[str, typer.Option(help="With this key: key_…")] = "",
    task: Annotated[str, typer.Option(help="About this task.", autocompletion=completing.tasks)] = "",
    method: Annotated[str, typer.Option(help="POST, PUT, PATCH or DELETE.")] = "",
    route: Annotated[str, typer.Option(help="Of this route: its template, as shown.")] = "",
    status: Annotated[int | None, typer.Option(min=100, max=599, help="Answered with this status.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="From this RFC 3339 time on.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Before this RFC 3339 time.")] = "",
    nobody: Annotated[bool, typer.Option("--nobody", help="Calls without good credentials; for owners.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    cursor: Annotated[str, typer.Option(help="Go on where the last page ended.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List calls that changed something, or wanted to, newest first. Only where keys are asked for is it known who."""
    chosen: AuditChoice = {"user_id": user, "key_id": key, "task_id": task, "method": method.upper(), "route": route}
    chosen |= {"since": since, "until": until, "limit": limit, "cursor": cursor}
    if status is not None:
        chosen["status"] = status
    if refused:
        chosen["refused"] = True
    if nobody:
        chosen["unauthenticated"] = True
    answer(url, calls.audit(chosen), as_json, _show)


def _show(page: AuditPage) -> None:
    columns = (
        *(Column("at"), Column("user", 2), Column("call"), Column("status"), Column("about", 1, most=45)),
        *(Column("key", 5), Column("from", 3), Column("trace", 6), Column("tenant", 4)),
    )
    cursor = f"--cursor {page.next_cursor}" if page.next_cursor else ""
    print_listing(columns, [_row(each) for each in page.entries], empty="nothing was written down", cursor=cursor)


def _row(entry: AuditEntry) -> list[str | Text]:
    status = Text(str(entry.status), style="red" if entry.status >= 400 else "green")
    about = entry.task_id or ", ".join(entry.named.values())
    who = entry.user_id or entry.by
    if entry.home_user and entry.home_user != entry.user_id:
        who = f"{entry.home_user} for {who}"
    call = f"{entry.method} {entry.route.removeprefix('/api/v1')}"
    return [
        moment(entry.at)[:-4],
        who,
        call,
        status,
        about,
        entry.key_id,
        entry.remote,
        entry.trace_id,
        entry.tenant_id,
    ]
