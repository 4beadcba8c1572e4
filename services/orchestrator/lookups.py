"""What a submission refers to in other streams, read before it is decided: the task it forks, stored workflows.

Their owner may be another orchestrator, so they are read, not asked for.
"""

from typing import Any

from services.orchestrator.forks import Forks
from services.orchestrator.stored_workflows import StoredWorkflows
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.commands import SubmitTask
from taskloom.wire.commands import Envelope


class Lookups:
    def __init__(self, stored: StoredWorkflows, forks: Forks) -> None:
        self._stored = stored
        self._forks = forks

    def needed(self, envelope: Envelope) -> bool:
        command = envelope.command
        return type(command) is SubmitTask and (command.fork is not None or self._stored.names_any(envelope))

    async def put_into(self, reads: list[tuple[Envelope, Any]]) -> dict[int, Refusal]:
        """Makes the submissions of a round whole; by place, why one could not be."""
        refused: dict[int, Refusal] = {}
        for place, (envelope, record) in enumerate(reads):
            if self.needed(envelope):
                found = await self.done(envelope)
                if isinstance(found, Refusal):
                    refused[place] = found
                else:
                    reads[place] = (found, record)
        return refused

    async def done(self, envelope: Envelope) -> Envelope | Refusal:
        """The submission with all that it refers to, or why it cannot be made."""
        command = envelope.command
        if isinstance(command, SubmitTask) and command.fork is not None:
            made = await self._forks.made(envelope, command.fork)
            if isinstance(made, Refusal):
                return made
            envelope = made
        return await self._stored.pinned(envelope) if self._stored.names_any(envelope) else envelope
