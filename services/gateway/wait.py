"""Waiting, always bounded: for the orchestrator's reply, and for the read side to have seen an id or a version."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Final, Protocol, TypeVar

from services.gateway.problems import BadRequest, Unavailable
from taskloom.bus.errors import BusError, ReplyTimeout, TooLarge
from taskloom.wire.commands import Envelope
from taskloom.wire.messages import Reply

Row = TypeVar("Row")

_FIRST_LOOK_S: Final = 0.005
_LAST_LOOK_S: Final = 0.1


class Sender(Protocol):
    """Where commands go. Returns once Kafka has all of them."""

    async def send(self, envelopes: Sequence[Envelope]) -> None: ...


class PendingReply(Protocol):
    """One awaited reply; ``reply`` raises ReplyTimeout when it does not come in time."""

    async def reply(self, timeout_s: float) -> Reply: ...


class ReplySource(Protocol):
    """Where replies come from; ``reply_to`` is what commands must carry for it (taskloom.bus.replies.ReplyInbox)."""

    @property
    def reply_to(self) -> str: ...

    def expect(self, command_id: str) -> AbstractContextManager[PendingReply]: ...


async def ask(
    sender: Sender, replies: ReplySource, envelopes: Sequence[Envelope], *, awaited: Sequence[str], within_s: float
) -> dict[str, Reply]:
    """Sends ``envelopes`` and gathers the replies to the command ids in ``awaited``; late ones are missing.

    Raises:
        Unavailable: Kafka did not take the commands in time, or too many wait for replies already.
        BadRequest: a command is too large for Kafka.
    """
    found: dict[str, Reply] = {}
    with ExitStack() as stack:
        try:
            pending = [(name, stack.enter_context(replies.expect(name))) for name in awaited]
            await sender.send(envelopes)
        except TooLarge as error:
            raise BadRequest(str(error), field="$") from error
        except BusError as error:
            raise Unavailable(f"not taken, send it again: {error}", retry_after_s=2) from error
        give_up = time.monotonic() + within_s
        for name, expected in pending:
            with suppress(ReplyTimeout):
                found[name] = await expected.reply(max(0.0, give_up - time.monotonic()))
    return found


def no_answer(what: str) -> Unavailable:
    """The 503 for a reply that did not come in time."""
    return Unavailable(f"the orchestrator did not answer in time; {what}", retry_after_s=2)


class Recent:
    """What this gateway accepted lately, with the version that a read must show; bounded by time and number."""

    def __init__(self, *, keep_s: float = 30.0, capacity: int = 200_000) -> None:
        self._keep_s = keep_s
        self._capacity = capacity
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def add(self, tenant_id: str, task_id: str, version: int = 1) -> None:
        key = (tenant_id, task_id)
        self._seen[key] = (time.monotonic(), version)
        self._seen.move_to_end(key)
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)

    def expected_version(self, tenant_id: str, task_id: str) -> int:
        """The version that was promised, 0 when nothing was or it is long ago."""
        entry = self._seen.get((tenant_id, task_id))
        return entry[1] if entry is not None and time.monotonic() - entry[0] < self._keep_s else 0


def session_key(session_id: str) -> str:
    """Under what ``Recent`` knows that a task of the session was accepted. No task's or entity's id looks like it."""
    return f"session {session_id}"


async def until_visible(
    look: Callable[[], Awaitable[Row | None]], version_of: Callable[[Row], int], expected: int, *, within_s: float
) -> Row | None:
    """What ``look`` finds once it has the expected version, or whatever it found last when the time is over."""
    row = await look()
    give_up, pause_s = time.monotonic() + within_s, _FIRST_LOOK_S
    while (row is None or version_of(row) < expected) and expected and time.monotonic() < give_up:
        await asyncio.sleep(pause_s)
        pause_s = min(_LAST_LOOK_S, pause_s * 1.5)
        row = await look()
    return row
