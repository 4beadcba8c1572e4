"""Extracts, transforms and loads real CSV files into PostgreSQL with the prebuilt data processing workflow.

What is in the tables afterwards is compared with a computation that shares no code with the workflow. With --kill the
agent is killed when the rows are committed and the step has not reported it yet; they are there once all the same.
Run it beside ``make up``: .venv/bin/python examples/data_processing/run.py
"""

import asyncio
import csv
import os
import re
import signal
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from examples.data_processing.agent import perform
from examples.data_processing.sales import write_sources
from examples.data_processing.warehouse import Warehouse
from examples.shared.stage import LOOK_S, AsJson, Keep, Stage, agent_id, beside_taskloom, play, start, work_directory
from taskloom.client.tasks import TaskAPI
from taskloom.client.workflows import Workflow, create_data_processing_workflow

LINGER_S = 60.0

Rows = Annotated[int, typer.Option(min=1, help="Rows in each of the three files.")]
Kill = Annotated[bool, typer.Option("--kill", help="Kill the agent at the worst moment of the load.")]
Schema = Annotated[str, typer.Option(help="Schema of the warehouse's tables; made anew.")]


def main(
    rows: Rows = 2000, kill: Kill = False, schema: Schema = "example_sales", as_json: AsJson = False, keep: Keep = False
) -> None:
    """Extract, transform and load CSV files with the prebuilt data processing workflow."""
    beside_taskloom()
    if not (dsn := os.environ.get("TASKLOOM_DATABASE_DSN")):
        raise SystemExit(
            "error: no database is known; run `make up` in this directory, or set TASKLOOM_DATABASE_DSN to a database "
            "that agents may write to"
        )
    with Warehouse(dsn, schema) as warehouse:
        warehouse.drop()
        warehouse.create()
        play(show(Stage(as_json), warehouse, rows, kill, schema, keep))


async def show(stage: Stage, warehouse: Warehouse, rows: int, kill: bool, schema: str, keep: bool) -> None:
    with work_directory("sales", keep) as work:
        sources = write_sources(work / "sources", rows)
        stage.act("Sales of three shops", f"  {rows} rows each in {', '.join(source.name for source in sources)}")
        async with TaskAPI() as api:
            workflow = create_data_processing_workflow("sales", "example", [str(source) for source in sources])
            workflow.context = {
                "work_directory": str(work),
                "schema": schema,
                "linger_s": LINGER_S if kill else 0,
            }
            agent = agent_id("etl")
            await api.register_agent(agent, "loader", ["custom"], perform)
            async with stage.executing(api, workflow) as running:
                if kill:
                    await kill_after_commit(stage, api, warehouse, agent, running)
                await running
            load = f"{workflow.id}~step_3"
            attempts = await api.client.executions(load)
            stage.say(f"attempts at the load: {', '.join(attempt.status for attempt in attempts)}")
            await stage.show_timeline(api, load if kill else str(workflow.id))
        found, wanted = in_tables(workflow, warehouse), expected(sources)
        stage.say("[green]✓ the tables hold what they should[/green]" if found == wanted else "[red]✗ wrong[/red]")
        stage.say(f"{found['loaded']} rows loaded, {sum(found['rejected'].values())} rejected: {found['rejected']}")
        stage.say(f"turnover: {found['turnover']}")
        stage.done(
            {
                "run": str(workflow.id),
                "status": workflow.status.value,
                "attempts_at_load": [attempt.status for attempt in attempts],
                "found": found,
                "expected": wanted,
            }
        )
        if found != wanted:
            raise SystemExit(1)


async def kill_after_commit(
    stage: Stage, api: TaskAPI, warehouse: Warehouse, agent: str, running: "asyncio.Task[Workflow]"
) -> None:
    """Kills the agent's process once the rows are committed, and starts it anew: its attempt is then lost at once."""
    while True:
        if running.done() or warehouse.loads():
            break
        await asyncio.sleep(LOOK_S)
    [pid] = [each.pid for each in await api.client.executors() if each.executor_id == agent]
    os.kill(pid, signal.SIGKILL)
    stage.say(f"[red]killed agent {agent} (pid {pid})[/red]: its rows are committed, the step does not know it")
    await api.unregister_agent(agent)
    await api.register_agent(agent, "loader", ["custom"], perform)


def in_tables(run: Workflow, warehouse: Warehouse) -> dict[str, Any]:
    return {
        "extracted": sum(count for name, count in run.variables.items() if name.startswith("extracted_")),
        "rejected": run.variables["rejected_for"],
        "loaded": warehouse.count_orders(),
        "turnover": {country: list(sums) for country, sums in warehouse.turnover().items()},
    }


def expected(sources: list[Path]) -> dict[str, Any]:
    """The same by other means, from the files alone: what the workflow's own code does is not asked."""
    good: dict[str, tuple[str, Decimal]] = {}
    rejected: dict[str, int] = {}
    extracted = 0
    for source in sources:
        for order_id, day, country, quantity, price in list(csv.reader(source.read_text().splitlines()))[1:]:
            extracted += 1
            if not re.fullmatch(r"2026-(?!02-30)\d\d-\d\d", day):
                reason = "no such day"
            elif not re.fullmatch(r"[1-9]\d*", quantity):
                reason = "bad quantity"
            elif not re.fullmatch(r"\d+\.\d\d", price):
                reason = "bad price"
            elif order_id in good:
                reason = "order seen before"
            else:
                good[order_id] = (country.strip().upper(), Decimal(price) * int(quantity))
                continue
            rejected[reason] = rejected.get(reason, 0) + 1
    countries = sorted({country for country, _ in good.values()})
    amounts = {each: [amount for country, amount in good.values() if country == each] for each in countries}
    return {
        "extracted": extracted,
        "rejected": dict(sorted(rejected.items())),
        "loaded": len(good),
        "turnover": {country: [len(each), str(sum(each))] for country, each in amounts.items()},
    }


if __name__ == "__main__":
    start(main)
