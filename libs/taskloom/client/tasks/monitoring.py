"""The server's figures under the task API's own names."""

import asyncio
import math
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import msgspec

from taskloom.client import figures as f
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.errors import ClientError

MOST_HOURS: Final = 168

METRICS_WITHIN_S: Final = 1.0
"""Health is told at once, with the metrics that there are by then: where the database is away they are not."""


class Monitoring:
    """``retention``: how far back reports look; whole hours, at most a week."""

    def __init__(self, client: AsyncClient, retention: timedelta) -> None:
        self._client = client
        self._hours = max(1, min(MOST_HOURS, math.ceil(retention / timedelta(hours=1))))

    async def system_metrics(self) -> dict[str, Any]:
        return _named(await self._client.system_metrics())

    async def performance_report(self) -> dict[str, Any]:
        report = await self._client.report(self._hours)
        told = _named(report)
        del told["hours"]
        for held in told["agent_metrics"].values():
            del held["average_wait_seconds"]
        return told

    async def queue_statistics(self) -> dict[str, Any]:
        told = _named(await self._client.queue_statistics())
        del told["cancelled_tasks"]
        return told

    async def agent_statistics(self) -> dict[str, dict[str, Any]]:
        """By executor. Executions are the tenant's attempts that ended, of all time; the rate is in percent."""
        return {each.executor_id: _statistics(each) for each in await self._client.executor_statistics()}

    async def health(self) -> dict[str, Any]:
        """``status`` is healthy, degraded or unhealthy as the worst component is; ``metrics`` are empty while they
        cannot be read."""
        health, metrics = await asyncio.gather(self._client.health(), self._metrics_or_none())
        return {
            "status": health.status,
            "timestamp": health.timestamp.isoformat(),
            "components": {name: component.status for name, component in health.components.items()},
            "metrics": metrics,
        }

    async def _metrics_or_none(self) -> dict[str, Any]:
        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(METRICS_WITHIN_S):
                return await self.system_metrics()
        return {}


def _statistics(executor: f.ExecutorStats) -> dict[str, Any]:
    return {
        "type": executor.type,
        "active": executor.active,
        "running_tasks": executor.running_tasks,
        "total_executions": executor.total_executions,
        "successful_executions": executor.successful_executions,
        "success_rate": executor.success_rate,
        "capabilities": list(executor.capabilities),
        "registered_at": None if executor.registered_at is None else executor.registered_at.isoformat(),
    }


def _named(figures: Any) -> dict[str, Any]:
    """The figures as plain data, times as text."""
    told: dict[str, Any] = msgspec.to_builtins(figures)
    return told
