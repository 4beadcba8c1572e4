"""Aggregates that are no tasks: changed by commands that their owner answers, read from their table."""

from typing import Final

from services.gateway.control import envelope_of
from services.gateway.problems import Conflict, NotFound, refused
from services.gateway.readside import Histories, Views
from services.gateway.security import Caller
from services.gateway.submission import Origin
from services.gateway.wait import Recent, ReplySource, Sender, ask, no_answer, until_visible
from taskloom.domain.entities.commands import EntityCommand, kind_of
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.envelope import Recorded
from taskloom.domain.refusals import HTTP_STATUS, Refusal
from taskloom.wire.messages import Reply

_SAFE_TO_REPEAT: Final = "whether it was changed is not known yet; sending the same again is safe"


class Entities:
    """``reply_s``: how long a change waits for its owner. ``wait_s``: how long for the read side to show it."""

    def __init__(
        self,
        sender: Sender,
        replies: ReplySource,
        views: Views,
        histories: Histories,
        recent: Recent,
        *,
        reply_s: float,
        wait_s: float,
    ) -> None:
        self._sender = sender
        self._replies = replies
        self._views = views
        self._histories = histories
        self._recent = recent
        self._reply_s = reply_s
        self._wait_s = wait_s

    async def change(self, name: str, command: EntityCommand, origin: Origin) -> Reply:
        """The owner's reply, once the read side shows the change, so that lists have it too; or ``wait_s`` is over.

        Raises:
            BadRequest, NotFound, Conflict: refused.
            Unavailable: no answer in time; repeating is safe.
        """
        kind, tenant = kind_of(command), origin.caller.tenant_id
        envelope = envelope_of(entity_id(kind, tenant, name), command, origin)
        command_id = envelope.attributes.id
        within_s = max(origin.wait_s, self._reply_s)
        replies = await ask(self._sender, self._replies, [envelope], awaited=[command_id], within_s=within_s)
        reply = replies.get(command_id)
        if reply is None:
            raise no_answer(_SAFE_TO_REPEAT)
        if reply.refusal is not None:
            raise _problem(reply.refusal)
        self._recent.add(tenant, envelope.task_id, reply.version)
        await self._visible(tenant, envelope.task_id)
        return reply

    async def find(self, kind: str, caller: Caller, name: str) -> Entity | None:
        """None for one that is unknown, removed, or another tenant's."""
        await self._visible(caller.tenant_id, entity_id(kind, caller.tenant_id, name))
        return await self._views.entity(kind, caller.tenant_id, name)

    async def page(self, kind: str, caller: Caller, *, after: str, limit: int) -> tuple[list[Entity], int]:
        """Those of the tenant whose name comes after ``after``, by name, and the number of all."""
        return await self._views.entities(kind, caller.tenant_id, after=after, limit=limit)

    async def event(self, entity: Entity, version: int) -> Recorded:
        """One stored event of an entity that was found."""
        [found] = await self._histories.events(entity.entity_id, after=version - 1, limit=1)
        return found

    async def events_after(self, stream: str, version: int) -> list[Recorded]:
        """What happened to an entity behind this version, from the store."""
        return await self._histories.events(stream, after=version)

    async def first_event(self, task_id: str) -> Recorded | None:
        """How a task or run began, from the store; for one that the caller has just submitted."""
        found = await self._histories.events(task_id, limit=1)
        return found[0] if found else None

    async def _visible(self, tenant_id: str, stream: str) -> None:
        """Waits a moment for what this gateway has just changed."""
        expected = self._recent.expected_version(tenant_id, stream)
        if not expected:
            return

        async def look() -> int | None:
            return await self._views.entity_version(stream)

        await until_visible(look, int, expected, within_s=self._wait_s)


def _problem(refusal: Refusal) -> Exception:
    if HTTP_STATUS[refusal.code] == NotFound.status:
        return NotFound(refusal.message)
    if HTTP_STATUS[refusal.code] == Conflict.status:
        return Conflict(refusal.message, field=refusal.field)
    return refused(refusal, "")
