"""Reading tasks: rows from the views, histories from the store, large values followed, own writes awaited."""

import re
from datetime import timedelta
from typing import Any, Final

import msgspec
from msgspec import structs

from services.gateway.problems import BadRequest, Conflict, Gone, NotFound
from services.gateway.queries import TaskListQuery, filters_of
from services.gateway.readside import Histories, Values, Views
from services.gateway.security import Caller
from services.gateway.wait import Recent, session_key, until_visible
from taskloom.domain.envelope import Recorded
from taskloom.domain.runs import is_run
from taskloom.domain.task.events import AFTER_END_EVENTS, TERMINAL_EVENTS, TaskSubmitted
from taskloom.domain.task.snapshot import decode_state
from taskloom.domain.workflow.events import WorkflowEvent
from taskloom.domain.workflow.evolve import fold_run, open_run
from taskloom.domain.workflow.results import checkpoint
from taskloom.domain.workflow.state import RunState
from taskloom.domain.workflow.values import Ref, has_refs
from taskloom.replay.as_of import BadMoment, Moment, read_moment, tasks_as_of, up_to
from taskloom.views.retired.query import Retired
from taskloom.views.sessions.query import Session
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.query import BadCursor, Page
from taskloom.views.task_executions.row import Row
from taskloom.views.timelines.stream import StreamEvent, last_retry, stream_events
from taskloom.wire.claims import claimed_digest

_MOST_VIRTUAL: Final = 2
"""Virtual events after an end: by so many a stream event's ``seq`` can be ahead of its event's version."""

_PAGE: Final = 500

_CLAIM_TEXT: Final = re.compile(r'\{"\$claim":"sha256:[0-9a-f]{64}","bytes":\d+\}')
"""A large result is text, so its reference is too: the executor writes it in this very form."""

_RESOLVED: Final = ("input", "context", "response")


