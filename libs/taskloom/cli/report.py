"""``taskloom report``: what the system has done, hour by hour."""

from typing import Annotated, Final

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import console, seconds_text
from taskloom.client import calls
from taskloom.client import figures as f

BAR_CHARS: Final = 40
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_HEIGHTS: Final = " ▁▂▃▄▅▆▇█"

Hours = Annotated[int, typer.Option(min=1, max=168, help="Hours to look at, the current one being the last.")]
Every = Annotated[bool, typer.Option("--all", help="Draw the hours in which nothing ended, too.")]


def command(hours: Hours = 24, every: Every = False, as_json: Json = False, url: Url = HERE) -> None:
    """Draw throughput, executors and deadlines of the last hours."""
    answer(url, calls.report(hours), as_json, lambda found: console().print(drawn(found, every=every)))


def drawn(report: f.Report, *, every: bool = False) -> Group:
    trends = report.performance_trends.hourly_trends
    ended = [trend.completed_tasks + trend.failed_tasks for trend in trends]
    return Group(
        _now(report.current_metrics),
        Text(),
        Text.assemble(("tasks per hour  ", "dim"), sparkline(ended), (f"  most {max(ended, default=0):,}", "dim")),
        _hours([trend for trend in trends if every or trend.completed_tasks or trend.failed_tasks]),
        Text(),
        _agents(report.agent_metrics),
        Text(),
        _sums(report),
    )


def sparkline(values: list[int]) -> str:
    """A character a value, as high as the value is in the largest; a value above 0 is never left out."""
    most = max(values, default=0)
    return "".join(_HEIGHTS[-(-value * 8 // most) if most else 0] for value in values)


def bar(value: int, most: int, width: int = BAR_CHARS) -> str:
    """``value`` of ``most`` as a bar, to an eighth of a character."""
    eighths = -(-value * width * 8 // most) if most else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _now(now: f.SystemMetrics) -> Text:
    return Text.assemble(
        (f"{now.concurrent_tasks:,}", "bold cyan"), f" running (at most {now.peak_concurrent_tasks:,} this hour), ",
        (f"{now.tasks_per_minute:,}", "bold"), " completed in the last minute, ",
        (f"{now.total_tasks_processed:,}", "bold"), f" ended in all; {now.active_agents} executors ready",
    )  # fmt: skip


def _hours(trends: list[f.HourlyTrend]) -> Table | Text:
    if not trends:
        return Text("no task ended in this time", style="dim")
    most = max(trend.completed_tasks + trend.failed_tasks for trend in trends)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("hour")
    for name in ("completed", "failed", "success", "duration"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True, overflow="crop")
    for trend in trends:
        good = bar(trend.completed_tasks, most)
        table.add_row(
            trend.timestamp.astimezone().strftime("%m-%d %H:%M"),
            f"{trend.completed_tasks:,}",
            Text(f"{trend.failed_tasks:,}", style="red" if trend.failed_tasks else ""),
            f"{trend.success_rate_percent:g} %" if trend.completed_tasks or trend.failed_tasks else "",
            seconds_text(trend.average_duration_seconds) if trend.completed_tasks else "",
            Text.assemble((good, "green"), (bar(trend.failed_tasks, most), "red")),
        )
    return table


def _agents(agents: dict[str, f.AgentMetrics]) -> Table | Text:
    if not agents:
        return Text("no executor has ended an attempt in this time", style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("executor", overflow="fold")
    for name in ("attempts", "failed", "success", "duration", "wait"):
        table.add_column(name, justify="right")
    for name, held in agents.items():
        table.add_row(
            name,
            f"{held.total_tasks:,}",
            Text(f"{held.failed_tasks:,}", style="red" if held.failed_tasks else ""),
            f"{held.success_rate_percent:g} %",
            seconds_text(held.average_duration_seconds),
            seconds_text(held.average_wait_seconds),
        )
    return table


def _sums(report: f.Report) -> Table:
    sla, runs, used = report.sla_metrics, report.workflow_metrics, report.resource_metrics
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row(
        "deadlines",
        Text.assemble(
            (f"{sla.compliance_rate_24h:g} % met", "green" if not sla.last_24h else "yellow"),
            f" in 24 h; {sla.last_24h:,} violated, {sla.last_hour:,} of them in the last hour",
        ),
    )
    table.add_row(
        "workflows",
        f"{runs.total_workflows:,} ended, {runs.average_step_count:g} steps, "
        f"{seconds_text(runs.average_duration_seconds)} on average, "
        f"{seconds_text(runs.shortest_workflow_seconds)} to {seconds_text(runs.longest_workflow_seconds)}",
    )
    table.add_row(
        "resources",
        f"{used.average_cpu_percent:g} % of a core on average, {used.peak_cpu_percent:g} % at most; "
        f"{used.average_memory_mb:,.1f} MiB, {used.peak_memory_mb:,.1f} MiB at most; {used.sample_count:,} samples",
    )
    return table
