"""``taskloom verify``: checks the stored history and the read tables against each other."""

import asyncio
from typing import Annotated

import typer


def command(
    dsn: Annotated[str, typer.Option(envvar="TASKLOOM_DATABASE_DSN", help="PostgreSQL DSN of store and views")],
    partitions: Annotated[int, typer.Option(envvar="TASKLOOM_PARTITIONS", min=1, max=64)] = 8,
    shards: Annotated[int, typer.Option(envvar="TASKLOOM_SHARDS", min=1, max=64)] = 2,
    topic_prefix: Annotated[str, typer.Option(envvar="TASKLOOM_TOPIC_PREFIX")] = "taskloom",
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the projection, and for a difference to go away")
    ] = 30.0,
    show: Annotated[int, typer.Option(min=1, help="Differences to print at most")] = 50,
) -> None:
    """Fold every task anew from the store and name what differs from it; exit 1 when anything does."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from taskloom.replay.verify import Report, Verifier
    from taskloom.store.history import HistoryReader
    from taskloom.views.reading import read_pool
    from taskloom.wire.topics import Topics

    async def verify(progress: Progress) -> Report:
        bar = progress.add_task("reading the store")

        def show_progress(report: Report) -> None:
            progress.update(bar, description=f"{report.tasks:,} tasks, {report.events:,} events")

        pool = read_pool(dsn, max_size=2, query_limit_ms=600_000)
        async with HistoryReader(dsn, partitions=partitions, shards=shards, max_connections=2) as history:
            await pool.open(wait=True, timeout=30.0)
            try:
                verifier = Verifier(
                    history, pool, shards=shards, events_topic=Topics(topic_prefix).events, timeout_s=timeout
                )
                return await verifier.run(show_progress)
            finally:
                await pool.close()

    console = Console(soft_wrap=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        report = asyncio.run(verify(progress))
    looked_at = f"{report.tasks:,} tasks with {report.events:,} events in {report.seconds:.1f} s"
    if not report.differences:
        console.print(f"[green]verified[/green]: {looked_at}; history is unbroken and the read tables match it")
        return
    for difference in report.differences[:show]:
        console.print(f"[red]differs[/red] {difference}", markup=True, highlight=False)
    more = len(report.differences) - show
    if more > 0:
        console.print(f"and {more} more")
    stopped = "" if report.complete else "; there were too many differences to look further"
    console.print(f"[red]{len(report.differences)} differences[/red] in {looked_at}{stopped}")
    raise typer.Exit(1)
