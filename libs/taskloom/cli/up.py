"""`taskloom up`: everything on this machine, in the foreground."""

import asyncio
import signal
import sys
import time

from rich.console import Console

from taskloom.local.settings import LocalSettings
from taskloom.local.supervisor import Supervisor
from taskloom.settings import load
from taskloom.telemetry.logs import configure_logging


def command() -> None:
    """Starts Kafka, PostgreSQL and the four services, and runs until SIGINT or SIGTERM.

    Settings come from the environment, most of all TASKLOOM_HTTP_PORT and TASKLOOM_HOME; `taskloom config` lists them.
    """
    configure_logging("up", level="warning", log_format="console")
    asyncio.run(_run(load(LocalSettings)))


async def _run(settings: LocalSettings) -> None:
    console = Console(stderr=not sys.stdout.isatty(), highlight=False)
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  ", end="")
        console.print(line, markup=False, soft_wrap=True)

    supervisor = Supervisor(settings, say)
    asked = _on_signals(supervisor)
    starting = asyncio.create_task(supervisor.start(), name="start")
    stopping = asyncio.create_task(asked.wait(), name="wait for a signal")
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()  # it stops what it has started
        await asyncio.gather(starting, return_exceptions=True)
        return
    stopping_early = starting.exception()
    if stopping_early is not None:
        stopping.cancel()
        raise stopping_early
    print(f"Taskloom is ready at {supervisor.url}", flush=True)
    await stopping
    say("stopping")
    stopped = time.monotonic()
    await supervisor.stop()
    say(f"stopped in {time.monotonic() - stopped:.1f} s; the data stay in {supervisor.home.path}")


def _on_signals(supervisor: Supervisor) -> asyncio.Event:
    """Set by the first SIGINT or SIGTERM; the second kills the children, so that stopping has nothing to wait for."""
    asked = asyncio.Event()

    def handle() -> None:
        if asked.is_set():
            supervisor.kill()
        asked.set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, handle)
    return asked
