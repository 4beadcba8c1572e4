"""What the demo tells once its tasks have run: results, a cancel, a timeline, a look back, and why a task waits."""

from collections.abc import Iterable
from typing import Final

from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from taskloom.cli.demo.findings import Achieved, Cancelled, Findings, Held, Log
from taskloom.cli.demo.stage import Stage
from taskloom.cli.goal_tree import goal_tree
from taskloom.cli.show import moment, state_text
from taskloom.cli.waterfall import first_line, waterfall
from taskloom.client import Task

REPORT_LINES: Final = 10


class Teller:
    """Prints the stories."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def heading(self, text: str) -> None:
        self._console.print()
        self._console.rule(Text(text, style="bold"), align="left", style="dim")

    def line(self, text: str | Text) -> None:
        self.show(Text(text) if isinstance(text, str) else text)

    def show(self, what: RenderableType) -> None:
        self._console.print(Padding(what, (0, 0, 0, 2), expand=False))

    async def tell(self, stage: Stage, findings: Findings) -> None:
        """All stories whose acts brought something home; what is missing is in the stage's problems already."""
        self.results(findings)
        if findings.achieved:
            self.achieved(findings.achieved)
        if findings.cancelled:
            self.cancelled(findings.cancelled)
        if findings.retried:
            await self.timeline(stage, findings.retried)
            await self.look_back(stage, findings.retried)
        if findings.held:
            await self.held(stage, findings.held)

    def results(self, findings: Findings) -> None:
        self.heading("What they found")
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        for task in findings.facts:
            table.add_row(task.name.partition(": ")[2], task.result.strip())
        if findings.log:
            for name, text in log_lines(findings.log):
                table.add_row(name, text)
        if findings.priced and findings.priced.completed:
            table.add_row(
                "a loom, shuttles, thread",
                f"{findings.priced.response['body']['total']:.2f} in all, said the price server",
            )
        if findings.answer:
            table.add_row("the assistant", first_line(findings.answer.result))
        if findings.overtaking:
            started = " → ".join(name.partition(": ")[2] for name in findings.overtaking.started)
            table.add_row("order in the one slot", f"{started} (sent last: the urgent one)")
        for task_id, reply in findings.replies.items():
            told = f"{reply.get('state')} at version {reply.get('version')}"
            table.add_row("reply over Kafka", f"{task_id[:14]}… {told}")
        if findings.batch:
            found = findings.batch
            visible = f"all completed and visible after {found.seconds:.2f} s ({found.per_s:,.0f} tasks/s)"
            table.add_row("the batch", f"{found.tasks:,} tasks taken in {found.accepted_s:.2f} s, {visible}")
        self.show(table)

    def achieved(self, found: Achieved) -> None:
        self.heading("A goal: planned, done with tools, its executor killed with -9 in the middle")
        self.show(goal_tree(found.goal))
        self.line(f"killed during: {found.killed_in}; {found.attempts} attempts for {found.tasks} tasks")
        lines = found.report.splitlines()
        self.show(Markdown("\n".join(lines[:REPORT_LINES])))
        self.line(Text(f"… and {len(lines) - REPORT_LINES} more hours in the report", style="dim"))

    def cancelled(self, found: Cancelled) -> None:
        self.heading("A cancel, accounted for")
        wanted = {
            "WORKFLOW_CANCELLING": "requested",
            "CANCEL_SIGNALLED": "signalled",
            "CANCEL_ESCALATED": "escalated",
            "WORKFLOW_CANCELLED": "confirmed",
        }
        events = [event for event in found.events if event.type in wanted]
        table = Table.grid(padding=(0, 2))
        for event in events:
            since_s = (event.timestamp - events[0].timestamp).total_seconds()
            table.add_row(wanted[event.type], f"+{since_s:.3f} s", Text(event.message, style="dim"))
        self.show(table)
        self.line(f"processes of the task before: {found.before}; left: {found.left}")

    async def timeline(self, stage: Stage, task: Task) -> None:
        self.heading(f"The timeline of “{task.name}”, from its events")
        self.show(waterfall(await stage.client.events(task.task_id)))

    async def look_back(self, stage: Stage, task: Task) -> None:
        """The task as it was when its first retry was due, beside what it is now."""
        events = await stage.client.events(task.task_id)
        version = next((event.seq for event in events if event.type == "ERROR_RECOVERY"), 0)
        if not version:
            stage.check(False, f"{task.name}: no retry in its history to look back at")
            return
        then = await stage.client.get(task.task_id, as_of=version)
        self.heading("The same task as of an earlier moment")
        self.line(Text(f"GET /api/v1/tasks/{task.task_id}?as_of={version}", style="dim"))
        self.show(beside(then, task))
        stage.check(
            (then.state, then.attempt, then.version) == ("retrying", 1, version),
            f"{task.name}: as of version {version} it is {then.state} in attempt {then.attempt}",
        )

    async def held(self, stage: Stage, found: Held) -> None:
        """What /why says; then the task is cancelled, which ends it without ever having run."""
        self.heading(f"Why “{found.row.title}” does not run")
        self.line(Text(f"GET /api/v1/tasks/{found.row.task_id}/why", style="dim"))
        for gate in found.why.gates:
            since = f", since {moment(gate.since)}" if gate.since else ""
            self.line(f"{gate.gate}: {gate.detail}{since}")
        found.row.expect = "cancelled"
        await stage.client.cancel(found.row.task_id, "no GPU will come")
        ended = await stage.ended(found.row)
        self.line(f"cancelled: {ended.state}, after {ended.attempt} attempts")


def beside(then: Task, now: Task) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", f"version {then.version}", f"now, version {now.version}"):
        table.add_column(name)
    rows: list[tuple[str, str | Text, str | Text]] = [
        ("state", state_text(then.state), state_text(now.state)),
        ("status", then.word, now.word),
        ("attempt", f"{then.attempt} of {then.max_attempts}", f"{now.attempt} of {now.max_attempts}"),
        ("error", Text(then.error), Text(now.error)),
        ("result", Text(then.result), Text(now.result)),
        ("changed", moment(then.updated_at), moment(now.updated_at)),
    ]
    for name, before, after in rows:
        table.add_row(Text(name, style="dim"), before or "–", after or "–")
    return table


def log_lines(log: Log) -> Iterable[tuple[str, str]]:
    statistics = log.statistics
    yield "the log", f"{log.lines:,} lines, {log.size_bytes / 1e6:.1f} MB"
    yield "errors by service", ", ".join(" ".join(reversed(line.split())) for line in log.by_service.splitlines())
    yield "most frequent errors", ", ".join(_count_last(line) for line in log.top_messages.splitlines())
    yield "worst hours", ", ".join(log.worst_hours.splitlines())
    percentiles = ", ".join(f"{name} {statistics[f'{name}_ms']:.0f} ms" for name in ("p50", "p90", "p99"))
    yield "latency", f"{percentiles}, mean {statistics['mean_ms']} ms over {statistics['requests']:,} requests"


def _count_last(line: str) -> str:
    count, _, what = line.strip().partition(" ")
    return f"{what} {count}"
