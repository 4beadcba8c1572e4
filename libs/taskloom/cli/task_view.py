"""One task, and lists of tasks, for people."""

from collections.abc import Iterator

import msgspec
from rich.table import Table
from rich.text import Text

from taskloom.cli.listing import Column, print_listing
from taskloom.cli.show import ago, console, moment, seconds_text, span_text, state_text
from taskloom.cli.waterfall import first_line
from taskloom.client import Task, TaskPage

MAX_VALUE_CHARS = 4_000
_OTHERS = 35
"""Width of a list's other columns, with the gaps between them."""


def show_task(task: Task) -> None:
    """Prints what is known about a task, leaving out what is empty."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _fields(task):
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    console().print(table)


def _fields(task: Task) -> Iterator[tuple[str, str | Text]]:
    yield "task", task.task_id
    if task.name:
        yield "name", task.name
    yield "state", Text.assemble(state_text(task.state), (f"  ({task.word}, version {task.version})", "dim"))
    yield "kind", f"{task.kind}, queue {task.queue}, priority {task.priority}"
    executor = f" on {task.executor_id}" if task.executor_id else ""
    yield "attempt", f"{task.attempt} of {task.max_attempts}{executor}"
    if task.progress_message and not task.ended:
        yield "progress", f"{task.progress:.0%} {task.progress_message}"
    yield "created", f"{moment(task.created_at)}  ({ago(task.created_at)})"
    if task.started_at:
        waited_s = (task.started_at - task.created_at).total_seconds()
        yield "started", f"{moment(task.started_at)}  (after {seconds_text(waited_s)})"
    if task.completed_at:
        took = f"  (ran {span_text(task.started_at, task.completed_at)})" if task.started_at else ""
        yield "ended", f"{moment(task.completed_at)}{took}"
    for name, at in (("next try", task.retry_at), ("runs at", task.run_at), ("deadline", task.deadline)):
        if at and not task.ended:
            yield name, moment(at)
    if task.tags:
        yield "tags", ", ".join(task.tags)
    yield from _values(task)


def _values(task: Task) -> Iterator[tuple[str, str | Text]]:
    if task.query:
        yield "query", task.query
    if task.input:
        yield "input", _cut(msgspec.json.encode(task.input).decode())
    if task.error:
        yield "error", Text(f"{task.error_type}: {task.error}" if task.error_type else task.error, style="red")
    if task.exit_code is not None:
        yield "exit code", str(task.exit_code)
    if task.result:
        yield "result", _cut(task.result.rstrip("\n"))
    if task.output_bytes:
        yield "output", f"{task.output_bytes:,} bytes: taskloom output {task.task_id}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]} … ({len(text):,} characters)"


def show_page(page: TaskPage) -> None:
    """Prints a page of a list, newest first, and how to get the next one."""
    out = console()
    ids = max((len(task.task_id) for task in page.tasks), default=0)
    columns = (
        *(Column("task"), Column("state"), Column("try", 2, right=True), Column("took", 1, right=True)),
        # What else there is has to fit beside it, and it is the one that can be cut.
        Column("what", most=max(24, out.width - ids - _OTHERS)),
    )
    rows = []
    for task in page.tasks:
        what = task.name or task.query or task.kind
        told = f"{what}: {task.error}" if task.error else what
        took = span_text(task.started_at, task.completed_at)
        rows.append((task.task_id, state_text(task.state), str(task.attempt), took, first_line(told)))
    print_listing(columns, rows, empty="no tasks")
    least = "" if page.total_is_exact else "at least "
    out.print(f"{len(page.tasks):,} of {least}{page.total_count:,}", style="dim")
    if page.next_cursor:
        out.print(f"more: --cursor {page.next_cursor}", style="dim", soft_wrap=True)
