"""Given a task's past, when a command comes, then these events or this refusal.

    task = given(SubmitTask(kind="echo"), AssignAttempt("ex-1", "a"), ReportStarted(1, "ex-1"))
    task.when(ReportCompleted(1, "ex-1", result="done")).then(TaskCompleted(1, result="done"))
    task.when(PauseTask()).then_refused("conflict", "cannot pause completed task")

The style is that of AxonFramework's fixtures. Every event goes the whole way: it is sealed, read back from its bytes,
folded and reacted to, so a test that only looks at events also proves that they can be stored and replayed.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.policies import react
from taskloom.domain.refusals import Refusal
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.decide import Decision, decide
from taskloom.domain.task.directives import Directive
from taskloom.domain.task.evolve import evolve, fold
from taskloom.domain.task.snapshot import decode_state, encode_state
from taskloom.domain.task.state import TaskState
from taskloom.testing.clock import START, ManualClock
from taskloom.wire.recorded import GENESIS, chain_fault, seal, unseal

TASK_ID: Final = "task-1"


@dataclass(frozen=True)
class Outcome:
    """What one command led to."""

    decision: Decision
    directives: list[Directive]

    @property
    def events(self) -> list[e.TaskEvent]:
        assert not isinstance(self.decision, Refusal), f"refused: {self.decision}"
        return self.decision

    def then(self, *expected: e.TaskEvent) -> "Outcome":
        """Exactly these events, in this order."""
        assert self.events == list(expected)
        return self

    def then_types(self, *expected: type[e.Event]) -> "Outcome":
        """Events of exactly these types, in this order."""
        assert [type(event) for event in self.events] == list(expected)
        return self

    def then_nothing(self) -> "Outcome":
        """No event and no refusal: the command was a repeat, or came to nothing."""
        assert self.events == []
        return self

    def then_refused(self, code: str, message: str | None = None, *, field: str | None = None) -> "Outcome":
        """A refusal with this code; message and field too, where given."""
        assert isinstance(self.decision, Refusal), f"not refused, but {self.decision}"
        assert self.decision.code == code, self.decision
        assert message is None or self.decision.message == message
        assert field is None or self.decision.field == field, self.decision
        return self

    def then_directs(self, *expected: Directive) -> "Outcome":
        """Exactly these directives to executors."""
        assert self.directives == list(expected)
        return self


class GivenTask:
    """One task, its history and its clock. ``when`` decides on a command and records what follows."""

    def __init__(self, task_id: str = TASK_ID, *, tenant_id: str = "default", at: datetime = START) -> None:
        self.task_id = task_id
        self.tenant_id = tenant_id
        self.clock = ManualClock(at)
        self.history: list[Recorded] = []
        self._state: TaskState | None = None

    @property
    def state(self) -> TaskState:
        assert self._state is not None, "nothing was submitted"
        return self._state

    @property
    def events(self) -> list[e.TaskEvent]:
        return [recorded.event for recorded in self.history]

    def after(self, seconds: float) -> "GivenTask":
        """The same task ``seconds`` later."""
        self.clock.forward(seconds)
        return self

    def when(self, command: c.TaskCommand, *, after_s: float = 0.0, **caller: Any) -> Outcome:
        """Decides on the command ``after_s`` seconds later and records the events; ``caller``: fields of ``Caller``."""
        now = self.clock.forward(after_s)
        who = Caller(**{"task_id": self.task_id, "tenant_id": self.tenant_id, **caller})
        decision = decide(self._state, command, now, who)
        if isinstance(decision, Refusal):
            return Outcome(decision, [])
        return Outcome(decision, [d for event in decision if (d := self._record(event, who)) is not None])

    def has(self, *events: e.TaskEvent) -> "GivenTask":
        """Records facts without asking ``decide``: a history that an older release may have written."""
        for event in events:
            self._record(event, Caller(self.task_id, self.tenant_id))
        return self

    def _record(self, event: e.TaskEvent, caller: Caller) -> Directive | None:
        before = self._state
        version, digest = (0, GENESIS) if before is None else (before.version, before.digest)
        tenant_id = caller.tenant_id if before is None else before.spec.tenant_id
        meta = EventMeta(self.task_id, version + 1, self.clock.now, tenant_id, caller.command_id, caller.actor)
        recorded = seal(event, meta, digest)
        assert unseal(recorded.body) == recorded, "the event is not the same once it was stored"
        after = evolve(before, recorded)
        self.history.append(recorded)
        self._state = after
        return react(before, after, event)

    def check_replay(self) -> None:
        """The stored bytes alone give the live state, as does its snapshot; and the hash chain holds."""
        bodies = [recorded.body for recorded in self.history]
        assert chain_fault(bodies) is None
        assert fold(map(unseal, bodies)) == self._state
        if self._state is not None:
            assert decode_state(encode_state(self._state)) == self._state


def given(*past: c.TaskCommand, tenant_id: str = "default", at: datetime = START) -> GivenTask:
    """A task with these commands behind it; each must have changed something."""
    task = GivenTask(tenant_id=tenant_id, at=at)
    for command in past:
        assert task.when(command).events, f"{command} changed nothing"
    return task
