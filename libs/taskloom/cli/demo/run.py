"""The demo from its first line to its exit code."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from rich.console import Console
from rich.text import Text

from taskloom.cli import show
from taskloom.cli.demo import acts, goal
from taskloom.cli.demo.board import Board
from taskloom.cli.demo.findings import Findings
from taskloom.cli.demo.home import DemoHome, analyst_executor, narrow_executor
from taskloom.cli.demo.http_server import price_server
from taskloom.cli.demo.stage import Stage
from taskloom.cli.demo.stories import Teller
from taskloom.cli.demo.waiting import DemoFailed, until
from taskloom.client import AsyncClient
from taskloom.client.connection import DEFAULT_URL
from taskloom.errors import TaskloomError
from taskloom.local.services import ServiceProcess
from taskloom.local.supervisor import Supervisor
from taskloom.telemetry import configure_logging
from taskloom.wire.topics import Topics

SHOW_LIMIT_S: Final = 180.0
"""Everything between start and stop; far more than it takes."""

VERIFY_LIMIT_S: Final = 60.0
STOP_FURTHER_S: Final = 5.0
INTERRUPTED: Final = 130


async def run_demo() -> int:
    """0 when everything ended as it should, 1 when not, 130 when it was interrupted."""
    configure_logging("demo", level="error", log_format="console")
    console = show.console()
    home, began = DemoHome(), time.monotonic()
    showing = asyncio.create_task(_show(console, home), name="demo")
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, showing.cancel)
    try:
        problems = await showing
    except asyncio.CancelledError:
        console.print("\ninterrupted; everything is stopped")
        home.remove()
        return INTERRUPTED
    except TaskloomError as error:
        problems = [str(error)]
    if problems:
        _lament(console, home, problems)
        return 1
    home.remove()
    console.print(
        f"[bold green]All is well[/bold green] after {time.monotonic() - began:.0f} s. "
        "What can be done with a running system: [bold].venv/bin/taskloom --help[/bold]"
    )
    return 0


def _lament(console: Console, home: DemoHome, problems: list[str]) -> None:
    console.print("\n[bold red]Not everything ended as it should:[/bold red]")
    for problem in problems:
        console.print(Text(f"  ✗ {problem}"), soft_wrap=True)
    console.print(f"The logs are in {home.path / 'logs'}", soft_wrap=True)


async def _show(console: Console, home: DemoHome) -> list[str]:
    """What did not end as it should. Everything that was started is stopped, whatever happens."""
    teller = Teller(console)
    teller.heading("Taskloom: starting everything on this machine")
    async with _system(console, home) as (supervisor, analyst):
        console.print(
            f"  The API is at [bold]{supervisor.url}[/bold]; its description is at {supervisor.url}/openapi.json"
        )
        try:
            async with asyncio.timeout(SHOW_LIMIT_S):
                return await _play(console, teller, supervisor, analyst, home)
        except TimeoutError:
            raise DemoFailed(f"the demo was not over after {SHOW_LIMIT_S:g} s") from None
        except ExceptionGroup as failures:
            raise _first(failures) from failures


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """The failure to tell: one of ours where there is one, else whichever came first."""
    ours = failures.subgroup(TaskloomError)
    failure: Exception = ours or failures
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    return failure


@asynccontextmanager
async def _system(console: Console, home: DemoHome) -> AsyncIterator[tuple[Supervisor, ServiceProcess]]:
    """The system and the executor that will be killed."""
    settings = home.settings()
    began = time.monotonic()
    with console.status("Kafka, PostgreSQL and the four services are starting"):

        def say(line: str) -> None:
            console.print(f"  [green]✓[/green] [dim]{time.monotonic() - began:4.1f} s[/dim]  ", Text(line), sep="")

        supervisor = Supervisor(settings, say)
        await supervisor.start()
    narrow, analyst = narrow_executor(supervisor), analyst_executor(supervisor)
    try:
        await asyncio.gather(narrow.start(), analyst.start())
        say(f"{narrow.name} is ready: one slot, queue {acts.NARROW}")
        say(f"{analyst.name} is ready: queue {goal.QUEUE}, tools for log files")
        yield supervisor, analyst
    finally:
        stopping = time.monotonic()
        await asyncio.gather(narrow.stop(STOP_FURTHER_S), analyst.stop(STOP_FURTHER_S))
        await supervisor.stop()
        console.print(f"Stopped everything in {time.monotonic() - stopping:.1f} s")


async def _play(
    console: Console, teller: Teller, supervisor: Supervisor, analyst: ServiceProcess, home: DemoHome
) -> list[str]:
    findings, board = Findings(), Board(console)
    async with AsyncClient(supervisor.url) as client:
        for queue in (acts.NARROW, goal.QUEUE):
            await until(partial(_announced, client, queue), f"an executor serves the queue {queue}")
        teller.heading("Tasks, as they happen")
        async with asyncio.TaskGroup() as following:
            stage = Stage(client, board, following)
            with board.live(), price_server() as prices:
                await acts.play(
                    stage,
                    findings,
                    bootstrap=supervisor.bootstrap,
                    topics=Topics(supervisor.settings.topic_prefix),
                    prices=prices,
                    log=home.log_file,
                    analyst=analyst,
                )
            await teller.tell(stage, findings)
        teller.heading("taskloom verify: every task folded anew from its events")
        stage.check(await _verified(teller, supervisor), "taskloom verify found differences")
        teller.heading("Your turn")
        teller.line(f"The API was at {supervisor.url}. Keep one running with `make up`, then:")
        teller.line(f'curl -s {DEFAULT_URL}/api/v1/tasks -d \'{{"kind":"shell","input":{{"cmd":"uname -a"}}}}\'')
    return stage.problems


async def _announced(client: AsyncClient, queue: str) -> bool:
    return any(queue in executor.queues and executor.status == "ready" for executor in await client.executors())


async def _verified(teller: Teller, supervisor: Supervisor) -> bool:
    """Runs the verb as an operator would, shows what it says, and returns whether it found all well."""
    environment = os.environ | {
        "TASKLOOM_DATABASE_DSN": supervisor.dsn,
        "TASKLOOM_TOPIC_PREFIX": supervisor.settings.topic_prefix,
        "TASKLOOM_PARTITIONS": str(supervisor.settings.partitions),
        "TASKLOOM_SHARDS": str(supervisor.settings.shards),
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskloom", "verify", env=environment, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(VERIFY_LIMIT_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    for line in said.decode(errors="replace").strip().splitlines():
        teller.line(line)
    return process.returncode == 0
