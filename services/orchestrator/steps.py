"""Commands between a workflow and its steps: applied in memory, in the round and the transaction they came from."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, cast

import msgspec
import structlog
from msgspec import structs

from services.orchestrator.batch import Batch
from services.orchestrator.decisions import Decisions
from services.orchestrator.memory import Memory
from services.orchestrator.peers import tell_refused
from services.orchestrator.values import large_result
from taskloom.domain.ids import MAX_TASK_ID_CHARS, is_task_id
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.commands import BreakRun, NoteChild, SubmitTask, TaskCommand
from taskloom.domain.task.submission import Invalid
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow.means import ROOM, Means
from taskloom.domain.workflow.values import Values, ref_of
from taskloom.domain.workflow.wanted import parent_of
from taskloom.kinds.inputs import InvalidInput
from taskloom.wire.claims import is_claim
from taskloom.wire.commands import Envelope

BATCH_EVENTS: Final = 2_000
"""Events that workflows and their steps may add to a batch beyond what follows at once: some 50 ms of work."""

EVENTS_EACH: Final = 4
"""What a command that still waits in the round leads to by itself."""

LEAST_ROOM: Final = 8

_log = structlog.get_logger(__name__)


def means_in(batch: Batch, values: Values) -> Means:
    """What a decision may use that follows from a command of the round: less room once the batch is large."""
    return Means(max(LEAST_ROOM, min(ROOM, BATCH_EVENTS - len(batch.events))), values)


class Steps:
    """``check`` raises for a submission that nobody could run, as at the other doors."""

    def __init__(self, memory: Memory, decisions: Decisions, check: Callable[[SubmitTask, str], None]) -> None:
        self._memory = memory
        self._decisions = decisions
        self._check = check

    def settle(self, batch: Batch, now: datetime, limit: int | None = None) -> None:
        """Applies what workflows and their steps tell each other, until nothing is left to tell.

        What follows at once from a command of the round always has some room, so that a step's end and the start of the
        next one are one transaction. What follows from that shares ``BATCH_EVENTS``; beyond them runs only take down
        what they are told, and are due again at once (``next_due``): the next round goes on. ``limit``: up to this size
        of the batch instead.
        """
        limit, least = len(batch.events) + BATCH_EVENTS if limit is None else limit, LEAST_ROOM
        while batch.local:
            told, batch.local = batch.local, []
            for waiting, envelope in zip(range(len(told), 0, -1), told, strict=True):
                rest = limit - len(batch.events) - EVENTS_EACH * (waiting + len(batch.local))
                self._apply(batch, envelope, now, max(least, min(ROOM, rest), 0))
            least = 0

    def is_awaited(self, task_id: str) -> bool:
        """Whether the run around a child workflow waits for it to go on: it may have been told to stop meanwhile."""
        parent = parent_of(task_id)
        run = None if parent is None else self._memory.get(parent[0])
        if parent is None or run is None or run.run is None or run.ended:
            return False
        node = run.run.nodes.get(parent[1])
        return node is not None and node.status == "running" and not node.stopping

    def _apply(self, batch: Batch, envelope: Envelope, now: datetime, room: int) -> None:
        command, means = envelope.command, Means(room, self._decisions.values)
        if isinstance(command, SubmitTask):
            self._submit(batch, envelope, command, now, means)
            return
        if isinstance(command, NoteChild):
            command = self._small(batch, command)
        refusal = self._decide(batch, envelope, cast(TaskCommand, command), now, means)  # it speaks to its steps alone
        if refusal is None or refusal.code == "not_found" or not isinstance(command, NoteChild):
            return
        error = ErrorInfo("Refused", refusal.message, retryable=False)
        note = structs.replace(command, outcome="failed", result=None, error=error)
        refusal = self._decide(batch, envelope, note, now, means)
        if refusal is not None:
            # The end of a step is told only once: a run that cannot take it down would wait for it for ever.
            broken = ErrorInfo("Broken", f"the end of step {command.path}: {refusal.message}", retryable=False)
            _log.error("a workflow is given up", task_id=envelope.task_id, path=command.path, reason=refusal.message)
            self._decide(batch, envelope, BreakRun(broken), now, means)

    def _small(self, batch: Batch, command: NoteChild) -> NoteChild:
        """A large result that came inline as a claim; executors of ours send it as one already."""
        result = large_result(command.result)
        if not is_claim(result):
            result = self._decisions.checked_in(batch, result)
        return command if result is command.result else structs.replace(command, result=result)

    def _submit(self, batch: Batch, envelope: Envelope, command: SubmitTask, now: datetime, means: Means) -> None:
        parent = parent_of(envelope.task_id)
        assert parent is not None
        run_id, path = parent
        run = self._memory.get(run_id)
        assert run is not None
        refusal = self._refused(batch, envelope.task_id, command, run.spec.tenant_id)
        if refusal is None:
            metadata = {**command.metadata, "workflow_id": run_id, "workflow_step_id": path}
            session_id = command.session_id or run.spec.session_id
            step = structs.replace(command, session_id=session_id, metadata=metadata)
            refusal = self._decide(batch, envelope, step, now, means, run.spec.user_id)
        if refusal is not None:
            batch.local.append(tell_refused(envelope, refusal))

    def _refused(self, batch: Batch, task_id: str, command: SubmitTask, tenant_id: str) -> Refusal | None:
        if not is_task_id(task_id):
            return Refusal("invalid", f"the id of the step's task has more than {MAX_TASK_ID_CHARS} characters")
        ref = ref_of(command.input)
        if ref is not None:  # A claim here was made of the step's input just now (decisions.py).
            stored = next(value for digest, value in reversed(batch.claims) if digest == ref.digest)
            command = structs.replace(command, input=msgspec.json.decode(stored))
        try:
            self._check(command, tenant_id)
        except (Invalid, InvalidInput) as invalid:
            return Refusal("invalid", invalid.message, invalid.field)
        return None

    def _decide(
        self, batch: Batch, envelope: Envelope, command: TaskCommand, now: datetime, means: Means, actor: str = ""
    ) -> Refusal | None:
        asked = envelope.attributes
        caller = Caller(envelope.task_id, asked.tenant_id, asked.id, actor, traceparent=asked.traceparent, means=means)
        try:
            outcome = self._decisions.apply(batch, command, caller, now)
        except Exception as error:  # noqa: BLE001 - one bad step must not fail its batch
            _log.exception("a workflow's command could not be applied", task_id=envelope.task_id, command=asked.type)
            return Refusal("unavailable", f"it could not be applied: {error!r}")
        return outcome if isinstance(outcome, Refusal) else None
