"""What the routes read: rows of the views and histories from the event store. Ports, so that tests can stand in."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from taskloom.domain.entities.entity import Entity
from taskloom.domain.envelope import Recorded
from taskloom.domain.scheduling.quotas import Scope, Use, periods_of
from taskloom.kinds.offers import Offer, offer_of
from taskloom.store.sql import SELECT_USES
from taskloom.tenant_limits import FOLLOW
from taskloom.views import positions
from taskloom.views.approvals import query as approval_rows
from taskloom.views.audit import query as audit_rows
from taskloom.views.audit.query import AuditFilter
from taskloom.views.entities import query as entity_rows
from taskloom.views.executors import query as executor_rows
from taskloom.views.executors.query import Executor
from taskloom.views.goals import query as goal_rows
from taskloom.views.goals.query import GoalView
from taskloom.views.keys import query as key_rows
from taskloom.views.metrics import query as metric_sums
from taskloom.views.metrics.query import Hours, LastHour, Sla
from taskloom.views.metrics.sums import Hour
from taskloom.views.outputs import query as output_rows
from taskloom.views.outputs.query import Chunk, OutputPage
from taskloom.views.queues import query as queue_rows
from taskloom.views.queues.query import QueueStats
from taskloom.views.reading import Pool, row, rows
from taskloom.views.retired import query as retired_rows
from taskloom.views.retired.query import Retired
from taskloom.views.sessions import query as session_rows
from taskloom.views.sessions.query import Session
from taskloom.views.steps import query as step_rows
from taskloom.views.steps.query import StepPage
from taskloom.views.task_executions import query as task_rows
from taskloom.views.task_executions.filters import Filters
from taskloom.views.task_executions.of_agents import list_of_agents
from taskloom.views.task_executions.query import Page, Place
from taskloom.views.task_executions.row import Row
from taskloom.views.usage import query as usage_rows
from taskloom.views.usage.query import Ended, Sum, UsageFilter
from taskloom.wire.messages import AuditEntry


class Views(Protocol):
    """The read tables. Everything is bound to a tenant; unknown and foreign look the same: None, or left out."""

    async def task(self, tenant_id: str, task_id: str) -> Row | None:
        """A deleted task's row too: who promised a version has to see that it came."""
        ...

    async def tasks(self, tenant_id: str, filters: Filters, *, limit: int, offset: int, cursor: str | None) -> Page: ...

    async def tasks_of_agents(
        self, tenant_id: str, agent_id: str | None, *, ended_after: datetime, limit: int
    ) -> list[Row]:
        """Commands and containers that name their executor, this one when it is not None: open, or ended later."""
        ...

    async def chunks(self, task_id: str, *, after: int, limit: int) -> list[Chunk]:
        """Output with a seq above ``after``, in order. The caller has checked whose task it is."""
        ...

    async def output(
        self, tenant_id: str, task_id: str, *, after: int, limit: int, streams: Collection[str]
    ) -> OutputPage | None: ...

    async def retired(self, tenant_id: str, task_id: str) -> Retired | None:
        """That a task has no row since retention took it out; None for one that has, or that is unknown."""
        ...

    async def retired_output(self, task_id: str) -> int:
        """Output up to this seq was taken out by retention; 0: none was. The caller has checked whose task it is."""
        ...

    async def sessions(
        self, tenant_id: str, filters: session_rows.Filters, *, limit: int, offset: int, cursor: str | None
    ) -> session_rows.Page: ...

    async def session(self, tenant_id: str, session_id: str) -> Session | None: ...

    async def session_tasks(
        self,
        tenant_id: str,
        session_id: str,
        *,
        limit: int,
        offset: int = 0,
        cursor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> tuple[list[Row], str | None]:
        """The session's tasks submitted after ``since`` and not after ``until``, oldest first, and the next cursor."""
        ...

    async def assigned(self, tenant_id: str, limit: int) -> list[str]:
        """Ids of tasks that an executor has and has not started, low priorities first."""
        ...

    async def executors(self, tenant_id: str | None = None) -> list[Executor]:
        """All, or, for a tenant, those that run tasks of it: not other tenants' agents."""
        ...

    async def executor(self, executor_id: str, tenant_id: str | None = None) -> Executor | None: ...

    async def queues(self, tenant_id: str) -> list[QueueStats]: ...

    async def queue(self, tenant_id: str, name: str) -> QueueStats | None: ...

    async def count_by_status(self, tenant_id: str) -> dict[str, int]: ...

    async def last_hour(self, tenant_id: str) -> LastHour: ...

    async def hours_since(self, tenant_id: str, since: datetime) -> Hours: ...

    async def sla_since(self, tenant_id: str, since: datetime) -> Sla: ...

    async def of_executors(self, tenant_id: str, executor_id: str | None) -> dict[str, Hour]:
        """Sums over all time, by executor; of one when it is named."""
        ...

    async def used_by(self, scopes: Sequence[Scope], at: datetime) -> list[Use]:
        """What tenants and sessions used in the periods that are under way then; written with the events, no lag."""
        ...

    async def usage_series(self, tenant_id: str, chosen: UsageFilter) -> list[Sum]:
        """By period, without those in which nothing was used; written with the events, no lag."""
        ...

    async def usage_by_scope(self, tenant_id: str, chosen: UsageFilter) -> tuple[list[Sum], int]:
        """By session or key, the dearest first, and how many there are."""
        ...

    async def usage_ended(self, tenant_id: str, chosen: UsageFilter) -> dict[datetime, Ended]:
        """Tasks that ended, by the beginning of the period."""
        ...

    async def tenant_limits(self, since: str) -> list[tuple[str, str | None, bytes | None]]:
        """What ``taskloom.tenant_limits.FOLLOW`` says; written with the events, no lag."""
        ...

    async def entity(self, kind: str, tenant_id: str, name: str) -> Entity | None: ...

    async def entities(self, kind: str, tenant_id: str, *, after: str, limit: int) -> tuple[list[Entity], int]:
        """Those whose name comes after ``after``, by name, and the number of all."""
        ...

    async def entity_version(self, entity_id: str) -> int:
        """What the read side shows of it, removed or not; 0 for nothing."""
        ...

    async def approval(self, tenant_id: str, approval_id: str) -> approval_rows.Asked | None: ...

    async def approvals(
        self, tenant_id: str, filters: approval_rows.Filters, *, limit: int, cursor: str | None
    ) -> approval_rows.Page: ...

    async def steps(self, run: Row, *, after: str, limit: int, results: bool = False) -> StepPage:
        """Steps of a run whose paths come after ``after``. The caller has checked whose run it is."""
        ...

    async def variables(self, run: Row) -> dict[str, Any]:
        """The run's variables, sorted by name."""
        ...

    async def goal(self, tenant_id: str, task_id: str, *, traces: int) -> GoalView | None:
        """A goal with its steps and up to ``traces`` of its newest traces; a deleted one too."""
        ...

    async def key(self, key_hash: str) -> Entity | None:
        """The API key with this SHA-256, whatever tenant it is of; None for none, or a revoked one."""
        ...

    async def agents_by_token(self, hashes: Sequence[str]) -> list[Entity]:
        """Agents with these SHA-256 of their tokens, whatever tenant they are of, without revoked ones."""
        ...

    async def places(self, task_ids: Sequence[str]) -> dict[str, Place]:
        """Whose the tasks are and how far they are, by id; whatever tenant they are of."""
        ...

    async def account(self, identity: str) -> Entity | None:
        """The user with this identity, whatever tenant it is of."""
        ...

    async def key_uses(self, tenant_id: str, key_ids: list[str]) -> dict[str, datetime]:
        """When keys were last used, by id; without those that never were."""
        ...

    async def note_key_uses(self, uses: Mapping[tuple[str, str], datetime]) -> None:
        """Remembers uses, by tenant and key id."""
        ...

    async def audit(self, tenant_id: str, chosen: AuditFilter, limit: int) -> list[AuditEntry]:
        """Newest first."""
        ...

    async def known(self) -> Offer: ...

    async def lag_ms(self) -> float: ...

    async def ping(self) -> None: ...


class Histories(Protocol):
    """The event store, read only (taskloom.store.history.HistoryReader)."""

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]: ...

    @property
    def shards(self) -> int: ...

    async def log_end(self, shard: int) -> int:
        """Position of the shard's newest event; none will be added below it."""
        ...

    async def log(
        self, shard: int, after: int, up_to: int | None = None, *, limit: int, holding: bytes = b""
    ) -> list[tuple[int, bytes]]:
        """Position and bytes of events behind ``after``; those without ``holding`` may be left out."""
        ...

    async def firsts(self, task_ids: Sequence[str]) -> list[Recorded]: ...

    async def snapshot(self, task_id: str) -> tuple[int, bytes] | None: ...


