"""Closing and checking aiokafka's clients in bounded time.

Its own ``stop`` waits for the broker: a producer flushes what it holds, a consumer leaves its group, each for up to the
request time limit, and for ever when the sender task is stuck. A service that drains, or replaces a client because the
broker is gone, cannot wait for that. The attributes with an underscore are those of aiokafka 0.14 (pinned).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from taskloom import telemetry
from taskloom.bus.errors import BusUnavailable

T = TypeVar("T")
log = telemetry.get_logger(__name__)

RETRY_S = 0.2


async def retry_until(timeout_s: float, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """First result of ``attempt`` that is no Kafka error, tried anew every 0.2 s.

    Raises:
        BusUnavailable: ``what`` and the last error, when ``timeout_s`` are over.
    """
    until, last = time.monotonic() + timeout_s, ""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    return await attempt()
                except (KafkaError, OSError) as error:
                    last = f": {error!r}"
                await asyncio.sleep(min(RETRY_S, max(0.0, until - time.monotonic())))
    except TimeoutError:
        raise BusUnavailable(f"{what} within {timeout_s:g} s{last}") from None


async def ping_client(client: Any, timeout_s: float) -> None:
    """Returns when a broker answers a metadata request.

    Raises:
        BusUnavailable: none did within ``timeout_s``.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await client.fetch_all_metadata()
    except (TimeoutError, KafkaError, OSError) as error:
        raise BusUnavailable(f"Kafka did not answer within {timeout_s:g} s") from error


async def abort_producer(producer: Any, error: Exception, timeout_s: float = 2.0) -> None:
    """Closes a producer without sending what it holds; those who wait for it get ``error``."""
    producer._closed = True
    held = producer._message_accumulator
    held.reenqueue = lambda batch: None  # a batch in flight is not to come back once it has failed
    # Each batch's own callback takes it out of this set; one that waits for its next try is not in it.
    held._pending_batches.update(batch for batches in held._batches.values() for batch in batches)
    held.fail_all(error)
    for batch in held._pending_batches:
        _seen(batch.future)
        _seen(batch._drain_waiter)
    await _quietly(producer.client.close(), timeout_s)
    sender = producer._sender.sender_task
    if sender is not None:
        # Fails with an AttributeError unless the producer is transactional; all that it would fail has failed above.
        sender.remove_done_callback(producer._sender._fail_all)
        sender.cancel()
        await asyncio.wait({sender}, timeout=timeout_s)
        _seen(sender)


async def close_consumer(consumer: Any, timeout_s: float) -> None:
    """Stops a consumer: leaves the group when the broker answers in time, and lets go of everything in any case."""
    await _quietly(consumer.stop(), timeout_s)
    consumer._closed = True
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
    tasks = [getattr(coordinator, name, None) for name in names] + [getattr(fetcher, "_fetch_task", None)]
    alive = {task for task in tasks if task is not None and not task.done()}
    for task in alive:
        task.cancel()
    if alive:
        await asyncio.wait(alive, timeout=timeout_s)
    for task in tasks:
        if task is not None:
            _seen(task)
    await _quietly(consumer._client.close(), timeout_s)


def _seen(future: "asyncio.Future[Any]") -> None:
    """Takes note of an exception that nobody waits for, so that asyncio does not complain of it later."""
    if future.done() and not future.cancelled():
        future.exception()


async def _quietly(closing: Awaitable[Any], timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await closing
    except Exception as error:  # noqa: BLE001 - it is being thrown away, and what is broken in it is why
        log.debug("closing a Kafka client", error=repr(error))


def is_broken(consumer: Any) -> bool:
    """True when one of a consumer's background tasks has ended, so that it would stay silent for ever."""
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    if fetcher is None or fetcher._fetch_task.done():
        return True
    coordination = getattr(coordinator, "_coordination_task", None)
    if coordination is not None and coordination.done():
        return True
    heartbeat = getattr(coordinator, "_heartbeat_task", None)
    return (
        heartbeat is not None and heartbeat.done() and not heartbeat.cancelled() and heartbeat.exception() is not None
    )
