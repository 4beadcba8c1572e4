"""The client for coroutines: the same calls as ``Client``."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx
from httpx_sse import aconnect_sse
from tenacity import AsyncRetrying

from taskloom.client import access_calls, approval_calls, calls, fork_calls, quota_calls
from taskloom.client import answers as a
from taskloom.client import figures as f
from taskloom.client.approvals_async import AsyncApprovals
from taskloom.client.calls import Call
from taskloom.client.connection import (
    CALL_TIMEOUT,
    PATIENCE_S,
    STREAM_TIMEOUT,
    key_headers,
    reads_environment,
    timeout_for,
    url_of,
)
from taskloom.client.errors import Busy, NotEnded, refusal_of, unreachable
from taskloom.client.frames import DONE, NO_MORE, PATH, Resume, StreamChoice, StreamItem, is_event, item_of, of_task
from taskloom.client.goal_answers import Goal
from taskloom.client.keys_async import AsyncKeys
from taskloom.client.patience import Patience, repeatable
from taskloom.client.schedules_async import AsyncSchedules
from taskloom.client.sessions_async import AsyncSessions
from taskloom.client.stored_workflows_async import AsyncWorkflows
from taskloom.client.submission import Bulk, ChosenTasks, Control, Submission, TaskChanges, TaskFilter
from taskloom.client.tool_servers_async import AsyncToolServers
from taskloom.client.webhooks_async import AsyncWebhooks

T = TypeVar("T")


class AsyncClient:
    """Calls a Taskloom server; use it in an ``async with``. Every call may raise ``Unreachable`` or a ``Refused``."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Without ``base_url`` TASKLOOM_URL says where the server is, else it is http://127.0.0.1:8080. ``api_key``, or
        else TASKLOOM_API_KEY, is sent with every call.

        A call that is refused for now (429, 503), or whose connection broke, is repeated when the server says so
        (Retry-After), or after 0.1 s and more, for ``patience_s`` in all; 0 for never. A submission may be repeated
        when it has a ``task_id`` or ``idempotency_key``, else only after a 429.
        """
        self.base_url = url_of(base_url)
        self._patience = Patience(patience_s)
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            headers=key_headers(api_key),
            timeout=CALL_TIMEOUT,
            trust_env=reads_environment(self.base_url),
            # Each stream holds a connection as long as its task runs; calls must not wait for one.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            transport=transport,
        )
        self.workflows = AsyncWorkflows(self)
        self.schedules = AsyncSchedules(self)
        self.sessions = AsyncSessions(self)
        self.approvals = AsyncApprovals(self)
        self.webhooks = AsyncWebhooks(self)
        self.tool_servers = AsyncToolServers(self)
        self.keys = AsyncKeys(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def raw(self, call: Call[Any]) -> bytes:
        """The answer's JSON as the server sent it."""
        call = repeatable(call)
        return await AsyncRetrying(**self._patience.with_call(call))(self._once, call)

    async def _once(self, call: Call[Any]) -> bytes:
        try:
            response = await self._http.request(
                call.method,
                call.path,
                params=dict(call.params),
                content=call.content(),
                headers=call.sent_headers(),
                timeout=timeout_for(call.wait_s),
            )
        except httpx.TransportError as error:
            raise unreachable(self.base_url, error) from error
        self._patience.server_was_there = True
        if not response.is_success:
            raise refusal_of(response)
        return response.content

    async def call(self, call: Call[T]) -> T:
        return call.read(await self.raw(call))

    async def submit(self, *, idempotency_key: str = "", wait_s: int = 0, **task: Unpack[Submission]) -> a.Submitted:
        """With ``wait_s`` (at most 30) the answer comes once the orchestrator has applied the submission."""
        return await self.call(calls.submit(task, idempotency_key=idempotency_key, wait_s=wait_s))

    async def submit_batch(self, tasks: Sequence[Submission], *, idempotency_key: str = "", wait_s: int = 0) -> a.Batch:
        """1 to 1,000 tasks; a bad entry refuses only itself, so look at ``rejected``."""
        return await self.call(calls.submit_batch(tasks, idempotency_key=idempotency_key, wait_s=wait_s))

    async def get(self, task_id: str, *, as_of: int | str = "") -> a.Task:
        """The task now, or as of a version or an RFC 3339 time."""
        return await self.call(calls.get(task_id, as_of))

    async def list_tasks(
        self, *, metadata: Mapping[str, str] | None = None, **chosen: Unpack[ChosenTasks]
    ) -> a.TaskPage:
        """One page, newest first."""
        return await self.call(calls.list_tasks(chosen, metadata))

    async def wait(self, task_id: str, *, timeout_s: float | None = None) -> a.Task:
        """The task once it has ended, however it ended. Hears of the end from the task's stream, so it asks only once.

        Raises:
            NotEnded: ``timeout_s`` is over.
        """
        try:
            async with asyncio.timeout(timeout_s):
                async with aclosing(self.stream(task_id, types="STREAM_END")) as items:
                    async for _ in items:
                        continue
                return await self.get(task_id)
        except TimeoutError:
            raise NotEnded(f"{task_id} has not ended after {timeout_s:g} s") from None

    async def events(self, task_id: str, *, as_of: int | str = "") -> list[a.Event]:
        """All events, oldest first."""
        found: list[a.Event] = []
        while page := (await self.call(calls.events(task_id, offset=len(found), as_of=as_of))).events:
            found += page
        return found

    async def timeline(self, task_id: str, *, full: bool = False, as_of: int | str = "") -> list[a.Line]:
        return (await self.call(calls.timeline(task_id, full=full, as_of=as_of))).events

    async def output(
        self, task_id: str, *, after: int = 0, streams: Collection[str] = ()
    ) -> AsyncIterator[a.OutputChunk]:
        """What the task has written until now, in order. ``streams``: stdout, stderr, message, log; none means all."""
        while (page := await self.call(calls.output(task_id, after=after, streams=streams))).chunks:
            for chunk in page.chunks:
                yield chunk
            after = page.next

    async def executions(self, task_id: str) -> list[a.Execution]:
        """The attempts, in order."""
        return (await self.call(calls.executions(task_id))).executions

    async def why(self, task_id: str) -> a.Why:
        return await self.call(calls.why(task_id))

    async def run(self, task_id: str) -> a.Run:
        """How far a workflow's run is.

        Raises:
            Conflict: the task is no workflow.
        """
        return await self.call(calls.run(task_id))

    async def goal(self, task_id: str, *, as_of: int | str = "", traces: int = 50) -> Goal:
        """A goal's plans with their steps, its context, usage and newest traces. Raises Conflict: it is no goal."""
        return await self.call(calls.goal(task_id, as_of, traces))

    async def steps(self, task_id: str, *, after: str = "", limit: int = 100) -> a.RunSteps:
        """Up to ``limit`` steps of a workflow's run whose paths come after ``after``, with times and results.

        Raises:
            Conflict: the task is no workflow.
        """
        return await self.call(calls.steps(task_id, after, limit))

    async def cancel(self, task_id: str, reason: str = "", *, grace_s: float | None = None) -> a.Controlled:
        """``grace_s``: seconds between SIGTERM and SIGKILL."""
        wish: Control = {"reason": reason} if grace_s is None else {"reason": reason, "grace_s": grace_s}
        return await self.call(calls.control(task_id, "cancel", wish))

    async def pause(self, task_id: str, reason: str = "") -> a.Controlled:
        return await self.call(calls.control(task_id, "pause", {"reason": reason}))

    async def resume(self, task_id: str, reason: str = "") -> a.Controlled:
        return await self.call(calls.control(task_id, "resume", {"reason": reason}))

    async def retry(self, task_id: str, reason: str = "", *, start: bool = False) -> a.Controlled:
        """Lets a task that failed, timed out or was cancelled begin anew. A workflow goes on where it failed, with what
        completed as it is, or, with ``start``, from its start.

        Raises:
            Conflict: it has not ended badly, or steps of the workflow were undone, so that it can only begin anew.
        """
        wish: Control = {"reason": reason, "from": "start"} if start else {"reason": reason}
        return await self.call(calls.control(task_id, "retry", wish))

    async def fork(
        self, task_id: str, at: int | None = None, overrides: Mapping[str, Any] | None = None, *, new_id: str = ""
    ) -> fork_calls.Forked:
        """A new task made of this one as of version ``at``, changed by a JSON Merge Patch of its submission."""
        return await self.call(fork_calls.fork(task_id, at, overrides, new_id=new_id))

    async def diff(
        self, task_id: str, other_id: str, *, a_version: int | None = None, b_version: int | None = None
    ) -> fork_calls.Difference:
        """Both tasks side by side: what they were submitted with, their steps, and how they ended."""
        return await self.call(fork_calls.diff(task_id, other_id, a_version, b_version))

    async def approve(
        self, task_id: str, approval_id: str, *, approved: bool = True, feedback: str = "", modified_action: Any = None
    ) -> approval_calls.Decided:
        """Decides, with ``approved`` False against it: then the task fails, or its step does what is defined.

        Raises:
            NotFound: it never asked for that approval.
            Conflict: it was decided before, or its task has ended.
            Refused: with status 403, only others may decide.
        """
        return await self.call(
            approval_calls.decide(
                task_id, approval_id, approved=approved, feedback=feedback, modified_action=modified_action
            )
        )

    async def signal(self, task_id: str, name: str, payload: Any = None) -> a.Controlled:
        """A signal for a workflow's run; it is kept until a step takes it."""
        return await self.call(calls.signal(task_id, name, payload))

    async def patch_variables(self, task_id: str, **values: Any) -> a.Controlled:
        """Sets variables of a workflow's run; those that are not named stay."""
        return await self.call(calls.patch_variables(task_id, values))

    async def update(self, task_id: str, **changes: Unpack[TaskChanges]) -> a.Controlled:
        return await self.call(calls.update(task_id, changes))

    async def delete(self, task_id: str, reason: str = "") -> a.Controlled:
        """``state`` says whether it is deleted, or cancelled first."""
        return await self.call(calls.delete(task_id, {"reason": reason}))

    async def bulk(self, verb: str, tasks: TaskFilter | None = None, **how: Unpack[Bulk]) -> a.BulkResult:
        """``verb``, which is cancel, pause, resume, retry, delete or update, for all tasks of a filter."""
        return await self.call(calls.bulk(verb, tasks or {}, how))

    async def executors(self) -> list[a.Executor]:
        return (await self.call(calls.executors())).executors

    async def queues(self) -> list[a.Queue]:
        return (await self.call(calls.queues())).queues

    async def system_metrics(self) -> f.SystemMetrics:
        return await self.call(calls.system_metrics())

    async def report(self, hours: int = 24) -> f.Report:
        """Figures of the last 1 to 168 hours, with a line for each."""
        return await self.call(calls.report(hours))

    async def queue_statistics(self) -> f.QueueStatistics:
        """All queues together."""
        return await self.call(calls.queue_statistics())

    async def executor_statistics(self) -> list[f.ExecutorStats]:
        """What each executor has run for the tenant, by id."""
        return (await self.call(calls.executor_statistics())).executors

    async def statistics_of(self, executor_id: str) -> f.ExecutorStats:
        """Raises NotFound for one that never registered."""
        return await self.call(calls.statistics_of(executor_id))

    async def health(self) -> f.Health:
        """By component; says what is wrong, and never raises for that."""
        return await self.call(calls.health())

    async def me(self) -> access_calls.Me:
        """Who the server takes this client for, and what it may do."""
        return await self.call(access_calls.me())

    async def quotas(self) -> quota_calls.Quotas:
        """What the tenant may use, and what of it is used."""
        return await self.call(quota_calls.get_quotas())

    async def usage(self, by: str = "day", **chosen: Unpack[quota_calls.UsageChoice]) -> quota_calls.Usage:
        """Tokens, cost and attempts, newest first; ``by``: day, hour, session or key."""
        return await self.call(quota_calls.usage(by, **chosen))

    async def audit(self, **chosen: Unpack[access_calls.AuditChoice]) -> access_calls.AuditPage:
        """One page of the calls that changed something, or wanted to, newest first."""
        return await self.call(access_calls.audit(chosen))

    def stream(
        self, task_id: str, *, types: str = "", last_event_id: str = "", patience_s: float = PATIENCE_S
    ) -> AsyncGenerator[StreamItem, None]:
        """Events and output from the first one, or after ``last_event_id``, until the task's end: no gap, no double.

        A stream that is cut is resumed where it was; while nothing is heard, for ``patience_s`` in all. ``types``
        (comma-separated) narrows it. Wrap it in ``contextlib.aclosing`` when you may leave it early.
        """
        return self._stream(Resume(of_task(task_id, types), last_event_id, patience_s))

    def stream_many(
        self,
        *,
        types: str = "",
        last_event_id: str = "",
        patience_s: float = PATIENCE_S,
        **chosen: Unpack[StreamChoice],
    ) -> AsyncGenerator[StreamItem, None]:
        """Events, without output, of all tasks that fit; it is resumed as ``stream`` is, and has no end of its own."""
        return self._stream(Resume(calls.given(types=types, **chosen), last_event_id, patience_s))

    async def _stream(self, resume: Resume) -> AsyncGenerator[StreamItem, None]:
        while True:
            try:
                async with aconnect_sse(
                    self._http, "GET", PATH, params=resume.params, headers=resume.headers, timeout=STREAM_TIMEOUT
                ) as source:
                    if not source.response.is_success:
                        await source.response.aread()
                        raise refusal_of(source.response)
                    if source.response.status_code == NO_MORE:
                        return
                    resume.connected()
                    async with aclosing(source.aiter_sse()) as frames:
                        async for frame in frames:
                            resume.heard(frame)
                            if not is_event(frame):
                                continue
                            if frame.event == DONE:
                                return
                            yield item_of(frame)
                cut: Exception = httpx.ReadError("the stream ended before the task")
            except (httpx.TransportError, Busy) as error:
                cut = error
            if (pause_s := resume.pause_s(cut)) is None:
                raise cut if isinstance(cut, Busy) else unreachable(self.base_url, cut) from cut
            await asyncio.sleep(pause_s)