class Values(Protocol):
    """Stored large values (taskloom.store.claims.ClaimStore); ``resolve`` leaves all but references as it is."""

    async def put(self, value: bytes) -> str: ...

    async def resolve(self, value: Any) -> Any: ...


class PostgresViews:
    """The read tables as the projection writes them."""

    def __init__(self, pool: Pool, events_topic: str) -> None:
        self._pool = pool
        self._lag = positions.LagReader(pool, events_topic)

    async def task(self, tenant_id: str, task_id: str) -> Row | None:
        return await task_rows.get(self._pool, tenant_id, task_id)

    async def tasks(self, tenant_id: str, filters: Filters, *, limit: int, offset: int, cursor: str | None) -> Page:
        return await task_rows.list_tasks(self._pool, tenant_id, filters, limit=limit, offset=offset, cursor=cursor)

    async def tasks_of_agents(
        self, tenant_id: str, agent_id: str | None, *, ended_after: datetime, limit: int
    ) -> list[Row]:
        return await list_of_agents(self._pool, tenant_id, agent_id, ended_after=ended_after, limit=limit)

    async def chunks(self, task_id: str, *, after: int, limit: int) -> list[Chunk]:
        return await output_rows.read_chunks(self._pool, task_id, after=after, limit=limit)

    async def output(
        self, tenant_id: str, task_id: str, *, after: int, limit: int, streams: Collection[str]
    ) -> OutputPage | None:
        return await output_rows.chunks(self._pool, tenant_id, task_id, after=after, limit=limit, streams=streams)

    async def retired(self, tenant_id: str, task_id: str) -> Retired | None:
        return await retired_rows.get(self._pool, tenant_id, task_id)

    async def retired_output(self, task_id: str) -> int:
        part = (await retired_rows.parts_of(self._pool, [task_id])).get((task_id, "output"))
        return 0 if part is None else part.up_to

    async def sessions(
        self, tenant_id: str, filters: session_rows.Filters, *, limit: int, offset: int, cursor: str | None
    ) -> session_rows.Page:
        return await session_rows.list_sessions(
            self._pool, tenant_id, filters, limit=limit, offset=offset, cursor=cursor
        )

    async def session(self, tenant_id: str, session_id: str) -> Session | None:
        return await session_rows.get(self._pool, tenant_id, session_id)

    async def session_tasks(
        self,
        tenant_id: str,
        session_id: str,
        *,
        limit: int,
        offset: int = 0,
        cursor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> tuple[list[Row], str | None]:
        return await task_rows.of_session(
            self._pool, tenant_id, session_id, limit=limit, offset=offset, cursor=cursor, since=since, until=until
        )

    async def assigned(self, tenant_id: str, limit: int) -> list[str]:
        return await task_rows.assigned(self._pool, tenant_id, limit)

    async def executors(self, tenant_id: str | None = None) -> list[Executor]:
        found = await executor_rows.list_executors(self._pool)
        return [each for each in found if each.serves(tenant_id)]

    async def executor(self, executor_id: str, tenant_id: str | None = None) -> Executor | None:
        found = await executor_rows.get(self._pool, executor_id)
        return found if found is not None and found.serves(tenant_id) else None

    async def queues(self, tenant_id: str) -> list[QueueStats]:
        return await queue_rows.list_queues(self._pool, tenant_id)

    async def queue(self, tenant_id: str, name: str) -> QueueStats | None:
        return await queue_rows.get(self._pool, tenant_id, name)

    async def count_by_status(self, tenant_id: str) -> dict[str, int]:
        return await task_rows.count_by_status(self._pool, tenant_id)

    async def last_hour(self, tenant_id: str) -> LastHour:
        return await metric_sums.last_hour(self._pool, tenant_id)

    async def hours_since(self, tenant_id: str, since: datetime) -> Hours:
        return await metric_sums.hours_since(self._pool, tenant_id, since)

    async def sla_since(self, tenant_id: str, since: datetime) -> Sla:
        return await metric_sums.sla_since(self._pool, tenant_id, since)

    async def of_executors(self, tenant_id: str, executor_id: str | None) -> dict[str, Hour]:
        return await metric_sums.of_executors(self._pool, tenant_id, executor_id)

    async def used_by(self, scopes: Sequence[Scope], at: datetime) -> list[Use]:
        tenants, sessions = [scope.tenant_id for scope in scopes], [scope.session_id for scope in scopes]
        return [Use(*each) for each in await rows(self._pool, SELECT_USES, (tenants, sessions, list(periods_of(at))))]

    async def usage_series(self, tenant_id: str, chosen: UsageFilter) -> list[Sum]:
        return await usage_rows.series(self._pool, tenant_id, chosen)

    async def usage_by_scope(self, tenant_id: str, chosen: UsageFilter) -> tuple[list[Sum], int]:
        return await usage_rows.by_scope(self._pool, tenant_id, chosen)

    async def usage_ended(self, tenant_id: str, chosen: UsageFilter) -> dict[datetime, Ended]:
        return await usage_rows.ended(self._pool, tenant_id, chosen)

    async def tenant_limits(self, since: str) -> list[tuple[str, str | None, bytes | None]]:
        return [(row[0], row[1], row[2]) for row in await rows(self._pool, FOLLOW, (since,))]

    async def entity(self, kind: str, tenant_id: str, name: str) -> Entity | None:
        return await entity_rows.get(self._pool, kind, tenant_id, name)

    async def entities(self, kind: str, tenant_id: str, *, after: str, limit: int) -> tuple[list[Entity], int]:
        found = await entity_rows.list_entities(self._pool, kind, tenant_id, after=after, limit=limit)
        return found, await entity_rows.count(self._pool, kind, tenant_id)

    async def entity_version(self, entity_id: str) -> int:
        return await entity_rows.version(self._pool, entity_id)

    async def approval(self, tenant_id: str, approval_id: str) -> approval_rows.Asked | None:
        return await approval_rows.get(self._pool, tenant_id, approval_id)

    async def approvals(
        self, tenant_id: str, filters: approval_rows.Filters, *, limit: int, cursor: str | None
    ) -> approval_rows.Page:
        return await approval_rows.list_approvals(self._pool, tenant_id, filters, limit=limit, cursor=cursor)

    async def steps(self, run: Row, *, after: str, limit: int, results: bool = False) -> StepPage:
        return await step_rows.steps_of(self._pool, run, after=after, limit=limit, results=results)

    async def variables(self, run: Row) -> dict[str, Any]:
        return await step_rows.variables_of(self._pool, run)

    async def goal(self, tenant_id: str, task_id: str, *, traces: int) -> GoalView | None:
        return await goal_rows.get(self._pool, tenant_id, task_id, traces=traces)

    async def key(self, key_hash: str) -> Entity | None:
        return await entity_rows.find(self._pool, "key", key_hash)

    async def agents_by_token(self, hashes: Sequence[str]) -> list[Entity]:
        return await entity_rows.find_all(self._pool, "agent", hashes)

    async def places(self, task_ids: Sequence[str]) -> dict[str, Place]:
        return await task_rows.places(self._pool, task_ids)

    async def account(self, identity: str) -> Entity | None:
        return await entity_rows.find(self._pool, "user", identity)

    async def key_uses(self, tenant_id: str, key_ids: list[str]) -> dict[str, datetime]:
        return await key_rows.last_used(self._pool, tenant_id, key_ids)

    async def note_key_uses(self, uses: Mapping[tuple[str, str], datetime]) -> None:
        await key_rows.note(self._pool, uses)

    async def audit(self, tenant_id: str, chosen: AuditFilter, limit: int) -> list[AuditEntry]:
        return await audit_rows.list_entries(self._pool, tenant_id, chosen, limit)

    async def known(self) -> Offer:
        """What the executors heard within the last hour announce."""
        heard = [
            each.heartbeat
            for each in await self.executors()
            if each.seconds_since_heard < executor_rows.KINDS_OF_LAST_S
        ]
        return offer_of(heard, datetime.now(UTC))

    async def lag_ms(self) -> float:
        return await self._lag.lag_ms()

    async def ping(self) -> None:
        await row(self._pool, "SELECT 1")
