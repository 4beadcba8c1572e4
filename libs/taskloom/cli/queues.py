"""``taskloom queues``: how deep they are and how long tasks wait."""

from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago
from taskloom.client import calls
from taskloom.client.answers import Queue, Queues


def command(as_json: Json = False, url: Url = HERE) -> None:
    """List queues with open tasks, or with tasks in the last five minutes, to which rates and waits refer."""
    answer(url, calls.queues(), as_json, _show)


def _show(found: Queues) -> None:
    columns = (
        *(
            Column("queue"),
            Column("waiting", right=True),
            Column("open", 1, right=True),
            Column("oldest", 2, right=True),
        ),
        *(Column("started", 6, right=True), Column("completed", 5, right=True), Column("per second", 4, right=True)),
        *(Column("wait p50", 3, right=True), Column("p99", 3, right=True)),
    )
    rows = [
        (
            *(queue.name, f"{queue.depth:,}", f"{queue.open:,}", ago(queue.oldest_waiting_since)),
            *(f"{queue.started:,}", f"{queue.completed:,}", f"{queue.completed_per_s:,.1f}", *_waits(queue)),
        )
        for queue in found.queues
    ]
    print_listing(columns, rows, empty="no queue has open or recent tasks")


def _waits(queue: Queue) -> tuple[str, str]:
    return (f"{queue.waits.p50_s:.3f} s", f"{queue.waits.p99_s:.3f} s") if queue.waits else ("", "")
