"""``taskloom queues``: how deep they are and how long tasks wait."""

from rich.table import Table

from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago, console
from taskloom.client import calls
from taskloom.client.answers import Queue, Queues


def command(as_json: Json = False, url: Url = HERE) -> None:
    """List queues with open tasks, or with tasks in the last five minutes, to which rates and waits refer."""
    answer(url, calls.queues(), as_json, _show)


def _show(found: Queues) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("queue", overflow="fold")
    for name in ("waiting", "open", "oldest", "started", "completed", "per second", "wait p50", "p99"):
        table.add_column(name, justify="right")
    for queue in found.queues:
        table.add_row(
            queue.name,
            f"{queue.depth:,}",
            f"{queue.open:,}",
            ago(queue.oldest_waiting_since),
            f"{queue.started:,}",
            f"{queue.completed:,}",
            f"{queue.completed_per_s:,.1f}",
            *_waits(queue),
        )
    console().print(table if found.queues else "no queue has open or recent tasks")


def _waits(queue: Queue) -> tuple[str, str]:
    return (f"{queue.waits.p50_s:.3f} s", f"{queue.waits.p99_s:.3f} s") if queue.waits else ("", "")
