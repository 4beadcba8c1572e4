"""``taskloom executors``: who runs tasks."""

from rich.table import Table

from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago, console, state_text
from taskloom.client import calls
from taskloom.client.answers import Executors


def command(as_json: Json = False, url: Url = HERE) -> None:
    """List executors: what they run, and how busy they are."""
    answer(url, calls.executors(), as_json, _show)


def _show(found: Executors) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("executor", "status", "slots", "queues", "kinds", "capabilities", "heard"):
        table.add_column(name, overflow="fold")
    for each in found.executors:
        table.add_row(
            each.executor_id,
            state_text(each.status),
            f"{each.held} of {each.slots}",
            ", ".join(each.queues),
            ", ".join(each.kinds),
            ", ".join(each.capabilities),
            ago(each.last_heartbeat_at),
        )
    console().print(table if found.executors else "no executor has registered yet")
