"""``taskloom diff``."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from taskloom.cli import completing
from taskloom.cli.remote import HERE, Json, TaskArgument, Url, answer
from taskloom.cli.show import console, state_text
from taskloom.client import fork_calls
from taskloom.client.fork_calls import Difference, Side, StepSide

SHOWN_CHARS = 60

Other = Annotated[
    str,
    typer.Argument(metavar="OTHER", help="Id of the other.", show_default=False, autocompletion=completing.tasks),
]


def command(
    task: TaskArgument,
    other: Other,
    a_version: Annotated[int | None, typer.Option(help="The first as of this event number.")] = None,
    b_version: Annotated[int | None, typer.Option(help="The other as of this event number.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show steps that are the same too.")] = False,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Show two tasks side by side: what they were sent with, and what their steps did."""
    call = fork_calls.diff(task, other, a_version, b_version, "all" if every else "different")
    answer(url, call, as_json, _show)


def _show(found: Difference) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", f"{found.a.task_id} at {found.a.version}", f"{found.b.task_id} at {found.b.version}"):
        table.add_column(name, overflow="fold")
    table.add_row(Text("state", style="dim"), state_text(found.a.state), state_text(found.b.state))
    for name in ("attempts", "seconds", "result", "error"):
        _row(table, name, _of(found.a, name), _of(found.b, name))
    if found.a.cost_usd or found.b.cost_usd:
        _row(table, "cost, USD", f"{found.a.cost_usd:.6f}", f"{found.b.cost_usd:.6f}")
    for field in found.fields:
        _row(table, field.path, field.a, field.b)
    for pair in found.steps:
        _row(table, f"step {pair.path}", _step(pair.a), _step(pair.b))
    console().print(table)
    differ = f"{found.fields_total} fields and {found.steps_different} of {found.steps_total} steps differ"
    console().print("[green]no difference[/green]" if found.same else differ)


def _of(side: Side, name: str) -> Any:
    value = getattr(side, name)
    return f"{value:.2f}" if isinstance(value, float) else value


def _row(table: Table, name: str, a: Any, b: Any) -> None:
    style = "" if a == b else "yellow"
    table.add_row(Text(name, style="dim"), *(Text(_text(value), style=style) for value in (a, b)))


def _text(value: Any) -> str:
    text = "–" if value in (None, "") else str(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _step(side: StepSide | None) -> str:
    if side is None:
        return ""
    took = "" if side.seconds is None else f" in {side.seconds:.2f} s"
    word = "taken over" if side.restored else f"{side.status}{took}"
    return f"{word} {side.error or side.result}".strip()
