"""What nodelink's calls do: they make the platform's commands and read the platform's views."""

import asyncio
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from services.gateway.agents import executor_called
from services.gateway.control import Controller
from services.gateway.frames import Kept
from services.gateway.nodelink.shapes import (
    AgentTaskCreated,
    AgentTaskDetail,
    AgentTasks,
    AllAgentTasks,
    DockerTask,
    ShellTask,
    Wish,
    detail_of,
    entry_of,
    invalid,
    read_wish,
)
from services.gateway.nodelink.words import rfc3339, status_word
from services.gateway.problems import BadRequest, Conflict, NotFound
from services.gateway.read import Reader
from services.gateway.security import Caller
from services.gateway.submission import Origin
from services.gateway.submit import Accepted, Submitter
from services.gateway.wait import until_visible
from taskloom.domain.envelope import Recorded
from taskloom.domain.ids import is_task_id, is_valid_id
from taskloom.domain.scheduling.match import ANY_QUEUE
from taskloom.domain.task.commands import CancelTask
from taskloom.domain.task.events import TaskSubmitted
from taskloom.domain.values import ErrorInfo, TaskSpec
from taskloom.views.executors.query import Executor
from taskloom.views.task_executions.row import Row

CREATED: Final = "pending"
NOT_CONNECTED: Final = "agent_not_connected"
DEFAULT_QUEUE: Final = "default"

MOST_LISTED: Final = 10_000
"""Newest first; what is above it is for ``/api/v1/tasks``, which has pages."""

MOST_FRESH: Final = 1_000
"""Tasks that this gateway made last and that a list waits for; of more than these it waits for none."""

_PAUSE_S: Final = 0.02


class Retention(Struct, frozen=True):
    """Ended tasks leave the lists in sweeps, every ``sweep_s``, once they are older than ``keep_s``.

    Nothing is deleted: the sweep moves the time from which on a list shows what ended. It follows from the clock, so
    all gateways show the same.
    """

    keep_s: float
    sweep_s: float

    def ended_after(self, now: datetime) -> datetime:
        """What ended later than this is in the lists."""
        last_sweep = now.timestamp() // self.sweep_s * self.sweep_s
        return datetime.fromtimestamp(last_sweep, UTC) - timedelta(seconds=self.keep_s)


class Fresh:
    """Tasks that this gateway has just made, so that a list which follows waits until the read side shows them."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._made: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def add(self, tenant_id: str, agent_id: str, task_id: str) -> None:
        self._made[tenant_id, task_id] = agent_id, time.monotonic()
        while len(self._made) > MOST_FRESH:
            self._made.popitem(last=False)

    def of(self, tenant_id: str, agent_id: str | None) -> set[str]:
        """Those that a list of this agent's tasks, or of all, has to show."""
        since = time.monotonic() - self._wait_s
        while self._made and next(iter(self._made.values()))[1] < since:
            self._made.popitem(last=False)
        return {
            task_id
            for (tenant, task_id), (agent, _) in self._made.items()
            if tenant == tenant_id and agent_id in (None, agent)
        }

    def seen(self, tenant_id: str, task_id: str) -> None:
        self._made.pop((tenant_id, task_id), None)


