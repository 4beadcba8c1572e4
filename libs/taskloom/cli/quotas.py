"""``taskloom quotas``: what a tenant may use and has used, and changing it while everything runs."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.report import bar
from taskloom.cli.show import ago, console
from taskloom.client import Client
from taskloom.client import quota_calls as calls
from taskloom.errors import TaskloomError

app = typer.Typer(help="What a tenant may use, and changing it.", no_args_is_help=True, add_completion=False)

BAR_CHARS = 24
NONE = "none"
_WHOLE = ("tokens_per_day", "tokens_per_month", "tokens", "parallel", "open_tasks")
_MONEY = ("cost_usd_per_day", "cost_usd_per_month", "cost_usd")
_PERIODS = {"per_day": "today", "per_month": "this_month", "": "in_all"}
_SESSION = {"session_tokens": "tokens", "session_cost_usd": "cost_usd", "session_parallel": "parallel"}
_RATE = {"per_minute": "minute", "per_hour": "hour", "per_day": "day"}

Tenant = Annotated[str, typer.Option("--tenant", help="Another tenant than one's own: for owners.")]
Limit = Annotated[str | None, typer.Option(metavar="N|none", show_default=False)]


@app.command()
def show(tenant: Tenant = "", as_json: Json = False, url: Url = HERE) -> None:
    """Show limits and what is used of them."""
    answer(url, calls.get_quotas(tenant), as_json, _show)


@app.command("set")
def set_quotas(
    tenant: Tenant = "",
    tokens_per_day: Limit = None,
    cost_usd_per_day: Limit = None,
    tokens_per_month: Limit = None,
    cost_usd_per_month: Limit = None,
    tokens: Limit = None,
    cost_usd: Limit = None,
    parallel: Limit = None,
    open_tasks: Limit = None,
    session_tokens: Limit = None,
    session_cost_usd: Limit = None,
    session_parallel: Limit = None,
    tier: Annotated[str, typer.Option(help="Plan of requests, as the settings name it.")] = "",
    per_minute: Limit = None,
    per_hour: Limit = None,
    per_day: Limit = None,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Change some limits, as an owner; what was set before stays beside them. none is without limit."""
    wishes = dict(locals())
    with Client(url) as client:
        before = calls.get_quotas(tenant)
        seen = before.read(client.raw(before))
    wish = _merged(seen.set or {}, {name: text for name, text in wishes.items() if isinstance(text, str) and text})
    if wish == (seen.set or {}):
        raise TaskloomError("nothing to change: give a limit, for example --tokens-per-day 100000")
    answer(url, calls.put_quotas(wish, tenant, expected_version=seen.version), as_json, _show)


@app.command()
def clear(
    tenant: Tenant = "",
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Let the settings hold again, as an owner."""
    answer(url, calls.clear_quotas(tenant, reason), as_json, _show)


def _merged(before: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    """What is set, with the options that were given."""
    wish = {**before, "session": dict(before.get("session") or {}), "rate": dict(before.get("rate") or {})}
    for option, text in given.items():
        if option in (*_WHOLE, *_MONEY):
            wish[option] = _number(option, text)
        elif option in _SESSION:
            wish["session"][_SESSION[option]] = _number(option, text)
        elif option in _RATE:
            wish["rate"][_RATE[option]] = _number(option, text)
        elif option == "tier":
            wish["tier"] = text
    return {name: each for name, each in wish.items() if each != {} or name in before}


def _number(option: str, text: str) -> float | None:
    if text == NONE:
        return None
    try:
        return float(text) if "cost" in option else int(text)
    except ValueError as error:
        raise TaskloomError(f"--{option.replace('_', '-')} {text!r} is neither a number nor none") from error


def _show(seen: calls.Quotas) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"tenant {seen.tenant_id}")
    for name in ("limit", "used"):
        table.add_column(name, justify="right")
    table.add_column("")
    for period, key in _PERIODS.items():
        used = seen.used.get(key, calls.Spent())
        for what, spent in (("tokens", used.tokens), ("cost_usd", used.cost_usd)):
            limit = getattr(seen.quota, f"{what}_{period}" if period else what)
            table.add_row(f"{what} {key.replace('_', ' ')}", _text(limit), f"{spent:,g}", _bar(spent, limit))
    for name in ("parallel", "open_tasks"):
        table.add_row(name.replace("_", " "), _text(getattr(seen.quota, name)), "", "")
    for name in ("tokens", "cost_usd", "parallel"):
        limit = getattr(seen.quota.session, name)
        if limit is not None:
            table.add_row(f"{name} of a session", _text(limit), "", "")
    plan = seen.rate_limits
    per = (
        f"{_text(limit)} a {word}" for word, limit in (("minute", plan.minute), ("hour", plan.hour), ("day", plan.day))
    )
    out = console()
    out.print(table)
    out.print(f"requests by each key: {', '.join(per)} (tier {seen.tier})", markup=False)
    if seen.set is not None:
        out.print(f"changed {ago(seen.changed_at)} by {seen.changed_by}", markup=False)


def _text(limit: float | None) -> str:
    return NONE if limit is None else f"{limit:,g}" if isinstance(limit, float) else f"{limit:,}"


def _bar(spent: float, limit: float | None) -> Text:
    if not limit:
        return Text("")
    share = min(1.0, spent / limit)
    return Text(
        bar(round(share * 1000), 1000, BAR_CHARS), style="red" if share >= 1 else "yellow" if share > 0.9 else "green"
    )
