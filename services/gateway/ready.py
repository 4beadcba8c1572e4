"""Is an orchestrator there: asked by a command that changes nothing."""

import itertools
import time
from typing import Final

from services.gateway.ids import new_command_id
from services.gateway.submission import SOURCE
from services.gateway.wait import ReplySource, Sender, ask
from taskloom.domain.task.commands import ExplainTask
from taskloom.errors import TaskloomError
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, command_type

GOOD_FOR_S: Final = 5.0
WITHIN_S: Final = 1.8
_TENANT: Final = "taskloom"
_PROBES: Final = 16


class OrchestratorSilent(TaskloomError):
    """No orchestrator answers."""


class OrchestratorPing:
    """Asks about a task that does not exist; the ids of the probes spread over the partitions."""

    def __init__(self, sender: Sender, replies: ReplySource, instance: str) -> None:
        self._sender = sender
        self._replies = replies
        self._ids = itertools.cycle(f"ping.{instance}.{number}"[-128:] for number in range(_PROBES))
        self._answered_at = float("-inf")

    async def check(self) -> None:
        """Raises:
        OrchestratorSilent: no answer within 1.8 s, nor in the 5 s before.
        """
        if time.monotonic() - self._answered_at < GOOD_FOR_S:
            return
        attributes = Attributes(
            id=new_command_id(),
            type=command_type(ExplainTask()),
            source=SOURCE,
            tenant_id=_TENANT,
            reply_to=self._replies.reply_to,
        )
        envelope = Envelope(next(self._ids), ExplainTask(), attributes)
        if not await ask(self._sender, self._replies, [envelope], awaited=[attributes.id], within_s=WITHIN_S):
            raise OrchestratorSilent(f"no orchestrator answered within {WITHIN_S:g} s")
        self._answered_at = time.monotonic()
