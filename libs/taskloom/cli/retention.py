"""``taskloom retention``: what is old in the read tables, out of them, and back."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from taskloom.cli.show import console, print_json

if TYPE_CHECKING:
    from taskloom.retention.report import Found
    from taskloom.retention.settings import Cutoffs

app = typer.Typer(help="Old rows out of the read tables, and back. Events stay.", add_completion=False)

Dsn = Annotated[str, typer.Option(envvar="TASKLOOM_DATABASE_DSN", help="PostgreSQL DSN of store and views")]
Days = Annotated[
    float | None, typer.Option(metavar="DAYS", min=0, help="In place of the setting; 0: for ever.", show_default=False)
]
_AGES: Final = {
    "tasks": ("completed", "failed"),
    "approvals": ("completed", "failed"),
    "steps": ("completed", "failed"),
    "variables": ("completed", "failed"),
    "goals": ("completed", "failed"),
    "traces": ("traces", "completed", "failed"),
    "outputs": ("output", "completed", "failed"),
    "usage": ("usage",),
    "metrics": ("metrics",),
    "audit": ("audit",),
}


@app.callback(invoke_without_command=True)
def sweep(
    context: typer.Context,
    dsn: Dsn = "",
    apply: Annotated[bool, typer.Option("--apply", help="Take out what is shown without it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show; the default.")] = False,
    tenant: Annotated[str, typer.Option(help="Tasks of this tenant alone.")] = "",
    completed_days: Days = None,
    failed_days: Days = None,
    output_days: Days = None,
    traces_days: Days = None,
    usage_days: Days = None,
    metrics_days: Days = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Draw what is older than the settings let it be, or with --apply take it out. What is open is never touched."""
    if context.invoked_subcommand is not None:
        return
    if apply and dry_run:
        raise typer.BadParameter("is one of the two; leave one out", param_hint="--apply, --dry-run")
    from taskloom.retention.settings import RetentionSettings
    from taskloom.settings import load

    given = {
        "completed": completed_days, "failed": failed_days, "output": output_days,
        "traces": traces_days, "usage": usage_days, "metrics": metrics_days,
    }  # fmt: skip
    overrides = {f"retention_{name}_days": days for name, days in given.items() if days is not None}
    cutoffs = load(RetentionSettings, **overrides).cutoffs(datetime.now(UTC))
    found = _swept(_needed(dsn), cutoffs, apply, tenant)
    if as_json:
        print_json(_as_json(found, apply))
        return
    console().print(drawn(found, cutoffs, apply=apply, tenant=tenant))


@app.command()
def restore(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Ids; of a step's task: its whole run.")],
    dsn: Dsn = "",
    partitions: Annotated[int, typer.Option(envvar="TASKLOOM_PARTITIONS", min=1, max=64)] = 8,
    shards: Annotated[int, typer.Option(envvar="TASKLOOM_SHARDS", min=1, max=64)] = 2,
) -> None:
    """Bring retired tasks back into the lists, a run with the tasks of its steps. Output does not come back."""
    from taskloom.retention.restore import Restored, restore_wanted, want
    from taskloom.store.history import HistoryReader

    where = _needed(dsn)
    wanted = want(where, tasks)

    async def bring_back() -> Restored:
        async with HistoryReader(where, partitions=partitions, shards=shards, max_connections=1) as history:
            return await restore_wanted(where, history)

    restored = asyncio.run(bring_back())
    if not wanted:
        typer.echo("none of these is retired")
        raise typer.Exit(1)
    typer.echo(f"{restored.tasks} tasks are there again")
    if restored.later:
        typer.echo(f"{len(restored.later)} follow once the projection has read their events: {restored.later[0]}, …")


def _needed(dsn: str) -> str:
    if not dsn:
        raise typer.BadParameter("say where PostgreSQL is, or set TASKLOOM_DATABASE_DSN", param_hint="--dsn")
    return dsn


def _swept(dsn: str, cutoffs: "Cutoffs", apply: bool, tenant: str) -> "Found":
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from taskloom.retention.sweep import Sweep

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, soft_wrap=True), transient=True) as progress:
        bar = progress.add_task("looking for old rows")
        told = _teller(lambda text: progress.update(bar, description=text))
        return Sweep(dsn, cutoffs, apply=apply, tenant_id=tenant, progress=told).run()


def _teller(say: Callable[[str], None]) -> "Callable[[Found], None]":
    return lambda found: say(f"{found.of('tasks').rows:,} tasks, {found.rows:,} rows")


def drawn(found: "Found", cutoffs: "Cutoffs", *, apply: bool, tenant: str = "") -> Table | Text:
    """A line for each kind of row: how old it may be, how many go or went, and of which tenants most."""
    from taskloom.retention.report import KINDS

    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.add_column("rows")
    table.add_column("older than")
    table.add_column("went" if apply else "would go", justify="right")
    table.add_column("size", justify="right")
    table.add_column("most of tenants")
    for kind, words in KINDS.items():
        if tenant and kind in ("usage", "metrics", "audit"):
            continue
        count = found.of(kind)
        table.add_row(
            words,
            _ages(kind, cutoffs),
            Text(f"{count.rows:,}", style="bold" if count.rows else "dim"),
            decimal(count.bytes) if count.bytes else "",
            Text(", ".join(_tenants(found, kind)), style="dim"),
        )
    if found.held_back:
        table.caption_justify, table.caption = "left", _held_back(found.held_back)
    if not apply and found.rows:
        table.title = Text("nothing was removed: --apply removes it", style="yellow")
    return table


def _held_back(number: int) -> str:
    return f"{number:,} old ones stay: a task of their steps has not ended, or they were in use just then"


def _ages(kind: str, cutoffs: "Cutoffs") -> Text:
    """The time before which it is old; two where outcomes differ."""
    times = list(dict.fromkeys(at for name in _AGES[kind] if (at := getattr(cutoffs, name)) is not None))
    if not times:
        return Text("kept for ever", style="dim")
    return Text(" / ".join(at.strftime("%Y-%m-%d %H:%M") for at in times))


def _tenants(found: "Found", kind: str, most: int = 3) -> list[str]:
    counts = sorted(((count.rows, name) for (name, of), count in found.counts.items() if of == kind), reverse=True)
    return [f"{name or 'nobody'} {rows:,}" for rows, name in counts[:most]]


def _as_json(found: "Found", apply: bool) -> dict[str, object]:
    rows = [
        {"tenant_id": tenant_id, "kind": kind, "rows": count.rows, "bytes": count.bytes}
        for (tenant_id, kind), count in sorted(found.counts.items())
    ]
    return {"applied": apply, "held_back": found.held_back, "rows": rows}