class Reader:
    """``wait_s``: how long a read of something just accepted waits until the read side shows it."""

    def __init__(self, views: Views, histories: Histories, values: Values, recent: Recent, *, wait_s: float) -> None:
        self.views = views
        self.histories = histories
        self._values = values
        self._recent = recent
        self._wait_s = wait_s

    async def task(self, caller: Caller, task_id: str, as_of: str = "") -> Row:
        """The task's row, now or then, with its large values in place.

        Raises:
            NotFound: unknown, another tenant's, or not submitted yet at that moment.
            BadRequest: ``as_of`` is no moment.
        """
        moment = moment_of(as_of)
        row = await self.row(caller, task_id) if moment is None else await self._row_then(caller, task_id, moment)
        return await self.with_values(row)

    def promise(self, caller: Caller, task_id: str, version: int) -> None:
        """The caller is told of this version in another way (a stream), so the reads that follow show at least it."""
        self._recent.add(caller.tenant_id, task_id, version)

    async def row(self, caller: Caller, task_id: str) -> Row:
        """The task's row as it is in the table.

        Raises:
            NotFound: unknown, another tenant's, or deleted.
            Gone: it was retired.
        """
        row = await until_visible(
            lambda: self.views.task(caller.tenant_id, task_id),
            lambda found: found.version,
            self._recent.expected_version(caller.tenant_id, task_id),
            within_s=self._wait_s,
        )
        if row is None and (retired := await self.views.retired(caller.tenant_id, task_id)) is not None:
            raise gone(retired)
        if row is None or row.deleted_at is not None:
            raise NotFound("Task not found", task_id=task_id)
        return row

    async def run_row(self, caller: Caller, task_id: str) -> Row:
        """The row of a workflow's run.

        Raises:
            NotFound: unknown, or another tenant's.
            Conflict: the task is no workflow.
        """
        row = await self.row(caller, task_id)
        if not is_run(row.kind):
            raise Conflict("the task is no workflow", task_id=task_id)
        return row

    async def session(self, caller: Caller, session_id: str) -> Session | None:
        """The session, None when it is unknown, removed, or another tenant's. Waits a moment for one that a task which
        this gateway has just accepted brings into being."""
        expected = self._recent.expected_version(caller.tenant_id, session_key(session_id))
        return await until_visible(
            lambda: self.views.session(caller.tenant_id, session_id), lambda _: 1, expected, within_s=self._wait_s
        )

    async def _row_then(self, caller: Caller, task_id: str, moment: Moment) -> Row:
        row = fold_all(await self.history(caller, task_id, moment))
        assert row is not None
        return row

    async def history(self, caller: Caller, task_id: str, moment: Moment | None) -> list[Recorded]:
        """The task's events up to ``moment``, all when None; at least one.

        Raises:
            NotFound: unknown, another tenant's, or nothing had happened yet.
        """
        await self.check_owner(caller, task_id)
        found = await self.histories.events(task_id, up_to=moment if isinstance(moment, int) else None)
        happened = found if moment is None else up_to(found, moment)
        if not happened:
            raise NotFound("Task not found: it was not submitted yet at that moment", task_id=task_id)
        return happened

    async def run(self, caller: Caller, task_id: str, version: int | None = None) -> RunState:
        """The state of a workflow's run, now or as of a version. Of a long run only what came after its last snapshot
        is read.

        Raises:
            NotFound: unknown, another tenant's, or that version has not been reached.
            Conflict: the task is no workflow.
        """
        await self.check_owner(caller, task_id)
        stored = await self.histories.snapshot(task_id) if version is None else None
        state = None if stored is None else decode_state(stored[1])
        run: RunState | None = None if state is None else state.run
        after = state.version if state is not None and run is not None else 0
        found = await self.histories.events(task_id, after=after, up_to=version)
        if version is not None and len(found) < version:
            raise NotFound(f"the task has {len(found)} events", task_id=task_id, field="version")
        if run is None:
            submitted = found[0].event
            if not isinstance(submitted, TaskSubmitted) or not is_run(submitted.spec.kind):
                raise Conflict("the task is no workflow", task_id=task_id)
            run = open_run(submitted.spec.input)
        return fold_run(run, [recorded.event for recorded in found if isinstance(recorded.event, WorkflowEvent)])

    async def checkpoint(self, caller: Caller, task_id: str, version: int | None) -> dict[str, Any]:
        """What a new run can start from, large results in place. Raises as ``run``."""
        saved = checkpoint(await self.run(caller, task_id, version))
        for step in saved["steps"].values():
            step["result"] = await self._in_place(step["result"])
        return saved

    async def _in_place(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return await self._values.resolve(msgspec.to_builtins(value))
        if isinstance(value, dict):
            return {key: await self._in_place(inner) for key, inner in value.items()} if has_refs(value) else value
        return [await self._in_place(inner) for inner in value] if has_refs(value) else value

    async def events_page(
        self, caller: Caller, task_id: str, *, limit: int, offset: int, moment: Moment | None
    ) -> list[StreamEvent]:
        """Stream events ``offset + 1`` to ``offset + limit``, as they were at ``moment``. Raises NotFound."""
        await self.check_owner(caller, task_id)
        first = max(0, offset - _MOST_VIRTUAL)
        last = moment if isinstance(moment, int) else None
        found = await self.histories.events(task_id, after=first, limit=offset - first + limit, up_to=last)
        full = len(found) == offset - first + limit
        # Behind an end, seq is moved by the virtual events that follow it: it has to be in sight.
        while first and found and isinstance(found[0].event, AFTER_END_EVENTS):
            earlier = max(0, first - _PAGE)
            found = [*await self.histories.events(task_id, after=earlier, up_to=first), *found]
            first = earlier
        happened = found if moment is None else up_to(found, moment)
        if moment is not None and not happened and offset == 0:
            raise NotFound("Task not found: it was not submitted yet at that moment", task_id=task_id)
        retried = full and len(happened) == len(found) and await self._retried_later(task_id, happened, moment)
        return [each for each in stream_events(happened, retried_later=retried) if each.seq > offset][:limit]

    async def _retried_later(self, task_id: str, part: list[Recorded], moment: Moment | None) -> bool:
        """Whether the end in this part of a history, if there is one, was taken back by the moment."""
        if not any(isinstance(recorded.event, TERMINAL_EVENTS) for recorded in part[last_retry(part) + 1 :]):
            return False
        after, last = part[-1].version, moment if isinstance(moment, int) else None
        while page := await self.histories.events(task_id, after=after, limit=_PAGE, up_to=last):
            happened = page if moment is None else up_to(page, moment)
            if last_retry(happened) >= 0:
                return True
            if len(happened) < len(page):
                return False
            after = page[-1].version
        return False

    async def check_owner(self, caller: Caller, task_id: str) -> None:
        """Raises:
        NotFound: unknown, or another tenant's. Waits a moment for a task that this gateway has just accepted.
        """
        await self.first_event(caller, task_id)

    async def first_event(self, caller: Caller, task_id: str) -> Recorded:
        """The task's submission. Raises as ``check_owner``."""

        async def first() -> Recorded | None:
            found = await self.histories.events(task_id, limit=1)
            return found[0] if found else None

        expected = min(1, self._recent.expected_version(caller.tenant_id, task_id))
        event = await until_visible(first, lambda found: found.version, expected, within_s=self._wait_s)
        if event is None or event.meta.tenant_id != caller.tenant_id:
            raise NotFound("Task not found", task_id=task_id)
        return event

    async def tasks(self, caller: Caller, query: TaskListQuery, metadata: dict[str, str]) -> Page:
        """One page of the caller's tenant's tasks. Raises BadRequest, naming the parameter.

        As of a time: the tasks that were there then, each as it was. A status is looked at after that, so a page may
        hold fewer tasks than asked for, with more on the next.
        """
        moment = moment_of(query.as_of)
        if isinstance(moment, int):
            raise BadRequest("a list has no version; send a time", field="as_of")
        filters = filters_of(query, metadata)
        statuses = filters.statuses
        if moment is not None:
            just_after = moment + timedelta(microseconds=1)
            before = just_after if query.created_before is None else min(query.created_before, just_after)
            filters = structs.replace(filters, statuses=(), created_before=before, deleted_too=True)
        try:
            page = await self.views.tasks(
                caller.tenant_id, filters, limit=query.limit, offset=query.offset, cursor=query.cursor
            )
        except BadCursor as error:
            raise BadRequest(str(error), field="cursor") from error
        if moment is None:
            return page
        rows = await tasks_as_of(self.histories, caller.tenant_id, [row.task_id for row in page.rows], moment)
        kept = [row for row in rows if row.deleted_at is None and (not statuses or row.status in statuses)]
        return structs.replace(page, rows=kept, total_is_exact=page.total_is_exact and not statuses)

    async def with_values(self, row: Row) -> Row:
        """The row with its large values in place."""
        changes: dict[str, Any] = {}
        for name in _RESOLVED:
            value = getattr(row, name)
            if claimed_digest(value) is not None:
                changes[name] = await self._values.resolve(value)
        if _CLAIM_TEXT.fullmatch(row.result):
            changes["result"] = await self._values.resolve(msgspec.json.decode(row.result))
        return structs.replace(row, **changes) if changes else row


def gone(retired: Retired) -> Gone:
    """The answer for a task that retention took out: what tells of it still, and what brings it back."""
    return Gone(
        f"the task was retired at {retired.retired_at.isoformat()}: its events, its timeline and as_of tell of it; "
        f"`taskloom retention restore {retired.task_id}` brings it back",
        task_id=retired.task_id,
        retired_at=retired.retired_at,
        version=retired.version,
    )


def moment_of(as_of: str) -> Moment | None:
    """The moment that ``?as_of=`` names, None for now.

    Raises:
        BadRequest: it is no moment.
    """
    if not as_of:
        return None
    try:
        return read_moment(as_of)
    except BadMoment as error:
        raise BadRequest(str(error), field="as_of") from error
