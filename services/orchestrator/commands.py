"""The command loop, top to bottom: poll, decode, load, decide, assign, put, publish. One writer a partition."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast, get_args

import structlog
from msgspec import structs

from services.orchestrator import metrics
from services.orchestrator.batch import Answer, Batch
from services.orchestrator.decisions import Decisions, EventTooLarge
from services.orchestrator.entities import Entities
from services.orchestrator.faults import Faults
from services.orchestrator.ingest import Ingest, Misplaced, Rejected, dead_letter, with_actor
from services.orchestrator.leases import Leases
from services.orchestrator.lookups import Lookups
from services.orchestrator.memory import Memory
from services.orchestrator.outbox import Outbox, Records
from services.orchestrator.ownership import Owner
from services.orchestrator.peers import of_step, run_of, tell_refused, unknown_dependency
from services.orchestrator.steps import BATCH_EVENTS, Steps, means_in
from services.orchestrator.stored_webhooks import StoredWebhooks
from services.orchestrator.storing import Storing
from services.orchestrator.timers import Timers
from taskloom import telemetry
from taskloom.domain.entities.commands import EntityCommand
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.refusals import Refusal
from taskloom.domain.scheduling.rebalance import in_reserve, moves
from taskloom.domain.scheduling.scheduler import Assignment, Scheduler
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.commands import (
    AssignAttempt,
    BreakRun,
    ExplainTask,
    FireTimers,
    PeerCommand,
    RecallTask,
    Report,
    ReportDeclined,
    RetryChild,
    SubmitTask,
    TaskCommand,
    WatchTask,
)
from taskloom.domain.task.directives import RECALLED, Directive
from taskloom.domain.task.state import run_due
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow.state import AT_ONCE
from taskloom.domain.workflow.wanted import parent_of
from taskloom.wire.cloudevents import GATEWAY_SOURCE
from taskloom.wire.commands import Envelope
from taskloom.wire.topics import partition_of, shard_of

FIRE_AGAIN_S = 60.0
"""A schedule that could not be carried out, which is a bug, is tried again after so long."""

INBOX_LIMIT = 100_000
"""Own commands that wait for a round (lost attempts, strays); beyond it new ones are dropped, heartbeats bring more."""

_log = structlog.get_logger(__name__)
# isinstance asks the metaclass of each class of a union or tuple: at 0.1 us a class that is felt here.
_REPORTS = frozenset((*get_args(Report), *get_args(PeerCommand)))
_OF_ENTITIES = frozenset(get_args(EntityCommand))
utc_now: Callable[[], datetime] = partial(datetime.now, UTC)


Read = tuple[Envelope, Any]
"""A command and the Kafka record that brought it."""


class CommandLoop:
    """Rounds of the single writer. ``round`` takes what was polled and what is due through to the outbox.

    The batch of a round is split by shard; each shard's part is one transaction. When a part cannot be stored because
    another owner was here, its partitions are given up and the part is dropped: the new owner reads the same records.
    """

    def __init__(
        self,
        owner: Owner,
        memory: Memory,
        scheduler: Scheduler,
        timers: Timers,
        decisions: Decisions,
        ingest: Ingest,
        outbox: Outbox,
        records: Records,
        entities: Entities,
        lookups: Lookups,
        webhooks: StoredWebhooks,
        leases: Leases,
        *,
        partitions: int,
        shards: int,
        batch_max: int,
        rebalance_max: int = 0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._owner = owner
        self._memory = memory
        self._scheduler = scheduler
        self._timers = timers
        self._decisions = decisions
        self._ingest = ingest
        self._steps = Steps(memory, decisions, ingest.check)
        self._entities = entities
        self._lookups = lookups
        self._webhooks = webhooks
        self._leases = leases
        decisions.webhooks = webhooks.of
        self._faults = Faults()
        self._storing = Storing(
            owner,
            memory,
            scheduler,
            timers,
            self._faults,
            outbox,
            records,
            entities,
            leases,
            partitions=partitions,
            shards=shards,
        )
        self._partitions = partitions
        self._shards = shards
        self._batch_max = batch_max
        self._clock = clock
        self._inbox: list[tuple[str, TaskCommand]] = []
        self._directives: list[Directive] = []
        self._rebalance_max = rebalance_max
        self._joined = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self.wake = asyncio.Event()

    def tell(self, task_id: str, command: TaskCommand) -> None:
        """Queues a command of our own for the next round."""
        if len(self._inbox) < INBOX_LIMIT:
            self._inbox.append((task_id, command))
        self.wake.set()

    def direct(self, directive: Directive) -> None:
        """Sends a directive with the next round that needs no event."""
        if len(self._directives) < INBOX_LIMIT:
            self._directives.append(directive)
        self.wake.set()

    def idle_s(self, at_most: float) -> float:
        """How long the loop may sleep when nothing arrives."""
        now = self._clock()
        return min(self._timers.seconds_to_next(now, at_most), self._scheduler.seconds_to_next(now, at_most))

    async def round(self, polled: Mapping[Any, Sequence[Any]]) -> None:
        """One round over polled records (by topic partition), own commands, due timers and free slots."""
        async with self._owner.lock:
            now = self._clock()
            batches = {shard: Batch() for shard in range(self._shards)}
            envelopes = self._read(batches, polled, now)
            due = self._timers.take_due(now, self._batch_max)
            inbox, self._inbox = self._inbox, []
            unknown = [envelope.task_id for envelope, _ in envelopes if not self._is_new(envelope)]
            unknown += [run_of(envelope) for envelope, _ in envelopes if of_step(envelope)]
            await self._owner.load_missing(unknown + [name for name in due if is_entity_id(name)])
            await self._webhooks.renew(self._tenants(envelopes, [*due, *(name for name, _ in inbox)]), now)
            due += await self._decisions.values.fetch(envelope for envelope, _ in envelopes)
            apply = self._apply_traced if telemetry.enabled() else self._apply
            refused = await self._lookups.put_into(envelopes)
            for place, (envelope, record) in enumerate(envelopes):
                apply(self._batch_of(batches, envelope.task_id), envelope, record, now, refused.get(place))
            for task_id, command in [*inbox, *((task_id, FireTimers()) for task_id in due)]:
                self._apply_own(batches, task_id, command, now)
            for batch in batches.values():
                self._steps.settle(batch, now)
                self._go_on(batches, batch, now)
            await self._assign(batches, now)
            self._rebalance(batches)
            batches[0].directives += self._directives
            self._directives = []
            self._count()
            await asyncio.gather(
                *(self._storing.finish(shard, batch, now) for shard, batch in batches.items() if batch)
            )
            self._entities.shrink()
            if self._decisions.values.missing or self._leases.freed:
                self._leases.freed = False
                self.wake.set()

    def _tenants(self, envelopes: Sequence[Read], own: Iterable[str]) -> set[str]:
        """Whose tasks this round may end."""
        states = (self._memory.get(name) for name in (*(envelope.task_id for envelope, _ in envelopes), *own))
        known = {state.spec.tenant_id for state in states if state is not None}
        return known | {each.attributes.tenant_id for each, _ in envelopes if isinstance(each.command, SubmitTask)}

    def _is_new(self, envelope: Envelope) -> bool:
        """Whether the store need not be asked for the task.

        The gateway makes ids that were never there before, and waits for no reply then. Should one be there all the
        same (a record sent twice, with our restart in between), its events are refused by their versions, and for a
        while everything is looked up.
        """
        asked = envelope.attributes
        return (
            isinstance(envelope.command, SubmitTask)
            and asked.source.startswith(GATEWAY_SOURCE)
            and not asked.reply_to
            and not self._owner.is_careful
        )

    def _read(self, batches: dict[int, Batch], polled: Mapping[Any, Sequence[Any]], now: datetime) -> list[Read]:
        envelopes: list[Read] = []
        for place, records in polled.items():
            if not self._owner.owns(place.partition):
                continue
            batch = batches[shard_of(place.partition, self._shards)]
            for record in self._owner.unread(place.partition, records):
                batch.offsets[place.partition] = record.offset + 1
                found = self._ingest.read(record, now)
                if isinstance(found, Envelope):
                    envelopes.append((found, record))
                elif isinstance(found, Misplaced):
                    batch.forwards.append(found.envelope)
                else:
                    self._reject(batch, found)
        return envelopes

    def _reject(self, batch: Batch, rejected: Rejected) -> None:
        letter = rejected.letter
        metrics.rejected.inc()
        _log.warning("command rejected", reason=letter.reason, field=letter.field, offset=letter.offset, key=letter.key)
        batch.dead_letters.append(letter)
        if rejected.asked is not None:
            refusal = Refusal("invalid", letter.reason, letter.field)
            batch.answers.append(Answer(rejected.task_id, rejected.asked, refusal))

    def _apply_traced(
        self, batch: Batch, envelope: Envelope, record: Any, now: datetime, refused: Refusal | None
    ) -> None:
        """The same within a span, below which the task's attempts hang when the command submits it. A report without
        a trace is a sign of life or the like: no trace is begun for it."""
        asked, command = envelope.attributes, envelope.command
        if not asked.traceparent and type(command) in _REPORTS:
            return self._apply(batch, envelope, record, now, refused)
        with telemetry.span(
            f"decide {type(command).__name__}", asked.traceparent, kind="consumer", task_id=envelope.task_id
        ) as span:
            envelope = structs.replace(envelope, attributes=structs.replace(asked, traceparent=span.traceparent))
            return self._apply(batch, envelope, record, now, refused)

    def _apply(self, batch: Batch, envelope: Envelope, record: Any, now: datetime, refused: Refusal | None) -> None:
        if of_step(envelope):
            if self._steps.is_awaited(envelope.task_id):
                batch.local.append(envelope)
            return
        kind = type(envelope.command)
        if kind not in _REPORTS:
            envelope = with_actor(envelope)
        asked = envelope.attributes
        caller = Caller(
            *(envelope.task_id, asked.tenant_id, asked.id, asked.actor, asked.correlation_id, asked.traceparent),
            means=means_in(batch, self._decisions.values),
            key_id=asked.key_id,
        )
        try:
            outcome = refused or self._carry_out(batch, envelope.command, caller, now)
        except EventTooLarge as error:
            outcome = Refusal("invalid", str(error))
        except Exception as error:  # noqa: BLE001 - one bad command must not fail its batch
            _log.exception("a command could not be applied", task_id=envelope.task_id, command=asked.type)
            outcome = Refusal("unavailable", f"the command could not be applied: {error!r}")
        self._counts[asked.type, "refused" if isinstance(outcome, Refusal) else "applied"] += 1
        if isinstance(envelope.command, ReportDeclined) and envelope.command.reason != RECALLED:
            self._scheduler.pool.refuse(envelope.command.executor_id)
        refusal = outcome if isinstance(outcome, Refusal) else None
        if refusal is not None and isinstance(envelope.command, RetryChild) and parent_of(envelope.task_id):
            batch.local.append(tell_refused(envelope, refusal))
            return
        if refusal is not None and isinstance(envelope.command, WatchTask):
            batch.forwards.append(unknown_dependency(envelope.command, asked, envelope.task_id))
            return
        if refusal is not None and not asked.source.startswith(GATEWAY_SOURCE):
            batch.dead_letters.append(dead_letter(record, now, refusal.message, refusal.field))
        explains, recalls = (kind is asks and refusal is None for asks in (ExplainTask, RecallTask))
        batch.answers.append(Answer(envelope.task_id, asked, refusal, outcome is False, explains, recalls))

    def _carry_out(
        self, batch: Batch, command: TaskCommand | EntityCommand, caller: Caller, now: datetime
    ) -> Refusal | bool:
        if type(command) is RetryChild and not self._steps.is_awaited(caller.task_id):
            return Refusal("conflict", "the run around it does not wait for it")
        if type(command) in _OF_ENTITIES:
            return self._entities.apply(batch, cast(EntityCommand, command), caller, now)
        return self._decisions.apply(batch, cast(TaskCommand, command), caller, now)

    def _apply_own(self, batches: dict[int, Batch], task_id: str, command: TaskCommand, now: datetime) -> bool:
        if is_entity_id(task_id):
            if self._owner.owns_task(task_id) and not self._entities.fire(
                self._batch_of(batches, task_id), task_id, now
            ):
                self._timers.set(task_id, now + timedelta(seconds=FIRE_AGAIN_S))
            return True
        state = self._memory.get(task_id)
        if state is None or not self._owner.owns_task(task_id):
            return False
        batch = self._batch_of(batches, task_id)
        caller = Caller(task_id, state.spec.tenant_id, means=means_in(batch, self._decisions.values))
        outcome: Refusal | bool
        try:
            outcome = self._decisions.apply(batch, command, caller, now)
        except Exception as error:  # noqa: BLE001 - one bad command must not fail its batch
            _log.exception("an own command could not be applied", task_id=task_id, command=type(command).__name__)
            outcome = Refusal("unavailable", repr(error))
        if isinstance(command, FireTimers):
            batch.touched.setdefault(task_id, state)
            self._note_timer(batches, task_id, outcome, now)
        return outcome is True

    def _note_timer(self, batches: dict[int, Batch], task_id: str, outcome: Refusal | bool, now: datetime) -> None:
        """A timer that cannot be applied is tried again after a pause; in the end its workflow fails and says why."""
        if not isinstance(outcome, Refusal):
            self._faults.clear(task_id)
        elif self._faults.note(task_id, now) or outcome.code == "invalid":
            _log.error("a timer cannot be applied", task_id=task_id, reason=outcome.message)
            error = ErrorInfo("Broken", f"the workflow cannot go on: {outcome.message}", retryable=False)
            if self._apply_own(batches, task_id, BreakRun(error), now):
                self._faults.clear(task_id)

    def _go_on(self, batches: dict[int, Batch], batch: Batch, now: datetime) -> None:
        """Runs that left work over take turns, until the batch is large enough; the next round goes on from there."""
        waiting = deque(task_id for task_id, state in batch.touched.items() if run_due(state) == AT_ONCE)
        while waiting and len(batch.events) < BATCH_EVENTS:
            task_id = waiting.popleft()
            if self._apply_own(batches, task_id, FireTimers(), now):
                self._steps.settle(batch, now, BATCH_EVENTS)
                state = self._memory.get(task_id)
                if state is not None and run_due(state) == AT_ONCE:
                    waiting.append(task_id)

    def _count(self) -> None:
        for labels, number in self._counts.items():
            metrics.commands.labels(*labels).inc(number)
        self._counts.clear()

    async def _assign(self, batches: dict[int, Batch], now: datetime) -> None:
        """Pairs ready tasks with free slots: in the same transaction as the decision that made them ready."""
        for batch in batches.values():
            for state in batch.touched.values():
                self._scheduler.observe(state)
        limited: dict[str, Assignment] = {}
        for pairing in self._scheduler.assign(self._batch_max, now):
            if pairing.places:
                limited[pairing.task_id] = pairing
            else:
                self._accept(batches, pairing, now)
        if limited:
            await self._assign_limited(batches, limited, now)
        if self._scheduler.more:
            self.wake.set()

    def _accept(self, batches: dict[int, Batch], pairing: Assignment, now: datetime) -> None:
        command = AssignAttempt(pairing.executor_id, pairing.incarnation)
        self._apply_own(batches, pairing.task_id, command, now)
        assigned = self._memory.get(pairing.task_id)
        if assigned is not None:
            self._scheduler.observe(assigned)

    async def _assign_limited(self, batches: dict[int, Batch], limited: dict[str, Assignment], now: datetime) -> None:
        """The same for tasks that need leases: those that get theirs start, the others go back into their lines."""
        states = {name: state for name in limited if (state := self._memory.get(name)) is not None}
        pairings = {name: (limited[name], state) for name, state in states.items()}
        taken = await self._leases.take(pairings, self._owner.epochs)
        for name, (pairing, state) in pairings.items():
            if name in taken.granted and self._scheduler.is_paired(pairing):
                self._accept(batches, pairing, now)
            else:
                self._scheduler.withdraw(state)
            if name in taken.granted or partition_of(name, self._partitions) in taken.fenced:
                # A lease that did not become an attempt's ends with this batch; a fence is met with it.
                self._batch_of(batches, name).touched.setdefault(name, state)
        self._leases.learn(taken)
        if len(taken.granted) < len(pairings):
            self.wake.set()  # Slots that they did not get are for others.

    def _rebalance(self, batches: dict[int, Batch]) -> None:
        """Calls attempts back from executors' reserves: those asked for, and some when an executor joined."""
        asked = [answer.task_id for batch in batches.values() for answer in batch.answers if answer.recall]
        limit, pool = len(asked), self._scheduler.pool
        if pool.joined != self._joined:
            self._joined = pool.joined
            if not asked:
                asked, limit = in_reserve(self._scheduler), self._rebalance_max
        if asked and limit:
            states = (state for task_id in asked if (state := self._memory.get(task_id)) is not None)
            recalls = moves(self._scheduler, states, limit)
            metrics.recalled.inc(len(recalls))
            self._directives += recalls

    def _batch_of(self, batches: dict[int, Batch], task_id: str) -> Batch:
        return batches[shard_of(partition_of(task_id, self._partitions), self._shards)]
