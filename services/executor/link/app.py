"""Builds and runs an agent: an executor over a link."""

import asyncio
import os
from uuid import uuid4

from services.executor.app import serve
from services.executor.link.client import Link
from services.executor.link.host import Host
from services.executor.link.settings import AgentSettings
from services.executor.link.spill import Spill
from services.executor.link.values import LinkValues
from services.executor.transport import Transport
from taskloom.lifecycle import Runtime
from taskloom.settings import SettingsError

MIB = 1024 * 1024
OUTPUT_BYTES = 2 * MIB
"""Most output that is under way at once, in up to four pushes, so that reports and heartbeats do not wait long behind
one."""

KEPT_IN_MEMORY_MIB = 4


async def run(settings: AgentSettings) -> None:
    """Runs an agent until SIGTERM, then drains. The first link is waited for as long as it takes.

    Raises:
        AgentRefused, AgentReplaced: the gateway does not let it in, or no more; what ran is stopped.
    """
    if not settings.agent_token.get_secret_value():
        raise SettingsError(
            "an agent needs its token: `taskloom agents enroll ID` shows one, TASKLOOM_AGENT_TOKEN takes it"
        )
    os.environ.pop("TASKLOOM_AGENT_TOKEN", None)  # the commands of tasks inherit the environment
    incarnation = uuid4().hex
    async with Runtime("agent", settings) as runtime:
        link = Link(settings, incarnation)
        runtime.background("keep the link", link.run(), drains=False)
        if not await _opened(link, runtime):
            return
        spill = Spill(settings.spill_dir, settings.spill_mb * MIB)

        async def close_spill() -> None:
            spill.close()

        runtime.on_drain("close the file of output", close_spill)
        named = settings.model_copy(update={"executor_id": link.executor_id})
        transport = Transport(
            reports=link.reports,
            outputs=link.outputs,
            heartbeats=link.heartbeats,
            orders=link,
            values=LinkValues(link),
            checks={"link": link.ping},
            overflow=spill,
            batch_bytes=OUTPUT_BYTES,
            measure=Host().measure,
            is_over=lambda: link.is_over,
            secrets=link.secrets,
            refuses=lambda: "draining" if link.draining else "",
        )
        small = named.model_copy(update={"max_pending_output_mb": KEPT_IN_MEMORY_MIB})
        announce = await serve(small, runtime, transport, incarnation=incarnation)
        link.on_open = announce
        await runtime.run_until_stopped()


async def _opened(link: Link, runtime: Runtime) -> bool:
    """False: told to stop, or refused, before there was a link."""
    waits = [asyncio.ensure_future(link.opened()), asyncio.ensure_future(runtime.stopping.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return waits[0].done()
    finally:
        for wait in waits:
            wait.cancel()
