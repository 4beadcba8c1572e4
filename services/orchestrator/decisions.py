"""One command to its events: decide, seal, evolve, react, all in memory. Nothing leaves before the batch is stored."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import structs

from services.orchestrator.batch import Batch
from services.orchestrator.memory import Memory
from services.orchestrator.peers import is_local, told_by
from services.orchestrator.values import RunValues
from taskloom.bus.publish import MAX_RECORD_BYTES
from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.policies import react
from taskloom.domain.refusals import Refusal
from taskloom.domain.runs import is_run
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.commands import SubmitTask, TaskCommand
from taskloom.domain.task.decide import decide
from taskloom.domain.task.events import TaskCompleted, TaskEvent, TaskSubmitted
from taskloom.domain.task.evolve import evolve
from taskloom.domain.task.modes import kind_in, kind_of
from taskloom.domain.task.snapshot import is_due
from taskloom.domain.task.state import TaskState
from taskloom.domain.values import Webhook
from taskloom.domain.workflow.events import StepScheduled, WorkflowCompleted
from taskloom.errors import TaskloomError
from taskloom.wire.claims import CLAIM_OVER_BYTES, check_in, is_claim
from taskloom.wire.recorded import GENESIS, seal

MAX_EVENT_BYTES: Final = MAX_RECORD_BYTES - 64 * 1024
"""What fits onto the events topic with its headers. A larger event could be stored, but never published."""

MAX_MESSAGE_CHARS: Final = 4096

_MAY_BE_LARGE: Final = frozenset({TaskCompleted, WorkflowCompleted, StepScheduled})
"""Events of a run with values that anybody chose."""


class EventTooLarge(TaskloomError):
    """A command would lead to an event that Kafka does not take."""

    def __init__(self, type_: str, size: int) -> None:
        super().__init__(
            f"its event {type_} would have {size} bytes, {MAX_EVENT_BYTES} are allowed: send large values as a claim"
        )


def checked_size(recorded: Recorded) -> Recorded:
    """The same event.

    Raises:
        EventTooLarge: it would not fit onto the events topic.
    """
    if len(recorded.body) > MAX_EVENT_BYTES:
        raise EventTooLarge(recorded.type, len(recorded.body))
    return recorded


class Decisions:
    """Applies commands to the states in memory and collects what follows in a batch.

    Args:
        memory: states by task id; the tasks of a batch must have been loaded before.
        snapshot_every: a snapshot is stored each time a task's version passes a multiple of this.
        values: large values that runs refer to; those stored here are added to it.
    """

    def __init__(self, memory: Memory, snapshot_every: int, values: RunValues | None = None) -> None:
        self._memory = memory
        self.values = values or RunValues()
        self._snapshot_every = snapshot_every
        self.webhooks: Callable[[str], tuple[Webhook, ...]] = lambda _tenant_id: ()
        """Those of a tenant, as last read."""

    def apply(self, batch: Batch, command: TaskCommand, caller: Caller, now: datetime) -> Refusal | bool:
        """Carries out one command: the refusal, or whether anything changed. A fault inside changes nothing."""
        before = self._memory.get(caller.task_id)
        at = now if before is None else max(now, before.changed_at)
        if called := self.webhooks(caller.tenant_id if before is None else before.spec.tenant_id):
            caller = structs.replace(caller, webhooks=called)
        decision = decide(before, command, at, caller)
        if self.values.missing:
            self.values.note_waiting(caller.task_id)
        if isinstance(decision, Refusal):
            return _shown(decision)
        if not decision:
            return False
        if isinstance(command, SubmitTask):
            events, kind = self._checked_in(batch, decision), kind_of(command)
        else:
            events, kind = decision, "" if before is None else before.spec.kind
        if is_run(kind):
            events = [
                self._of_run_checked_in(batch, event) if type(event) in _MAY_BE_LARGE else event for event in events
            ]
        try:
            self._record(batch, before, events, caller, at)
        except EventTooLarge as error:
            return Refusal("invalid", str(error))  # a timer that is refused ends its workflow (commands.py)
        return True

    def _record(
        self, batch: Batch, before: TaskState | None, events: list[TaskEvent], caller: Caller, at: datetime
    ) -> None:
        state, version = before, 0 if before is None else before.version
        sealed, directives = [], []
        for event in events:
            version += 1
            meta = EventMeta(
                caller.task_id,
                version,
                at,
                caller.tenant_id if state is None else state.spec.tenant_id,
                caller.command_id,
                caller.actor,
            )
            recorded = checked_size(seal(event, meta, GENESIS if state is None else state.digest))
            after = evolve(state, recorded)
            directive = react(state, after, event)
            if directive is not None:
                directives.append(directive)
            sealed.append(recorded)
            state = after
        assert state is not None
        for recorded in sealed:
            for envelope in told_by(recorded, state.traceparent):
                (batch.local if is_local(envelope, caller.task_id) else batch.peers).append(envelope)
        batch.events += sealed
        batch.directives += directives
        batch.touched[caller.task_id] = state
        self._memory.put(state)
        if is_due(0 if before is None else before.version, state, self._snapshot_every):
            batch.snapshots[caller.task_id] = state

    def _checked_in(self, batch: Batch, events: list[TaskEvent]) -> list[TaskEvent]:
        """Large values of a submission that came inline, by Kafka, are stored once and referenced (claim check)."""
        first = events[0]
        if (
            not isinstance(first, TaskSubmitted)
            or is_run(first.spec.kind)
            or len(msgspec.json.encode(first.spec)) <= CLAIM_OVER_BYTES
        ):
            return events
        changes = {}
        for name in ("input", "context"):
            value = getattr(first.spec, name)
            if is_claim(value):
                continue  # Checked in by the gateway; from elsewhere it would have been refused (ingest.py).
            changes[name] = self.checked_in(batch, value)
        return [structs.replace(first, spec=structs.replace(first.spec, **changes)), *events[1:]]

    def _of_run_checked_in(self, batch: Batch, event: TaskEvent) -> TaskEvent:
        """Large values in the events of a run as claims, as executors send those of other tasks.

        The state is the same with either: it keeps no inputs, and an output only until the task's end.
        """
        if isinstance(event, TaskCompleted):
            return structs.replace(event, response=self.checked_in(batch, event.response))
        if isinstance(event, WorkflowCompleted):
            return structs.replace(event, output=self.checked_in(batch, event.output))
        if isinstance(event, StepScheduled) and not is_run(kind_in(event.submission)):
            given = event.submission.get("input")
            value = self.checked_in(batch, given)
            return event if value is given else structs.replace(event, submission={**event.submission, "input": value})
        return event

    def checked_in(self, batch: Batch, value: Any) -> Any:
        """The value, or the claim of one that is stored with the batch."""
        reference, stored = check_in(value)
        if stored is None:
            return value
        batch.claims.append(stored)
        self.values.add(*stored)
        return reference


def _shown(refusal: Refusal) -> Refusal:
    """The refusal, its message cut to what a reply can carry: it may quote a value of any length."""
    if len(refusal.message) <= MAX_MESSAGE_CHARS:
        return refusal
    return structs.replace(refusal, message=refusal.message[:MAX_MESSAGE_CHARS])