class NodelinkDesk:
    """``wait_s``: how long a list waits for what was just made, and a cancel for the end of what it stops. ``kept``:
    encoded events that several streams send."""

    def __init__(
        self, submitter: Submitter, controller: Controller, reader: Reader, retention: Retention, *, reply_s: float,
        wait_s: float,
    ) -> None:  # fmt: skip
        self._submitter = submitter
        self._controller = controller
        self._reader = reader
        self._retention = retention
        self._reply_s = reply_s
        self._wait_s = wait_s
        self._fresh = Fresh(wait_s)
        self.kept = Kept()

    async def create(
        self, body: bytes, model: type[ShellTask | DockerTask], origin: Origin, **given: str
    ) -> tuple[AgentTaskCreated, Accepted]:
        """A task on its agent.

        Raises:
            BadRequest: ``details`` say what is wrong.
            Conflict: the agent is not connected, or does not run this; a failed task was recorded.
        """
        wish, given_input = read_wish(body, model, **given)
        executor = await executor_called(self._reader.views, origin.caller.tenant_id, wish.agent_id)
        reason = why_not(executor, wish)
        failing = ErrorInfo(NOT_CONNECTED, reason, retryable=False) if reason else None
        submission = msgspec.json.encode(submission_of(wish, given_input, executor))
        origin = structs.replace(origin, wait_s=max(origin.wait_s, self._reply_s))
        try:
            accepted = await self._submitter.submit(submission, origin, failing=failing)
        except BadRequest as error:
            raise invalid(str(error)) from error
        self._fresh.add(origin.caller.tenant_id, wish.agent_id, accepted.task_id)
        if failing is not None:
            raise Conflict("failed to create task", details=reason, task_id=accepted.task_id)
        return AgentTaskCreated(accepted.task_id, wish.agent_id, CREATED, rfc3339(accepted.created_at)), accepted

    async def task(self, caller: Caller, task_id: str) -> AgentTaskDetail:
        """Raises NotFound."""
        submitted = await self.submitted(caller, task_id)
        try:
            row = await self._reader.row(caller, task_id)
        except NotFound as error:
            raise not_found() from error
        return detail_of(row, submitted.timeouts.start_to_close_s)

    async def submitted(self, caller: Caller, task_id: str) -> TaskSpec:
        """What the task was submitted with. Raises NotFound."""
        if not is_task_id(task_id):
            raise not_found()
        try:
            first: Recorded = await self._reader.first_event(caller, task_id)
        except NotFound as error:
            raise not_found() from error
        assert isinstance(first.event, TaskSubmitted)
        return first.event.spec

    async def all_tasks(self, caller: Caller) -> AllAgentTasks:
        return AllAgentTasks([entry_of(row) for row in await self._rows(caller.tenant_id, None)])

    async def tasks_of(self, caller: Caller, agent_id: str) -> AgentTasks:
        rows = await self._rows(caller.tenant_id, agent_id) if is_valid_id(agent_id) else []
        return AgentTasks(agent_id, [entry_of(row) for row in rows])

    async def _rows(self, tenant_id: str, agent_id: str | None) -> list[Row]:
        """Waits until what this gateway made is among them, for a bounded time."""
        ended_after = self._retention.ended_after(datetime.now(UTC))
        give_up = time.monotonic() + self._wait_s
        while True:
            expected = self._fresh.of(tenant_id, agent_id)
            rows = await self._reader.views.tasks_of_agents(
                tenant_id, agent_id, ended_after=ended_after, limit=MOST_LISTED
            )
            shown = {row.task_id for row in rows}
            for task_id in expected & shown:
                self._fresh.seen(tenant_id, task_id)
            if expected <= shown or len(rows) == MOST_LISTED or time.monotonic() >= give_up:
                return rows
            await asyncio.sleep(_PAUSE_S)

    async def cancel(self, task_id: str, origin: Origin) -> None:
        """Returns when nothing of the task runs any more, or the time for waiting is over: then its end is under way.

        Raises:
            NotFound: no such task.
            BadRequest: it has ended already.
        """
        if not is_task_id(task_id):
            raise not_found()
        try:
            await self._controller.control(task_id, CancelTask(reason="cancelled by user"), origin)
        except NotFound as error:
            raise not_found() from error
        except Conflict as error:
            word = status_word(str(error.more.get("status", "cancelled")))
            raise BadRequest(f"task {task_id} is already in final state: {word}") from error
        tenant_id = origin.caller.tenant_id
        await until_visible(
            lambda: self._reader.views.task(tenant_id, task_id), lambda row: row.ended, True, within_s=self._wait_s
        )


def not_found() -> NotFound:
    return NotFound("task not found")


def why_not(executor: Executor | None, wish: Wish) -> str:
    """Why the agent cannot take the task now; "" when it can."""
    if executor is None or executor.status != "ready":
        return f"agent with this id is not connected: {wish.agent_id}"
    if wish.KIND not in executor.heartbeat.kinds:
        return f"agent does not run {wish.KIND} tasks: {wish.agent_id}"
    return ""


def submission_of(wish: Wish, given_input: dict[str, Any], executor: Executor | None) -> dict[str, Any]:
    """The fields of the platform's submission. The agent has the time limit to take the task, and again to run it."""
    return {
        "kind": wish.KIND,
        "input": given_input,
        "executor_id": wish.agent_id,
        "queue": _queue_of(executor),
        "timeouts": {"start_to_close_s": wish.timeout_s, "schedule_to_start_s": wish.timeout_s},
        "retry": {"max_attempts": 1},
    }


def _queue_of(executor: Executor | None) -> str:
    """A queue that the agent serves."""
    queues = () if executor is None else executor.heartbeat.queues
    return DEFAULT_QUEUE if not queues or DEFAULT_QUEUE in queues or ANY_QUEUE in queues else queues[0]
