"""Forks of tasks, and two tasks side by side."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from services.gateway.control import envelope_of
from services.gateway.ids import derived_id, new_task_id
from services.gateway.problems import BadRequest, NotFound, refused
from services.gateway.quotas import Quotas
from services.gateway.read import Reader
from services.gateway.security import Caller
from services.gateway.submission import Origin
from services.gateway.wait import Recent, ReplySource, Sender, ask, no_answer
from taskloom.domain.envelope import Recorded
from taskloom.domain.ids import is_valid_id
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import Fork, Identifier
from taskloom.replay.diff import MAX_EVENTS, Difference, compare


class ForkWish(Struct, frozen=True, forbid_unknown_fields=True):
    """``at``: the version it branches off, the newest without it. ``overrides`` is a JSON Merge Patch (RFC 7396) of the
    submission: objects are merged, null removes a field, everything else is replaced."""

    at: Annotated[int, Meta(ge=1)] | None = None
    task_id: Identifier | None = None
    overrides: dict[str, Any] = {}


class Forked(Struct, frozen=True):
    """``state`` of the new task; ``forked_from`` the one it was made of. ``repeated``: the fork was there before."""

    success: bool
    message: str
    task_id: str
    forked_from: str
    state: str
    repeated: bool = False


class Forks:
    """``reply_s``: how long a call waits for the owner of the new task's partition."""

    def __init__(
        self, sender: Sender, replies: ReplySource, recent: Recent, reader: Reader, quotas: Quotas, *, reply_s: float
    ) -> None:
        self._sender = sender
        self._replies = replies
        self._recent = recent
        self._reader = reader
        self._quotas = quotas
        self._reply_s = reply_s

    async def fork(self, task_id: str, wish: ForkWish, origin: Origin) -> Forked:
        """The new task, once it is there.

        Raises:
            NotFound: no such task of this tenant, or it has no such version.
            BadRequest: a change does not fit.
            Conflict: the id belongs to another task.
            TooMany: a quota of the tenant is used up.
            Unavailable: no answer in time; the same again, with an id or key, is safe.
        """
        new_id, tenant = _id_of(wish, task_id, origin), origin.caller.tenant_id
        await self._quotas.check(tenant, "")
        submission = SubmitTask(task_id=new_id, fork=Fork(task_id, wish.at, wish.overrides))
        envelope = envelope_of(new_id, submission, origin)
        asked = envelope.attributes.id
        within_s = max(origin.wait_s, self._reply_s)
        reply = (await ask(self._sender, self._replies, [envelope], awaited=[asked], within_s=within_s)).get(asked)
        if reply is None:
            raise no_answer("whether it was forked is not known yet; with an id or key, sending it again is safe")
        if reply.refusal is not None:
            if reply.refusal.code == "not_found":
                raise NotFound(reply.refusal.message, task_id=task_id)
            if reply.refusal.code == "invalid":
                raise BadRequest(reply.refusal.message, field=reply.refusal.field.removeprefix("fork."))
            raise refused(reply.refusal, new_id)
        self._recent.add(tenant, new_id, max(1, reply.version))
        repeated = bool(reply.data.get("repeated"))
        return Forked(True, "Forked", new_id, task_id, reply.state, repeated)

    async def compare(
        self, caller: Caller, a: str, b: str, *, a_version: int | None, b_version: int | None, only_different: bool
    ) -> Difference:
        """Both tasks side by side, each as of a version or as it is.

        Raises:
            NotFound: unknown, another tenant's, or without that version.
            BadRequest: a history is too long to be compared.
        """
        histories = [
            await self._history(caller, task_id, version, side)
            for task_id, version, side in ((a, a_version, "a"), (b, b_version, "b"))
        ]
        return compare(*histories, only_different=only_different)

    async def _history(self, caller: Caller, task_id: str, version: int | None, side: str) -> list[Recorded]:
        await self._reader.check_owner(caller, task_id)
        found = await self._reader.histories.events(task_id, limit=MAX_EVENTS + 1, up_to=version)
        if version is not None and found and found[-1].meta.version < version and len(found) <= MAX_EVENTS:
            raise NotFound(f"the task has {len(found)} events", task_id=task_id, field=f"{side}_version")
        if len(found) > MAX_EVENTS:
            text = f"{task_id} has more than {MAX_EVENTS} events; name an earlier version"
            raise BadRequest(text, field=f"{side}_version")
        return found


def _id_of(wish: ForkWish, source: str, origin: Origin) -> str:
    if wish.task_id is not None:
        if not is_valid_id(wish.task_id):
            raise BadRequest("not an id (1 to 128 of A-Z a-z 0-9 : _ - .)", field="task_id")
        return wish.task_id
    if not origin.key:
        return new_task_id()
    return derived_id("fork", origin.caller.tenant_id, origin.caller.user_id, origin.key, source)
