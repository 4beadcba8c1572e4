"""The gateway's surroundings in memory: an orchestrator that runs the real ``decide``, views that run the real fold."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
from aiokafka import TopicPartition
from msgspec import structs
from psycopg import OperationalError

from services.orchestrator.limits import limits_in
from taskloom.bus.errors import BusUnavailable, ReplyTimeout
from taskloom.domain.entities.agents import Agent
from taskloom.domain.entities.commands import EntityCommand
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.entities.keys import ApiKey
from taskloom.domain.entities.sessions import Session as Marks
from taskloom.domain.entities.users import User
from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.refusals import Refusal
from taskloom.domain.scheduling.quotas import KEY_SCOPE, Scope, Use, day_of, hour_of
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.commands import ExplainTask, SubmitTask
from taskloom.domain.task.decide import decide
from taskloom.domain.task.events import TaskEvent
from taskloom.domain.task.evolve import fold
from taskloom.domain.workflow.events import StepCompleted, StepFailed, StepScheduled
from taskloom.domain.workflow.evolve import initial_variables
from taskloom.domain.workflow.wanted import child_id
from taskloom.kinds.offers import Offer
from taskloom.views.approvals.fold import fold_all as fold_approvals
from taskloom.views.approvals.query import Asked, read_cursor
from taskloom.views.approvals.query import Filters as ApprovalFilters
from taskloom.views.approvals.query import Page as ApprovalPage
from taskloom.views.audit.query import AuditFilter
from taskloom.views.executors.query import Executor
from taskloom.views.goals.fold import fold_all as fold_goal
from taskloom.views.goals.query import GoalView
from taskloom.views.metrics.fold import HOUR_S, Tally
from taskloom.views.metrics.query import Hours, LastHour, Sla
from taskloom.views.metrics.sums import Hour, add
from taskloom.views.metrics.write import hour_at
from taskloom.views.outputs.query import Chunk, OutputPage
from taskloom.views.queues.query import QueueStats, add_depth
from taskloom.views.retired.query import Retired
from taskloom.views.sessions.query import Filters as SessionFilters
from taskloom.views.sessions.query import Page as SessionPage
from taskloom.views.sessions.query import Session
from taskloom.views.steps.fold import fold_all as fold_steps
from taskloom.views.steps.query import StepPage, StepTask, page_of
from taskloom.views.steps.shape import Shape
from taskloom.views.task_executions.filters import Filters
from taskloom.views.task_executions.fold import fold as fold_row
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.of_agents import AGENT_KINDS
from taskloom.views.task_executions.query import Page, Place, make_cursor
from taskloom.views.task_executions.query import read_cursor as read_task_cursor
from taskloom.views.task_executions.row import Row
from taskloom.views.usage.query import Ended, Sum, UsageFilter
from taskloom.wire.claims import claimed_digest
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, decode_command, encode_command
from taskloom.wire.messages import AuditEntry, OutputChunk, Reply
from taskloom.wire.recorded import GENESIS, seal
from tests.component.gateway.memory_entities import MemoryEntities

EVENTS_TOPIC = "taskloom.events"
OUTPUTS_TOPIC = "taskloom.outputs"


class Expected:
    def __init__(self, future: "asyncio.Future[Reply]") -> None:
        self._future = future

    async def reply(self, timeout_s: float) -> Reply:
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._future)
        except TimeoutError:
            raise ReplyTimeout from None


class MemorySystem:
    """Everything around the gateway. ``silent``: the orchestrator does not answer. ``away``: Kafka is not there.
    ``behind``: the views show nothing new."""

    reply_to = "gateway-1"

    def __init__(self) -> None:
        self.silent = self.away = self.behind = False
        self.sent: list[Envelope] = []
        self.streams: dict[str, list[Recorded]] = {}
        self.memory_entities = MemoryEntities(self.streams)
        self.rows: dict[str, Row] = {}
        self.chunks_of: dict[str, list[Chunk]] = {}
        self.retired_at: dict[str, datetime] = {}
        self.retired_output_of: dict[str, int] = {}
        self.stored: dict[str, bytes] = {}
        self.snapshots: dict[str, tuple[int, bytes]] = {}
        self.known_now = Offer()
        self.executors_now: list[Executor] = []
        self.lag = 12.0
        self.used: list[Use] = []
        self.tail = MemoryTail()
        self.logs: list[list[tuple[int, bytes]]] = [[], []]
        self.log_reads = 0
        """Of those for one tenant, behind what the gateway keeps in memory."""
        self.history_reads = self.key_looks = 0
        self.database_away = False
        self.entries: list[AuditEntry] = []
        self.uses: dict[tuple[str, str], datetime] = {}
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}

    async def used_by(self, scopes: Sequence[Scope], at: datetime) -> list[Use]:
        return [use for use in self.used if Scope(use.tenant_id, use.session_id) in scopes]

    # Kafka

    async def send(self, envelopes: Sequence[Envelope]) -> None:
        if self.away:
            raise BusUnavailable("Kafka did not acknowledge within 15 s")
        for envelope in envelopes:
            key, value, headers = encode_command(envelope)
            envelope = decode_command(key, value, headers, fallback_id="none")
            self.sent.append(envelope)
            if not self.silent:
                found = await self.memory_entities.looked_up(envelope)
                if isinstance(found, Refusal):
                    asked = envelope.attributes.id
                    self._answer(Reply(asked, envelope.task_id, datetime.now(UTC), refusal=found))
                else:
                    self._decide(found)

    @contextmanager
    def expect(self, command_id: str) -> Iterator[Expected]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command_id, []).append(future)
        yield Expected(future)
        self._waiting[command_id].remove(future)

    def _decide(self, envelope: Envelope) -> None:
        attributes, now = envelope.attributes, datetime.now(UTC)
        if isinstance(envelope.command, EntityCommand):
            self._answer(self.memory_entities.apply(envelope, envelope.command, behind=self.behind))
            return
        caller = Caller(
            envelope.task_id,
            attributes.tenant_id,
            attributes.id,
            attributes.actor,
            attributes.correlation_id,
            attributes.traceparent,
        )
        before = fold(self.streams.get(envelope.task_id, []))
        decision = decide(before, envelope.command, now, caller)
        refusal = decision if isinstance(decision, Refusal) else None
        if not isinstance(decision, Refusal):
            self.record(envelope.task_id, decision, tenant_id=attributes.tenant_id, by=attributes)
        state = fold(self.streams.get(envelope.task_id, []))
        data: dict[str, Any] = {}
        if isinstance(envelope.command, SubmitTask) and decision == []:
            data = {"repeated": True}
        if isinstance(envelope.command, ExplainTask) and refusal is None:
            data = {"gates": [{"gate": "queue", "detail": "nobody serves it"}]}
        reply = Reply(
            attributes.id,
            envelope.task_id,
            now,
            state="" if state is None else state.word,
            version=0 if state is None else state.version,
            refusal=refusal,
            created_at=None if state is None else state.submitted_at,
            data=data,
        )
        self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        for future in self._waiting.get(reply.command_id, ()):
            if not future.done():
                future.set_result(reply)

    # The store

    def record(
        self,
        task_id: str,
        events: Sequence[TaskEvent],
        *,
        tenant_id: str = "default",
        by: Attributes | None = None,
        live: bool = True,
    ) -> list[Recorded]:
        """Events of a task, stored; published too unless ``live`` is False."""
        stream = self.streams.setdefault(task_id, [])
        new = []
        for event in events:
            who = {"command_id": by.id, "actor": by.actor} if by is not None else {}
            meta = EventMeta(task_id, len(stream) + 1, datetime.now(UTC), tenant_id, **who)
            recorded = seal(event, meta, stream[-1].digest if stream else GENESIS)
            stream.append(recorded)
            self.append_to_log(recorded)
            new.append(recorded)
        if not self.behind:
            self.project(task_id)
        if live:
            for recorded in new:
                self.tail.publish(EVENTS_TOPIC, task_id, recorded.body)
        return new

    def project(self, task_id: str) -> None:
        row = fold_all(self.streams.get(task_id, []))
        if row is not None:
            self.rows[task_id] = row

    def write(self, task_id: str, chunk: OutputChunk, *, live: bool = True, stored: bool = True) -> None:
        """A piece of output; ``stored`` False: it is on its way to the table still."""
        if stored:
            body = chunk.data or chunk.text.encode()
            self.chunks_of.setdefault(task_id, []).append(
                Chunk(chunk.seq, chunk.attempt, chunk.stream, chunk.at, not chunk.data, body)
            )
        if live:
            self.tail.publish(OUTPUTS_TOPIC, task_id, msgspec.json.encode(chunk))

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]:
        self.history_reads += 1
        await asyncio.sleep(0)
        found = [each for each in self.streams.get(task_id, []) if each.version > after]
        return [each for each in found if up_to is None or each.version <= up_to][:limit]

    async def snapshot(self, task_id: str) -> tuple[int, bytes] | None:
        return self.snapshots.get(task_id)

    def append_to_log(self, recorded: Recorded) -> None:
        """Every third position is one that no event came to have."""
        log = self.logs[sum(recorded.task_id.encode()) % len(self.logs)]
        last = log[-1][0] if log else 0
        log.append((last + (2 if last % 3 == 1 else 1), recorded.body))

    @property
    def shards(self) -> int:
        return len(self.logs)

    async def log_end(self, shard: int) -> int:
        await asyncio.sleep(0)
        return self.logs[shard][-1][0] if self.logs[shard] else 0

    async def log(
        self, shard: int, after: int, up_to: int | None = None, *, limit: int, holding: bytes = b""
    ) -> list[tuple[int, bytes]]:
        self.log_reads += bool(holding)
        await asyncio.sleep(0)
        return [
            (position, body)
            for position, body in self.logs[shard]
            if position > after and (up_to is None or position <= up_to) and holding in body
        ][:limit]

    async def firsts(self, task_ids: Sequence[str]) -> list[Recorded]:
        await asyncio.sleep(0)
        return [self.streams[task_id][0] for task_id in task_ids if task_id in self.streams]

    async def put(self, value: bytes) -> str:
        digest = hashlib.sha256(value).hexdigest()
        self.stored[digest] = value
        return digest

    async def resolve(self, value: Any) -> Any:
        digest = claimed_digest(value)
        return value if digest is None else msgspec.json.decode(self.stored[digest])

    # The views

    async def steps(self, run: Row, *, after: str, limit: int, results: bool = False) -> StepPage:
        """As PostgreSQL's, without results; the tasks of steps, which do not run here, are made of the run's events."""
        history = self.streams[run.task_id]
        rows = fold_steps(history, Shape(run.input)).rows
        tasks: dict[str, StepTask] = {}
        for recorded in history:
            event: Any = recorded.event
            if isinstance(event, StepScheduled):
                name, kind = child_id(run.task_id, event.path, event.restart), event.submission["kind"]
                tasks[event.path] = StepTask(name, kind, "running", 1, started_at=recorded.meta.at)
            elif isinstance(event, StepCompleted | StepFailed) and event.path in tasks:
                state = "completed" if isinstance(event, StepCompleted) else "failed"
                ended = {"state": state, "ended_at": recorded.meta.at}
                tasks[event.path] = structs.replace(tasks[event.path], **ended)
        return page_of(run, list(rows.values()), list(tasks.values()), after=after, limit=limit)

    async def goal(self, tenant_id: str, task_id: str, *, traces: int) -> GoalView | None:
        row = self.rows.get(task_id)
        found = fold_goal(self.streams.get(task_id, [])[: row.version]) if row is not None else None
        if found is None or found.goal.tenant_id != tenant_id:
            return None
        steps = sorted(found.steps.values(), key=lambda step: (step.plan, step.number))
        return GoalView(found.goal, steps, found.traces[::-1][:traces])

    async def variables(self, run: Row) -> dict[str, Any]:
        changed = fold_steps(self.streams[run.task_id], Shape(run.input)).variables
        variables = {**initial_variables(run.input), **{name: msgspec.json.decode(changed[name]) for name in changed}}
        return {name: variables[name] for name in sorted(variables)}

    def _rows(self, tenant_id: str) -> list[Row]:
        return [row for row in self.rows.values() if row.tenant_id == tenant_id and row.deleted_at is None]

    async def write_audit(self, entries: Sequence[AuditEntry]) -> None:
        if self.away:
            raise BusUnavailable("Kafka did not acknowledge within 15 s")
        self.entries += entries

    async def audit(self, tenant_id: str, chosen: AuditFilter, limit: int) -> list[AuditEntry]:
        found = [each for each in reversed(self.entries) if each.tenant_id == tenant_id]
        return [
            each
            for each in found
            if (chosen.before is None or each.id < chosen.before)
            and (chosen.refused is None or (each.status >= 400) == chosen.refused)
            and all(
                getattr(chosen, name) in (None, getattr(each, name))
                for name in ("user_id", "key_id", "task_id", "method", "route", "status")
            )
        ][:limit]

    async def key(self, key_hash: str) -> Entity | None:
        self.key_looks += 1
        if self.database_away:
            raise OperationalError("the database is away")
        for entity in self.memory_entities.shown.values():
            if isinstance(entity.value, ApiKey) and entity.value.lookup == key_hash and not entity.value.removed:
                return entity
        return None

    async def agents_by_token(self, hashes: Sequence[str]) -> list[Entity]:
        if self.database_away:
            raise OperationalError("the database is away")
        return [
            each
            for each in self.memory_entities.shown.values()
            if isinstance(each.value, Agent) and each.value.lookup in hashes and not each.value.removed
        ]

    async def places(self, task_ids: Sequence[str]) -> dict[str, Place]:
        found = {task_id: self.rows[task_id] for task_id in task_ids if task_id in self.rows}
        return {task_id: Place(row.tenant_id, row.attempt, row.phase) for task_id, row in found.items()}

    async def usage_series(self, tenant_id: str, chosen: UsageFilter) -> list[Sum]:
        found = [use for use in self._used(tenant_id, chosen) if use.session_id == chosen.scope]
        return [Sum(use.period, use.tokens, use.cost_usd, use.attempts) for use in found]

    async def usage_by_scope(self, tenant_id: str, chosen: UsageFilter) -> tuple[list[Sum], int]:
        sums: dict[str, Sum] = {}
        for use in self._used(tenant_id, chosen):
            if use.session_id and use.session_id.startswith("@") == (chosen.by == "key"):
                name = use.session_id.removeprefix(KEY_SCOPE)
                before = sums.get(name, Sum(name, 0, 0.0, 0))
                cost = before.cost_usd + use.cost_usd
                sums[name] = Sum(name, before.tokens + use.tokens, cost, before.attempts + use.attempts)
        found = sorted(sums.values(), key=lambda each: -each.cost_usd)
        return found[chosen.offset : chosen.offset + chosen.limit], len(found)

    def _used(self, tenant_id: str, chosen: UsageFilter) -> list[Use]:
        name = hour_of if chosen.by == "hour" else day_of
        first, end = name(chosen.since), name(chosen.until)
        uses = [use for use in self.used if use.tenant_id == tenant_id and len(use.period) == len(first)]
        return [use for use in uses if first <= use.period < end]

    async def usage_ended(self, tenant_id: str, chosen: UsageFilter) -> dict[datetime, Ended]:
        return {}

    async def tenant_limits(self, since: str) -> list[tuple[str, str | None, bytes | None]]:
        found = [row for stream in self.streams for row in limits_in(filter(None, [self.memory_entities.now(stream)]))]
        return [(since, None, None), *((since, row.tenant_id, row.overrides) for row in found)]

    async def account(self, identity: str) -> Entity | None:
        found = self.memory_entities.shown.values()
        return next((each for each in found if isinstance(each.value, User) and each.value.lookup == identity), None)

    async def key_uses(self, tenant_id: str, key_ids: list[str]) -> dict[str, datetime]:
        return {key: at for (tenant, key), at in self.uses.items() if tenant == tenant_id and key in key_ids}

    async def note_key_uses(self, uses: Mapping[tuple[str, str], datetime]) -> None:
        self.uses |= uses

    async def task(self, tenant_id: str, task_id: str) -> Row | None:
        row = self.rows.get(task_id)
        return row if row is not None and row.tenant_id == tenant_id else None

    async def tasks(self, tenant_id: str, filters: Filters, *, limit: int, offset: int, cursor: str | None) -> Page:
        found = [
            row
            for row in reversed(self._rows(tenant_id))
            if (not filters.statuses or row.status in filters.statuses)
            and filters.session_id in (None, row.session_id)
            and (filters.created_before is None or row.created_at < filters.created_before)
            and (filters.tag is None or filters.tag in row.tags)
            and (filters.task_ids is None or row.task_id in filters.task_ids)
            and all(str(row.metadata.get(name)) == value for name, value in filters.metadata.items())
        ]
        return Page(found[offset : offset + limit], len(found), True, None)

    async def tasks_of_agents(
        self, tenant_id: str, agent_id: str | None, *, ended_after: datetime, limit: int
    ) -> list[Row]:
        return [
            row
            for row in reversed(self._rows(tenant_id))
            if row.kind in AGENT_KINDS
            and (row.assigned_to == agent_id if agent_id is not None else row.assigned_to)
            and (row.completed_at is None or row.completed_at > ended_after)
        ][:limit]

    async def chunks(self, task_id: str, *, after: int, limit: int) -> list[Chunk]:
        await asyncio.sleep(0)
        return [chunk for chunk in self.chunks_of.get(task_id, []) if chunk.seq > after][:limit]

    async def output(
        self, tenant_id: str, task_id: str, *, after: int, limit: int, streams: Collection[str]
    ) -> OutputPage | None:
        found = await self.chunks(task_id, after=after, limit=limit)
        found = [chunk for chunk in found if not streams or chunk.stream in streams]
        row = await self.task(tenant_id, task_id)
        if row is None:
            return None
        gone = self.retired_output_of.get(task_id, 0)
        page = OutputPage(found, found[-1].seq if found else after, row.ended)
        return structs.replace(page, retired_seq=gone, retired_at=datetime.now(UTC)) if gone else page

    async def retired(self, tenant_id: str, task_id: str) -> Retired | None:
        history, at = self.streams.get(task_id, []), self.retired_at.get(task_id)
        if at is None or not history or history[0].meta.tenant_id != tenant_id:
            return None
        return Retired(task_id, len(history), len(history), at)

    async def retired_output(self, task_id: str) -> int:
        return self.retired_output_of.get(task_id, 0)

    async def sessions(
        self, tenant_id: str, filters: SessionFilters, *, limit: int, offset: int, cursor: str | None
    ) -> SessionPage:
        if cursor:
            read_task_cursor(cursor)
        names = list(dict.fromkeys(row.session_id for row in self._rows(tenant_id)))
        found = [each for name in names if (each := await self.session(tenant_id, name)) is not None]
        found = [each for each in found if filters.q is None or filters.q in each.title]
        return SessionPage(found[offset : offset + limit], len(found))

    def _marks(self, tenant_id: str, session_id: str) -> Marks:
        entity = self.memory_entities.found("session", tenant_id).get(session_id)
        return entity.value if entity is not None and isinstance(entity.value, Marks) else Marks()

    async def session(self, tenant_id: str, session_id: str) -> Session | None:
        marks = self._marks(tenant_id, session_id)
        rows, _ = await self.session_tasks(tenant_id, session_id, limit=1000, since=marks.removed_at)
        if not rows:
            return None
        last = rows[-1]
        first = rows[0]
        return Session(
            session_id=session_id,
            tenant_id=tenant_id,
            user_id=last.user_id,
            created_at=first.created_at,
            updated_at=last.updated_at or last.created_at,
            last_completed_at=last.completed_at,
            task_count=len(rows),
            successful_tasks=0,
            failed_tasks=0,
            cancelled_tasks=0,
            tokens_used=0,
            cost_usd=0.0,
            removed_at=marks.removed_at,
            title=marks.title,
            latest_task_id=last.task_id,
            latest_task_query=last.query,
            latest_task_status=last.status,
            first_task_mode=first.mode,
            context=first.context,
        )

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
        at = read_task_cursor(cursor) if cursor else None
        found = [
            row
            for row in self._rows(tenant_id)
            if row.session_id == session_id
            and (since is None or row.created_at > since)
            and (until is None or row.created_at <= until)
            and (at is None or (row.created_at, row.task_id) > at)
        ]
        page = found[offset : offset + limit]
        return page, make_cursor(page[-1]) if len(found) > offset + limit else None

    async def assigned(self, tenant_id: str, limit: int) -> list[str]:
        rows = [row for row in self._rows(tenant_id) if row.state == "assigned"]
        return [row.task_id for row in sorted(rows, key=lambda row: row.priority)][:limit]

    async def executors(self, tenant_id: str | None = None) -> list[Executor]:
        return [each for each in self.executors_now if each.serves(tenant_id)]

    async def executor(self, executor_id: str, tenant_id: str | None = None) -> Executor | None:
        found = (each for each in self.executors_now if each.executor_id == executor_id and each.serves(tenant_id))
        return next(found, None)

    async def queues(self, tenant_id: str) -> list[QueueStats]:
        found: dict[str, QueueStats] = {}
        for row in self._rows(tenant_id):
            stats = found.setdefault(row.queue, QueueStats(row.queue))
            overdue = not row.ended and row.deadline is not None and row.deadline < datetime.now(UTC)
            if not row.ended:
                add_depth(stats, row.state, row.priority, 1, row.created_at, int(overdue))
        return [found[name] for name in sorted(found)]

    async def count_by_status(self, tenant_id: str) -> dict[str, int]:
        return dict(Counter(row.status for row in self._rows(tenant_id)))

    def tally(self) -> Tally:
        tally = Tally()
        for name, stream in self.streams.items():
            row: Row | None = None
            if is_entity_id(name):
                continue
            for recorded in stream:
                before, row = row, fold_row(row, recorded)
                tally.count(before, recorded, row)
        return tally

    def _sums(self, tenant_id: str, since: datetime | None = None) -> Hours:
        found = Hours()
        for key, sums in self.tally().hours.items():
            at = hour_at(key.hour)
            if key.tenant_id == tenant_id and (since is None or at >= since):
                add(found.hours.setdefault(at, Hour()), sums)
                add(found.executors.setdefault(key.executor_id, Hour()), sums)
                add(found.kinds.setdefault(key.kind, Hour()), sums)
        return found

    async def last_hour(self, tenant_id: str) -> LastHour:
        at = datetime.now(UTC)
        seconds = [
            (key.second, each)
            for key, each in self.tally().seconds.items()
            if key.tenant_id == tenant_id and key.second > at.timestamp() - HOUR_S
        ]
        running = sum(row.status == "RUNNING" for row in self._rows(tenant_id))
        ended = sum(row.ended for row in self._rows(tenant_id))
        last_minute = sum(each.completed for second, each in seconds if second >= at.timestamp() - 60)
        sums = (
            sum(getattr(each, name) for _, each in seconds)
            for name in ("completed", "failed", "timed", "duration_us", "sla_violated")
        )
        return LastHour(at, running, running, ended, last_minute, *sums)

    async def hours_since(self, tenant_id: str, since: datetime) -> Hours:
        return self._sums(tenant_id, since)

    async def sla_since(self, tenant_id: str, since: datetime) -> Sla:
        hours = self._sums(tenant_id, since).hours.values()
        return Sla(sum(hour.sla_met for hour in hours), sum(hour.sla_violated for hour in hours))

    async def of_executors(self, tenant_id: str, executor_id: str | None) -> dict[str, Hour]:
        sums = self._sums(tenant_id).executors.items()
        return {name: hour for name, hour in sums if name and executor_id in (None, name)}

    async def queue(self, tenant_id: str, name: str) -> QueueStats | None:
        return next((stats for stats in await self.queues(tenant_id) if stats.name == name), None)

    # Approvals, folded when they are asked for

    def _approvals(self, tenant_id: str) -> list[Asked]:
        return [
            Asked(approval, row.session_id, row.name, row.query)
            for row in self._rows(tenant_id)
            for approval in fold_approvals(self.streams[row.task_id][: row.version]).values()
        ]

    async def approval(self, tenant_id: str, approval_id: str) -> Asked | None:
        return next((each for each in self._approvals(tenant_id) if each.approval.approval_id == approval_id), None)

    async def approvals(
        self, tenant_id: str, filters: ApprovalFilters, *, limit: int, cursor: str | None
    ) -> ApprovalPage:
        if cursor:
            read_cursor(cursor)
        found = [
            each
            for each in self._approvals(tenant_id)
            if filters.status in (None, each.approval.status)
            and filters.task_id in (None, each.approval.task_id)
            and filters.session_id in (None, each.session_id)
            and (filters.approver is None or filters.approver in (each.approval.approvers or (filters.approver,)))
        ]
        return ApprovalPage(found[:limit])

    async def entity(self, kind: str, tenant_id: str, name: str) -> Entity | None:
        return self.memory_entities.found(kind, tenant_id).get(name)

    async def entities(self, kind: str, tenant_id: str, *, after: str, limit: int) -> tuple[list[Entity], int]:
        found = self.memory_entities.found(kind, tenant_id)
        return [entity for name, entity in found.items() if name > after][:limit], len(found)

    async def entity_version(self, entity_id: str) -> int:
        shown = self.memory_entities.shown.get(entity_id)
        return 0 if shown is None else shown.version

    async def known(self) -> Offer:
        return self.known_now

    async def lag_ms(self) -> float:
        return self.lag

    async def ping(self) -> None:
        return


class MemoryTail:
    """Live records: what is published while it is started comes out of ``poll``."""

    def __init__(self) -> None:
        self.started = False
        self.starts = 0
        self.on_start: Callable[[], None] | None = None
        self._records: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()

    def publish(self, topic: str, key: str, value: bytes) -> None:
        if self.started:
            self._records.put_nowait((topic, key, value))

    async def start(self, timeout_s: float = 30.0) -> None:
        self.started = True
        self.starts += 1
        if self.on_start is not None:
            self.on_start()

    async def poll(self, timeout_ms: int = 200) -> Any:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                taken = [await self._records.get()]
        except TimeoutError:
            return {}
        while not self._records.empty():
            taken.append(self._records.get_nowait())
        batches: dict[TopicPartition, list[Any]] = {}
        for topic, key, value in taken:
            batches.setdefault(TopicPartition(topic, 0), []).append(SimpleNamespace(key=key.encode(), value=value))
        return batches

    async def stop(self) -> None:
        self.started = False
