"""Builds and runs an executor: settings in, wired parts out."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from services.executor import cgroups
from services.executor.attempt import Tools
from services.executor.attempts import END_S, Attempts
from services.executor.directives import Directives
from services.executor.kinds import handlers as load_handlers
from services.executor.outbox import Outbox
from services.executor.prefetch import Reserve
from services.executor.processes import Guardian
from services.executor.register import Announcer
from services.executor.reports import Reporter
from services.executor.sampling import Sampler
from services.executor.settings import ExecutorSettings
from services.executor.transport import Transport, over_kafka
from taskloom import telemetry
from taskloom.errors import TaskloomError
from taskloom.kinds import Handler
from taskloom.lifecycle import Runtime
from taskloom.ops import OpsServer
from taskloom.rules import TenantRules
from taskloom.settings import SettingsError
from taskloom.wire.topics import Topics

LAST_WORDS_S = 4.0
"""Of the drain's time this much, but at most half, is kept for stopping what still runs and for the last reports."""

MIB = 1024 * 1024
_attempts_ended = telemetry.counter("executor_attempts", "Attempts that ended, by kind and how", ["kind", "how"])


class NotReady(TaskloomError):
    """The executor takes no work."""


async def run(settings: ExecutorSettings) -> None:
    """Runs an executor until SIGTERM, then drains: no new work, what runs gets the drain's time, all is reported."""
    async with Runtime("executor", settings) as runtime:
        # Before Kafka is asked for anything: what is wrong with a module or an app is told at once.
        handlers = await runtime.start("load handlers", _open_handlers(settings))
        transport = await over_kafka(settings, runtime)
        await serve(settings, runtime, transport, incarnation=uuid4().hex, handlers=handlers)
        await runtime.run_until_stopped()


async def serve(
    settings: ExecutorSettings,
    runtime: Runtime,
    transport: Transport,
    *,
    incarnation: str,
    handlers: Mapping[str, Handler] | None = None,
) -> Callable[[], Awaitable[None]]:
    """Starts the executor over this transport, and leaves its drain with the runtime. ``handlers``: opened already.

    Returns what announces it again, for a transport that comes and goes.
    """
    topics = Topics(settings.topic_prefix)
    reports = Outbox(transport.reports, name="reports", max_records=settings.max_pending_reports, max_bytes=64 * MIB)
    outputs = Outbox(
        transport.outputs,
        name="outputs",
        max_records=50_000,
        max_bytes=settings.max_pending_output_mb * MIB,
        overflow=transport.overflow,
        batch_bytes=transport.batch_bytes,
    )
    if handlers is None:
        handlers = await runtime.start("load handlers", _open_handlers(settings))
    capabilities = _capabilities(settings)
    guardian = Guardian(settings.cgroup, settings.shell_users, settings.executor_id)
    reporter = Reporter(
        reports, topic=topics.commands, partitions=settings.partitions, executor_id=settings.executor_id
    )
    tools = Tools(
        *(reporter, outputs, topics.outputs, settings.partitions, guardian, settings.stop_grace_s),
        max_output_bytes=settings.max_output_mb * MIB,
        rules=TenantRules(settings.rules),
        own_rules=settings.executor_rules,
        secrets=transport.secrets,
    )
    reserve = Reserve(settings.prefetch)

    def ended(kind: str, how: str) -> None:
        _attempts_ended.labels(kind, how).inc()
        reserve.count_end()

    attempts = Attempts(
        *(tools, handlers, transport.values),
        slots=settings.slots,
        prefetch=settings.prefetch,
        pid=os.getpid(),
        on_end=ended,
        refuses=transport.refuses,
    )
    announcer = Announcer(
        *(transport.heartbeats, settings),
        incarnation=incarnation,
        handlers=handlers,
        capabilities=(*settings.capabilities, *capabilities),
        live=attempts.live,
        reserve=reserve,
        measure=transport.measure,
    )

    async def ready() -> None:
        if announcer.status != "ready":
            raise NotReady(f"the executor is {announcer.status}")

    ops = OpsServer(
        *(settings.ops_host, settings.ops_port),
        service=runtime.service,
        checks={**transport.checks, "takes work": ready},
    )
    # What follows is undone from the last line up: attempts end, then what they need, then who hears of it.
    runtime.on_drain("say good-bye", lambda: announcer.announce("stopped"))
    await runtime.start("serve /health", ops.start())
    runtime.on_drain("close /health", ops.stop)
    for outbox in (reports, outputs):
        runtime.background(f"send {outbox.name}", outbox.run())
        runtime.on_drain(f"flush {outbox.name}", _closer(outbox))
    runtime.on_drain("end the guardian", guardian.close)
    runtime.on_drain("close handlers", lambda: _close_handlers(handlers))
    directives = Directives(
        *(transport.orders, attempts, reports),
        executor_id=settings.executor_id,
        incarnation=incarnation,
        topics=topics,
    )
    runtime.background("take directives", directives.run(), drains=False)
    await runtime.start("register", announcer.announce("ready"))
    runtime.background("send heartbeats", announcer.run(), drains=False)
    runtime.background("sample resources", Sampler().run(lambda: list(attempts.running.values())), drains=False)

    async def drain() -> None:
        # Beside each other: with Kafka away the word may not get out, and attempts must not wait for that.
        announcing = asyncio.create_task(announcer.announce("draining"))
        last_words_s = min(LAST_WORDS_S, settings.drain_timeout_s / 2)
        patience_s = 0.0 if transport.is_over() else settings.drain_timeout_s - last_words_s
        await attempts.drain(patience_s, min(END_S, last_words_s * 0.7))
        await asyncio.wait({announcing}, timeout=1.0)
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)

    runtime.on_drain("drain attempts", drain)
    return lambda: announcer.announce(announcer.status)


def _closer(outbox: Outbox) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        outbox.close()

    return close


def _capabilities(settings: ExecutorSettings) -> tuple[str, ...]:
    try:
        return cgroups.capabilities(settings.cgroup)
    except OSError as error:
        raise SettingsError(
            f"TASKLOOM_CGROUP={settings.cgroup}: {error}; name a delegated directory, or off"
        ) from error


async def _open_handlers(settings: ExecutorSettings) -> dict[str, Handler]:
    handlers = load_handlers(settings)
    for handler in handlers.values():
        await handler.open()
    return handlers


async def _close_handlers(handlers: Mapping[str, Handler]) -> None:
    for handler in handlers.values():
        await handler.close()
