"""Watches two real HTTP services with the prebuilt monitoring workflow, until it is told to stop.

One service goes down, and the workflow's variables show it. The end is a change of a variable through the API.
The prebuilt workflow pauses for 300 s between its rounds; --pause says another number, which is set on its wait step.
Run it beside ``make up``: .venv/bin/python examples/monitoring/run.py
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import httpx
import typer

from examples.monitoring.agent import perform
from examples.monitoring.services import service
from examples.shared.stage import LIMIT_S, LOOK_S, AsJson, Stage, agent_id, beside_taskloom, play, start
from taskloom.client import NotFound
from taskloom.client.tasks import TaskAPI
from taskloom.client.workflows import Workflow, create_monitoring_workflow

Pause = Annotated[float, typer.Option(min=0.1, help="Seconds between two rounds.")]


def main(pause: Pause = 1.0, as_json: AsJson = False) -> None:
    """Watch two HTTP services with the prebuilt monitoring workflow, until it is told to stop."""
    beside_taskloom()
    play(show(Stage(as_json), pause))


async def show(stage: Stage, pause_s: float) -> None:
    with service() as stock, service() as payments:
        workflow = watching({"stock": stock.url, "payments": payments.url}, pause_s)
        async with TaskAPI() as api:
            await api.register_agent(agent_id("watcher"), "watcher", ["monitoring"], perform)
            stage.act("Two services", f"  stock at {stock.url}, payments at {payments.url}; a round each {pause_s:g} s")
            async with stage.executing(api, workflow) as running:
                at_first = await variables_when(api, workflow, running, lambda now: len(now) == 3)
                gates = await stage.wait_for_gate(api, str(workflow.id), running)
                stage.say("[red]payments goes down[/red]")
                payments.go_down()
                afterwards = await variables_when(api, workflow, running, lambda now: now["payments"] == "down")
                stage.say(f"the workflow's variables say it: {afterwards}")
                await stop(stage, api, workflow)
                await running
            rounds = workflow.steps[0].result
            await stage.show_timeline(api, str(workflow.id))
        stage.say(f"it ended after {rounds['iterations']} rounds; 1,000 is its limit")
        told = {"waited_for": gates, "at_first": at_first, "afterwards": afterwards, "rounds": rounds}
        stage.done({"run": str(workflow.id), "status": workflow.status.value, **told})


def watching(addresses: dict[str, str], pause_s: float) -> Workflow:
    workflow = create_monitoring_workflow("watch the shop", "example", list(addresses))
    workflow.context = {"addresses": addresses}
    wait = workflow.get_step_by_id("wait_interval")
    assert wait is not None
    wait.wait_seconds = pause_s
    return workflow


async def variables_when(
    api: TaskAPI, workflow: Workflow, running: "asyncio.Task[Workflow]", fits: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The run's variables as soon as they are as wanted.

    Raises:
        TimeoutError: they never were.
    """
    async with asyncio.timeout(LIMIT_S):
        while not running.done():
            with suppress(NotFound):  # not taken yet
                now = (await api.client.run(str(workflow.id))).variables
                if fits(now):
                    return now
            await asyncio.sleep(LOOK_S)
    await running
    raise TimeoutError("the workflow ended before its variables were as expected")


async def stop(stage: Stage, api: TaskAPI, workflow: Workflow) -> None:
    path = f"/api/v1/tasks/{workflow.id}/variables"
    change = {"values": {"monitoring_active": False}}
    stage.say(f"PATCH {path} {change}")
    async with httpx.AsyncClient(base_url=api.client.base_url, trust_env=False) as http:
        (await http.patch(path, json=change)).raise_for_status()


if __name__ == "__main__":
    start(main)
