"""``taskloom why``: what holds a task that does not run."""

from rich.text import Text

from taskloom.cli.remote import HERE, Json, TaskArgument, Url, answer
from taskloom.cli.show import ago, console, moment, state_text
from taskloom.client import Why, calls


def command(task: TaskArgument, as_json: Json = False, url: Url = HERE) -> None:
    """Say which gates hold a task, since when, and who holds them."""
    answer(url, calls.why(task), as_json, show_why)


def show_why(why: Why) -> None:
    out = console()
    out.print("the task is", state_text(why.state), "" if why.gates else "and nothing holds it")
    for gate in why.gates:
        since = f", since {moment(gate.since)} ({ago(gate.since)})" if gate.since else ""
        out.print(Text.assemble("  ", (gate.gate, "bold"), f": {gate.detail}{since}"))
        since_of = {lease.task_id: lease.since for lease in gate.leases}
        for holder in gate.held_by:
            held = f", since {moment(since_of[holder])} ({ago(since_of[holder])})" if holder in since_of else ""
            out.print(f"    held by {holder}{held}")
    if why.expected_start:
        out.print(f"  expected to start at {moment(why.expected_start)}")
