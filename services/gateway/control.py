"""Cancel, pause, resume and /why: sent as commands and answered by the task's owner, so 404 and 409 are not guessed."""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from services.gateway.ids import derived_id, new_command_id
from services.gateway.problems import decoded, refused
from services.gateway.submission import SOURCE, Origin
from services.gateway.wait import Recent, ReplySource, Sender, ask, no_answer
from taskloom.domain.entities.commands import EntityCommand
from taskloom.domain.task.commands import (
    AddDependency,
    CancelTask,
    ClientCommand,
    DecideApproval,
    DeleteTask,
    ExplainTask,
    PatchVariables,
    PauseTask,
    RecallTask,
    RemoveDependency,
    ResumeTask,
    RetryTask,
    SignalTask,
    UpdateTask,
)
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, command_type
from taskloom.wire.messages import Reply

C = TypeVar("C", bound=CancelTask | PauseTask | ResumeTask | RetryTask | UpdateTask | DeleteTask)

ControlCommand = (
    CancelTask
    | PauseTask
    | ResumeTask
    | RetryTask
    | UpdateTask
    | DeleteTask
    | AddDependency
    | RemoveDependency
    | SignalTask
    | DecideApproval
    | PatchVariables
)

MESSAGES: Final[dict[type, str]] = {
    CancelTask: "Cancel signal sent",
    PauseTask: "Pause signal sent",
    ResumeTask: "Resume signal sent",
    RetryTask: "The task begins anew; a workflow goes on",
    UpdateTask: "Task updated",
    DeleteTask: "Task deleted, or deleted once it has ended",
    AddDependency: "The task waits for it too",
    RemoveDependency: "The task waits for it no more",
    SignalTask: "Signal sent",
    DecideApproval: "Decision taken",
    PatchVariables: "Variables set",
}


class Controlled(Struct, frozen=True):
    """Answer of a control call that was taken; ``state`` is the task's fine state after it."""

    success: bool
    message: str
    task_id: str
    state: str


def read_control(body: bytes, kind: type[C]) -> C:
    """The command in an optional body.

    Raises:
        BadRequest: names the field.
    """
    return decoded(msgspec.json.Decoder(kind).decode, body or b"{}")


class Controller:
    """``reply_s``: how long a call waits for the owner of the task's partition."""

    def __init__(self, sender: Sender, replies: ReplySource, recent: Recent, *, reply_s: float) -> None:
        self._sender = sender
        self._replies = replies
        self._recent = recent
        self._reply_s = reply_s

    async def control(self, task_id: str, command: ControlCommand, origin: Origin) -> Controlled:
        """Waits for the reply as long as the setting says, or the caller, if that is longer.

        Raises:
            NotFound: no such task of this tenant.
            Conflict: the task's state does not allow it.
            Unavailable: the orchestrator did not answer in time.
        """
        silent = "the signal may still take effect; look at the task"
        reply = await self._ask(task_id, command, origin, silent)
        self._recent.add(origin.caller.tenant_id, task_id, reply.version)
        return Controlled(True, MESSAGES[type(command)], task_id, reply.state)

    async def explain(self, task_id: str, origin: Origin) -> Reply:
        """The reply whose ``data`` is the answer of /why; raises as ``control`` does."""
        return await self._ask(task_id, ExplainTask(), origin, "try again")

    async def rebalance(self, task_ids: Sequence[str], origin: Origin) -> dict[str, list[str]]:
        """Which of the tasks were called back from their executor's reserve, by the executor that has a slot for them.

        Each task's owner decides for itself; what it does not answer in time is left out.

        Raises:
            Unavailable: Kafka does not take the commands.
        """
        envelopes = [envelope_of(task_id, RecallTask(), origin) for task_id in task_ids]
        awaited = [envelope.attributes.id for envelope in envelopes]
        within_s = max(origin.wait_s, self._reply_s)
        replies = await ask(self._sender, self._replies, envelopes, awaited=awaited, within_s=within_s)
        moved: dict[str, list[str]] = {}
        for reply in replies.values():
            if "executor_id" in reply.data:
                moved.setdefault(reply.data["executor_id"], []).append(reply.task_id)
        return moved

    async def _ask(self, task_id: str, command: ClientCommand, origin: Origin, if_silent: str) -> Reply:
        envelope = envelope_of(task_id, command, origin)
        awaited = [envelope.attributes.id]
        within_s = max(origin.wait_s, self._reply_s)
        replies = await ask(self._sender, self._replies, [envelope], awaited=awaited, within_s=within_s)
        reply = replies.get(awaited[0])
        if reply is None:
            raise no_answer(if_silent)
        if reply.refusal is not None:
            raise refused(reply.refusal, task_id)
        return reply


def envelope_of(task_id: str, command: ClientCommand | EntityCommand, origin: Origin) -> Envelope:
    """The command as it is sent, with a reply asked for. The same key gives the same command id."""
    kind, tenant, user = command_type(command), origin.caller.tenant_id, origin.caller.user_id
    attributes = Attributes(
        id=derived_id("key", tenant, user, origin.key, kind, task_id) if origin.key else new_command_id(),
        type=kind,
        source=SOURCE,
        tenant_id=tenant,
        actor=user,
        correlation_id=origin.correlation_id,
        reply_to=origin.reply_to,
        traceparent=origin.traceparent,
        key_id=origin.caller.key_id,
    )
    return Envelope(task_id, command, attributes)
