"""Reads what the metrics are worked out from, in bounded numbers of requests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from taskloom.client import answers as a
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.calls import Call
from taskloom.client.errors import Busy, ClientError, NotFound
from taskloom.client.tasks import metrics as m
from taskloom.client.tasks.agents import AGENT_TYPE
from taskloom.client.tasks.offered import Offered
from taskloom.client.tasks.record import now

PAGE: Final = 100
AT_ONCE: Final = 16
ENDED: Final = "completed,failed,cancelled,timeout"
WORKFLOW: Final = "workflow"

T = TypeVar("T")
Given = TypeVar("Given")


async def in_parallel(call: Callable[[Given], Awaitable[T]], given: Sequence[Given]) -> list[T]:
    """``call`` of each, in order, at most 16 at once."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(each: Given) -> T:
        async with turn:
            return await call(each)

    return list(await asyncio.gather(*map(one, given)))


class Monitoring:
    def __init__(self, client: AsyncClient, offered: Offered, metrics: m.TaskMetrics) -> None:
        self._client = client
        self._offered = offered
        self.metrics = metrics

    async def system_metrics(self) -> dict[str, Any]:
        tasks, complete = await self._recent(self.metrics.retention)
        return self.metrics.current(tasks, await self._counts(), complete=complete)

    async def performance_report(self) -> dict[str, Any]:
        at = now()
        (tasks, complete), counts = await asyncio.gather(self._recent(self.metrics.retention), self._counts())
        tries = await self._tries(tasks, at)
        runs = [task for task in tasks if task.kind == WORKFLOW and task.ended]
        return {
            "report_timestamp": at.isoformat(),
            "current_metrics": self.metrics.current(tasks, counts, complete=complete, at=at),
            "agent_metrics": m.agents(tries),
            "resource_metrics": m.resources(tries),
            "workflow_metrics": self.metrics.workflows(runs, await self._step_counts(runs)),
            "sla_metrics": self.metrics.sla(tasks, at),
            "performance_trends": self.metrics.trends(tasks, at),
        }

    async def queue_statistics(self) -> dict[str, Any]:
        queues, executors, everything, completed, failed, overdue = await asyncio.gather(
            self._client.queues(),
            self._client.executors(),
            self._count(""),
            self._count("completed"),
            self._count("failed,timeout"),
            self._overdue(),
        )
        totals = {"all": everything, "completed": completed, "failed": failed}
        return m.queue_statistics(queues, executors, totals, overdue)

    async def agent_statistics(self) -> dict[str, dict[str, Any]]:
        """By executor. Executions are those of tasks that ended in the sample window; see ``TaskMetrics``."""
        at = now()
        executors, (tasks, _) = await asyncio.gather(
            self._client.executors(), self._recent(self.metrics.retention, status=ENDED)
        )
        held = m.agents(await self._tries(tasks, at))
        return {each.executor_id: _statistics(each, held.get(each.executor_id, {})) for each in executors}

    async def health(self) -> dict[str, Any]:
        """``status`` is healthy, or unhealthy when a component is; ``metrics`` are empty while they cannot be read."""
        checks = await self._checks()
        found: list[a.Executor] = []
        metrics: dict[str, Any] = {}
        with suppress(ClientError):
            found = await self._client.executors()
            metrics = await self.system_metrics()
        orchestrator = _health(checks.get("orchestrator") == "ok")
        components = {
            "dependency_resolver": orchestrator,
            "task_scheduler": orchestrator,
            "task_executor": _health(any(each.status == "ready" for each in found)),
            "workflow_orchestrator": orchestrator,
            **{name: _health(told == "ok") for name, told in checks.items() if name != "orchestrator"},
        }
        return {
            "status": _health(all(told == "healthy" for told in components.values())),
            "timestamp": now().isoformat(),
            "components": components,
            "metrics": metrics,
        }

    async def _checks(self) -> dict[str, str]:
        try:
            body = msgspec.json.decode(await self._client.raw(Call(dict, "/readiness")), type=dict[str, Any])
        except Busy as busy:
            body = busy.body
        return dict(body.get("checks", {}))

    async def _recent(self, window: timedelta, status: str = "") -> tuple[list[a.TaskSummary], bool]:
        """The newest tasks submitted within the window, and whether these are all."""
        found: list[a.TaskSummary] = []
        since, cursor = (now() - window).isoformat(), ""
        while len(found) < self.metrics.max_tasks:
            page = await self._client.list_tasks(created_after=since, status=status, cursor=cursor, limit=PAGE)
            found += page.tasks
            if not page.next_cursor:
                return found, True
            cursor = page.next_cursor
        return found[: self.metrics.max_tasks], False

    async def _tries(self, tasks: Sequence[a.TaskSummary], at: datetime) -> m.Tries:
        since = at - self.metrics.sample_window
        ended = [task for task in tasks if task.ended and task.completed_at is not None and task.completed_at > since]
        sample = ended[: self.metrics.max_sample]
        attempts = await in_parallel(self._executions, [task.task_id for task in sample])
        return list(zip(sample, attempts, strict=True))

    async def _executions(self, task_id: str) -> list[a.Execution]:
        try:
            return await self._client.executions(task_id)
        except NotFound:
            return []

    async def _step_counts(self, runs: Sequence[a.TaskSummary]) -> list[int]:
        sample = [run.task_id for run in runs[: self.metrics.max_sample]]
        found = await in_parallel(self._client.get, sample)
        return [len(run.input.get("definition", {}).get("steps", ())) for run in found]

    async def _counts(self) -> m.Counts:
        queues, executors, processed = await asyncio.gather(
            self._client.queues(), self._client.executors(), self._count(ENDED)
        )
        running = sum(queue.by_state.get(state, 0) for queue in queues for state in m.OPEN_RUNNING)
        return m.Counts(running, processed, sum(each.status == "ready" for each in executors))

    async def _count(self, status: str) -> int:
        """How many tasks have this status; a lower bound where the server counts no further."""
        return (await self._client.list_tasks(status=status, limit=1)).total_count

    async def _overdue(self) -> int | None:
        """None while the server's list cannot be narrowed to overdue tasks."""
        if not await self._offered.has("GET /api/v1/tasks", "overdue"):
            return None
        params: dict[str, str | int] = {"overdue": "true", "limit": 1}
        return (await self._client.call(Call(a.TaskPage, "/api/v1/tasks", params=params))).total_count


def _statistics(executor: a.Executor, held: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": executor.labels.get(AGENT_TYPE, "executor"),
        "active": executor.status == "ready",
        "running_tasks": executor.held,
        "total_executions": held.get("total_tasks", 0),
        "successful_executions": held.get("successful_tasks", 0),
        "success_rate": held.get("success_rate_percent", 0.0),
        "capabilities": list(executor.capabilities),
        "registered_at": None if executor.started_at is None else executor.started_at.isoformat(),
    }


def _health(well: bool) -> str:
    return "healthy" if well else "unhealthy"
