"""``taskloom agents``: machines that connect from outside."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from taskloom.cli.remote import HERE, Json, Reason, Url, answer
from taskloom.cli.show import ago, console, state_text
from taskloom.client import agent_calls as calls
from taskloom.client.agent_calls import Agent, AgentChanged, Agents, Enrolled

app = typer.Typer(
    help="Agents: machines that connect from outside and run tasks.", no_args_is_help=True, add_completion=False
)

Id = Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent.", show_default=False)]


@app.command("list")
def list_agents(as_json: Json = False, url: Url = HERE) -> None:
    """List agents: whether they are there, and how their machines are."""
    answer(url, calls.machines(), as_json, _show_list)


@app.command()
def show(agent: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Show an agent."""
    answer(url, calls.get(agent), as_json, _show)


@app.command()
def enroll(
    agent: Id,
    description: Annotated[str, typer.Option(help="What it is for; shown in lists.")] = "",
    expires_in_days: Annotated[float | None, typer.Option(min=0.001, help="Default: it does not expire.")] = None,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Let an agent in, and print its token: this once, for it is stored nowhere. Again: a new token."""
    until = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    answer(url, calls.enroll(agent, description, until), as_json, _show_token)


@app.command()
def revoke(agent: Id, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Turn an agent away: its token stops working, and it stops what it runs."""
    answer(url, calls.revoke(agent, reason), as_json, _say)


@app.command()
def drain(agent: Id, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Give an agent no more work; what it has goes on."""
    answer(url, calls.drain(agent, reason), as_json, _say)


@app.command()
def undrain(agent: Id, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Give an agent work again."""
    answer(url, calls.drain(agent, reason, undo=True), as_json, _say)


def _show_list(found: Agents) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("agent", "status", "slots", "host", "cpu", "memory", "disk", "queues", "labels", "heard"):
        table.add_column(name, overflow="fold")
    for each in found.agents:
        machine, metrics = each.machine, each.machine.metrics if each.machine is not None else None
        if machine is None:
            continue
        status = "draining" if machine.draining and machine.status == "online" else machine.status
        table.add_row(
            Text(each.id),
            state_text(status),
            f"{machine.held} of {machine.slots}",
            Text(machine.host),
            "" if metrics is None else f"{metrics.cpu_percent:.0f} % of {metrics.cpu_count}",
            "" if metrics is None else _share(metrics.memory_used_bytes, metrics.memory_total_bytes),
            "" if metrics is None else _share(metrics.disk_used_bytes, metrics.disk_total_bytes),
            Text(", ".join(machine.queues)),
            Text(", ".join(f"{name}={value}" for name, value in machine.labels.items())),
            "never" if machine.last_seen_at is None else ago(machine.last_seen_at),
        )
    console().print(table if found.agents else "no agent is enrolled; `taskloom agents enroll ID` lets one in")


def _share(used: int, total: int) -> str:
    return f"{used / 1e9:.1f} of {total / 1e9:.1f} GB"


def _show(agent: Agent) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {"agent": agent.id, "description": agent.description}
    if agent.machine is not None:
        machine = agent.machine
        rows |= {
            "status": f"{machine.status}{', draining' if machine.draining else ''}",
            "executor": machine.executor_id,
            "heard": "never" if machine.last_seen_at is None else ago(machine.last_seen_at),
            "host": f"{machine.host} (version {machine.version})",
            "slots": f"{machine.held} of {machine.slots}",
            "queues": ", ".join(machine.queues),
            "capabilities": ", ".join(machine.capabilities),
            "labels": ", ".join(f"{name}={value}" for name, value in machine.labels.items()),
            "gateway": machine.gateway,
        }
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text(value))
    console().print(table)


def _show_token(made: Enrolled) -> None:
    console(stderr=True).print(f"{made.agent_id} is enrolled. This is the only time its token is shown:", markup=False)
    print(made.token)


def _say(changed: AgentChanged) -> None:
    console().print(f"{changed.agent_id}: {changed.message}", markup=False)
