"""``taskloom usage``: what a tenant used, drawn by day, hour, session or key."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from taskloom.cli.quotas import Tenant
from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.report import bar
from taskloom.cli.show import console
from taskloom.client import quota_calls as calls

BAR_CHARS = 30


class By(StrEnum):
    day = "day"
    hour = "hour"
    session = "session"
    key = "key"


def command(
    by: Annotated[By, typer.Option(help="What each line is of.")] = By.day,
    last: Annotated[int | None, typer.Option(min=1, help="Days, with --by hour hours, that end now.")] = None,
    session: Annotated[str, typer.Option(help="Of this session alone, by day.")] = "",
    key: Annotated[str, typer.Option(help="Of what was submitted with this key alone, by day.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Draw periods in which nothing was used, too.")] = False,
    tenant: Tenant = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Draw what a tenant used: tokens, money, tasks."""
    step = timedelta(hours=1) if by is By.hour else timedelta(days=1)
    since = None if last is None else datetime.now(UTC) - step * (last - 1)
    call = calls.usage(by.value, since=since, session_id=session, key_id=key, tenant_id=tenant)
    answer(url, call, as_json, lambda found: console().print(drawn(found, every=every)))


def drawn(found: calls.Usage, *, every: bool = False) -> Table | str:
    """The bar is of money, or of tokens where nothing cost anything."""
    entries = [each for each in found.usage if every or each.total_tokens or each.cost_usd or each.tasks]
    if not entries:
        return f"nothing was used from {found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC"
    counted = any(each.tasks is not None for each in entries)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(found.by, overflow="fold")
    for name in ("tokens", "USD", "attempts", *(("tasks", "completed") if counted else ())):
        table.add_column(name, justify="right")
    table.add_column("")
    weights = [round(each.cost_usd * 1_000_000) or 0 if found.total.cost_usd else each.total_tokens for each in entries]
    most = max(weights)
    for each, weight in zip(entries, weights, strict=True):
        table.add_row(*_cells(each, counted), f"[green]{bar(weight, most, BAR_CHARS)}[/green]")
    table.add_section()
    total = _cells(found.total, counted)
    table.add_row("in all" if len(entries) == found.total_count or counted else "shown", *total[1:], "", style="bold")
    return table


def _cells(each: calls.UsageEntry, counted: bool) -> list[str]:
    cells = [each.name, f"{each.total_tokens:,}", f"{each.cost_usd:,.4f}", f"{each.attempts:,}"]
    return [*cells, f"{each.tasks or 0:,}", f"{each.completed or 0:,}"] if counted else cells
