"""``taskloom executors``: who runs tasks."""

from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago, state_text
from taskloom.client import calls
from taskloom.client.answers import Executors


def command(as_json: Json = False, url: Url = HERE) -> None:
    """List executors: what they run, and how busy they are."""
    answer(url, calls.executors(), as_json, _show)


def _show(found: Executors) -> None:
    columns = (
        *(Column("executor"), Column("status"), Column("slots", right=True), Column("queues", 3)),
        *(Column("kinds", 1), Column("capabilities", 4), Column("heard", 2)),
    )
    rows = [
        (
            *(each.executor_id, state_text(each.status), f"{each.held} of {each.slots}", ", ".join(each.queues)),
            *(", ".join(each.kinds), ", ".join(each.capabilities), ago(each.last_heartbeat_at)),
        )
        for each in found.executors
    ]
    print_listing(columns, rows, empty="no executor has registered yet")
