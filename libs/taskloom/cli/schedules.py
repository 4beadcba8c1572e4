"""``taskloom schedules``: tasks that run by the clock."""

from typing import Annotated, Any

import typer
from rich.table import Table

from taskloom.cli import completing
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Reason, Url, answer
from taskloom.cli.show import ago, console, moment, seconds_text, state_text
from taskloom.cli.submit import read_input
from taskloom.client import schedule_calls as calls
from taskloom.client.schedule_calls import ScheduleWish

app = typer.Typer(help="Tasks that run by the clock.", no_args_is_help=True, add_completion=False)

Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the schedule.", show_default=False, autocompletion=completing.schedules),
]


@app.command("list")
def list_schedules(
    status: Annotated[str, typer.Option(help="ACTIVE, PAUSED or ALL.")] = "ALL",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List schedules, newest first."""
    answer(url, calls.list_schedules(1, 100, status.upper()), as_json, _show_page)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name, for people.", show_default=False)],
    cron: Annotated[str, typer.Option(help="Five fields: minute hour day month weekday.")] = "",
    every: Annotated[float | None, typer.Option(min=1, metavar="SECONDS", help="Every so many seconds.")] = None,
    at: Annotated[str, typer.Option(metavar="TIME", help="Once, at this RFC 3339 time.")] = "",
    timezone: Annotated[str, typer.Option("--tz", help="IANA zone of the cron expression.")] = "UTC",
    kind: Annotated[str, typer.Option(help="Kind of the tasks; without one --query is needed.")] = "",
    task_input: Annotated[
        str, typer.Option("--input", "-i", metavar="JSON|@FILE|-", help="Input of the tasks: JSON, @file or - (stdin).")
    ] = "{}",
    query: Annotated[str, typer.Option(help="What each run is asked.")] = "",
    overlap: Annotated[str, typer.Option(help="While a run is open: skip, buffer_one, allow, cancel_other.")] = "skip",
    catch_up: Annotated[str, typer.Option(help="Missed runs: none, last, all, window.")] = "last",
    jitter: Annotated[float, typer.Option(min=0, help="Each run begins up to so many seconds later.")] = 0.0,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Create a schedule from one of --cron, --every and --at, and print its id."""
    wish: ScheduleWish = {"name": name, "overlap": overlap, "catch_up": catch_up, "jitter_s": jitter}
    if cron:
        wish |= {"cron_expression": cron, "timezone": timezone}
    if every is not None:
        wish["interval_s"] = every
    if at:
        wish["at"] = at
    if kind:
        wish["task"] = {"kind": kind, "input": read_input(task_input)}
    if query:
        wish["task_query"] = query
    answer(url, calls.create(wish), as_json, lambda made: print(made.schedule_id))


@app.command()
def show(name: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Show a schedule and its next due times."""
    answer(url, calls.get(name), as_json, _show_one)
    if not as_json:
        answer(url, calls.upcoming(name), False, _show_upcoming)


@app.command()
def runs(name: Id, as_json: Json = False, url: Url = HERE) -> None:
    """List the newest runs of a schedule."""
    answer(url, calls.runs(name, 1, 50), as_json, _show_runs)


@app.command()
def pause(name: Id, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Hold a schedule; its due times until it is resumed do not run."""
    answer(url, calls.control(name, "pause", reason), as_json, _say)


@app.command()
def resume(name: Id, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Let a paused schedule go on."""
    answer(url, calls.control(name, "resume", reason), as_json, _say)


@app.command()
def run(name: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Run it now, whatever else of it runs."""
    answer(url, calls.control(name, "run"), as_json, _say)


@app.command()
def backfill(
    name: Id,
    start: Annotated[str, typer.Option(help="From this RFC 3339 time.", show_default=False)],
    end: Annotated[str, typer.Option(help="Until before this one.", show_default=False)],
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Run it for due times that have passed, at most 100."""
    answer(url, calls.backfill(name, start, end), as_json, _say)


@app.command()
def remove(name: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Remove a schedule. Open runs go on."""
    answer(url, calls.remove(name), as_json, _say)


@app.command()
def preview(
    cron: Annotated[str, typer.Argument(help="Five fields: minute hour day month weekday.", show_default=False)],
    timezone: Annotated[str, typer.Option("--tz", help="IANA zone.")] = "UTC",
    count: Annotated[int, typer.Option(min=1, max=100)] = 5,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """When a cron expression is due, without making a schedule of it."""
    answer(url, calls.preview(cron, timezone, count), as_json, _show_upcoming)


def _say(changed: calls.ChangedSchedule) -> None:
    print(changed.message + (f", next run {moment(changed.next_run_at)}" if changed.next_run_at else ""))


def timing(schedule: calls.Schedule) -> str:
    if schedule.cron_expression:
        return f"{schedule.cron_expression} {schedule.timezone}"
    return f"every {schedule.interval_s:g} s" if schedule.interval_s else f"once, {moment(schedule.at)}"


def _show_page(page: calls.SchedulePage) -> None:
    columns = (
        *(Column("schedule"), Column("name", 1, most=30), Column("when", 2), Column("status"), Column("next run", 3)),
        *(Column("last run", 6), Column("runs", 5, right=True)),
        *(Column("failed", 4, right=True), Column("skipped", 7, right=True)),
    )
    rows = [
        (
            *(each.schedule_id, each.name, timing(each), each.status.lower(), moment(each.next_run_at)[:-4]),
            *(ago(each.last_run_at), f"{each.total_runs:,}", f"{each.failed_runs:,}", f"{each.skipped_runs:,}"),
        )
        for each in page.schedules
    ]
    print_listing(columns, rows, empty="no schedules")


def _show_one(schedule: calls.Schedule) -> None:
    rows: dict[str, Any] = {
        "name": schedule.name,
        "when": timing(schedule),
        "status": schedule.status.lower() + (f": {schedule.pause_reason}" if schedule.pause_reason else ""),
        "overlap": schedule.overlap,
        "catch up": schedule.catch_up,
        "task": schedule.task.get("kind") or schedule.task.get("query", ""),
        "runs": f"{schedule.total_runs:,}, {schedule.failed_runs:,} failed, {schedule.skipped_runs:,} skipped",
        "open": ", ".join(schedule.open_runs),
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in rows.items():
        if value:
            table.add_row(name, str(value))
    console().print(table)


def _show_upcoming(found: calls.Preview) -> None:
    for due in found.begins:
        print(f"next  {moment(due)}")


def _show_runs(found: calls.ScheduleRuns) -> None:
    columns = (
        *(Column("task"), Column("scheduled for", 2), Column("began", 3), Column("state")),
        *(Column("took", 1, right=True), Column("error", 4, most=60)),
    )
    rows = [
        (
            *(each.task_id, moment(each.scheduled_for)[:-4], moment(each.triggered_at)[:-4]),
            state_text(each.status.removeprefix("TASK_STATUS_").lower()),
            "" if each.duration_ms is None else seconds_text(each.duration_ms / 1000),
            each.error_message,
        )
        for each in found.runs
    ]
    print_listing(columns, rows, empty="no runs yet")
