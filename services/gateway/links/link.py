"""One agent's link: from the WebSocket's opening to its end.

What the agent says is read without delay, so that its pings are answered while Kafka is slow; what it may have under
way is bounded by its own outboxes, one push a lane, and an agent that sends more is cut.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec
from psycopg import OperationalError

from services.gateway.links.assignments import Orders
from services.gateway.links.door import Guest
from services.gateway.links.relay import Relay
from services.gateway.links.stamp import Stamp
from taskloom import telemetry
from taskloom.bus.errors import BusError, TooLarge
from taskloom.bus.publish import OutRecord
from taskloom.domain.task.directives import Directive, RunAttempt, StopAttempt
from taskloom.store.errors import ClaimCorrupt, ClaimMissing, StoreUnavailable
from taskloom.views.reading import TooSlow
from taskloom.wire import link as wire
from taskloom.wire.messages import DrainNoted, ExecutorHeartbeat, LinkTaken, LiveAttempt

PUSHES_WAITING: Final = wire.PUSHES_AT_ONCE
RETRY_S: Final = 0.5
LOOK_EVERY_BEATS: Final = 6
"""After so many signs of life the attempts that the agent lists are held against the read side again."""

STALE_GRACE_S: Final = 5.0

_log = telemetry.get_logger(__name__)
_decoder: msgspec.json.Decoder[Directive | LinkTaken | DrainNoted] = msgspec.json.Decoder(
    Directive | LinkTaken | DrainNoted
)

Publish = Callable[[Sequence[OutRecord]], Awaitable[None]]


class Cut(Exception):
    """The link ends: with this code and reason for the agent."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Around(Protocol):
    """What a link needs of the hub."""

    async def register(self, beat: ExecutorHeartbeat) -> None: ...

    async def resolve(self, value: Any) -> Any: ...

    async def places(self, task_ids: Sequence[str]) -> dict[str, Any]: ...

    def publish_of(self, lane: wire.Lane) -> Publish: ...

    async def tell(self, guest: Guest, incarnation: str, ask: wire.Ask) -> wire.Told: ...


class AgentLink:
    """``epoch``: the offset of this link's claim."""

    def __init__(
        self,
        guest: Guest,
        hello: wire.Hello,
        send: Callable[[bytes], Awaitable[None]],
        receive: Callable[[], Awaitable[bytes]],
        around: Around,
        relay: Relay,
        *,
        link_id: str,
        gateway: str,
        epoch: int,
    ) -> None:
        self.guest = guest
        self.link_id = link_id
        self._hello = hello
        self._send = send
        self._receive = receive
        self._around = around
        self._relay = relay
        self._gateway = gateway
        self._epoch = epoch
        self._beat: ExecutorHeartbeat | None = None
        self._beats = 0
        self._told_draining = guest.draining
        self._stamp = Stamp(hello.incarnation, gateway, epoch)
        self._said = asyncio.Event()
        self._cut: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes: dict[str, asyncio.Queue[wire.Push]] = {
            "reports": asyncio.Queue(PUSHES_WAITING),
            "outputs": asyncio.Queue(PUSHES_WAITING),
        }
        self._asks: asyncio.Queue[wire.Ask] = asyncio.Queue(wire.MAX_ASKS)
        self._set_skew(hello.at)

    def cut(self, code: int, reason: str) -> None:
        """Ends the link from outside."""
        if not self._cut.done():
            self._cut.set_exception(Cut(code, reason))

    def update(self, guest: Guest) -> None:
        """The agent as it is now, unless more is known already; a drain that began or ended is said at once."""
        if guest.version < self.guest.version:
            return
        changed, self.guest = guest != self.guest, guest
        if changed and self._beat is not None:
            self._said.set()

    async def run(self, orders: Orders, missed: Sequence[Any]) -> None:
        """Until the agent goes, or a cut. ``missed``: orders since the agent's last one, up to the epoch.

        Raises:
            Cut: why it ended, where the agent is still there to hear it.
        """
        guest = self.guest
        welcome = wire.Welcome(self._epoch, self._gateway, guest.tenant_id, guest.executor_id, guest.draining)
        await self._send(wire.encode(welcome))
        work = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._order(orders, missed)),
            asyncio.create_task(self._register()),
            asyncio.create_task(self._answer()),
            *(asyncio.create_task(self._push(lane)) for lane in self._lanes.values()),
        ]
        try:
            done, _ = await asyncio.wait({*work, self._cut}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            if not self._cut.done():
                self._cut.cancel()
        if self._said.is_set() and self._beat is not None:
            beat = self._stamp.on(self._beat, self.guest, self._relay.skew)
            await self._around.register(beat)  # its good-bye came with the close

    # From the agent.

    async def _read(self) -> None:
        """Ends when the agent closes."""
        while frame := await self._receive():
            try:
                message = wire.decode_up(frame)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Cut(wire.GARBLED, f"not understood: {error}"[:100]) from error
            if isinstance(message, wire.Beat):
                self._set_skew(message.at)
                self._beat = message.beat
                self._said.set()
            elif isinstance(message, wire.Push):
                lane = self._lanes[message.lane]
                if lane.full():
                    raise Cut(wire.GARBLED, f"more than {PUSHES_WAITING} pushes of a lane are under way")
                lane.put_nowait(message)
            elif isinstance(message, wire.Ask):
                if self._asks.full():
                    raise Cut(wire.GARBLED, f"more than {wire.MAX_ASKS} questions wait")
                self._asks.put_nowait(message)
            else:
                raise Cut(wire.GARBLED, "a second hello")

    def _set_skew(self, at: datetime) -> None:
        self._relay.skew = datetime.now(UTC) - at

    async def _push(self, lane: "asyncio.Queue[wire.Push]") -> None:
        """What has gathered while Kafka wrote goes to it at once: its acknowledgement costs the same for all."""
        while True:
            pushes = [await lane.get()]
            pushes += [lane.get_nowait() for _ in range(lane.qsize())]
            made = [await self._relay.records(push) for push in pushes]
            every = [record for records, _ in made for record in records]
            too_large = await self._publish(self._around.publish_of(pushes[0].lane), every)
            for push, (_, refused) in zip(pushes, made, strict=True):
                await self._send(wire.encode(wire.Ack(push.seq, refused + (too_large if push is pushes[-1] else 0))))

    async def _publish(self, publish: Publish, records: Sequence[OutRecord]) -> int:
        """Returns once Kafka has them, however long it is away; how many it will never take."""
        while records:
            try:
                await publish(records)
                return 0
            except TooLarge as error:
                if len(records) == 1:
                    _log.error("too large for Kafka", agent=self.guest.executor_id, reason=str(error))
                    return 1
                middle = len(records) // 2
                return await self._publish(publish, records[:middle]) + await self._publish(publish, records[middle:])
            except BusError as error:
                _log.warning("Kafka does not take an agent's records", agent=self.guest.executor_id, reason=str(error))
                await asyncio.sleep(RETRY_S)
        return 0

    async def _answer(self) -> None:
        """One question after the other: each reads a task's history."""
        while True:
            ask = await self._asks.get()
            told = await self._around.tell(self.guest, self._hello.incarnation, ask)
            await self._send(wire.encode(told))

    # To Kafka: signs of life.

    async def _register(self) -> None:
        while True:
            await self._said.wait()
            self._said.clear()
            assert self._beat is not None
            beat = self._stamp.on(self._beat, self.guest, self._relay.skew)
            try:
                await self._around.register(beat)
            except BusError as error:
                _log.warning("no heartbeat of an agent", agent=self.guest.executor_id, reason=str(error))
            if self.guest.draining != self._told_draining:
                await self._tell_drain(self.guest.draining)
            if self._beats % LOOK_EVERY_BEATS == 0 and beat.live:
                await self._stop_what_is_over(beat.live)
            self._beats += 1

    async def _tell_drain(self, draining: bool) -> None:
        self._told_draining = draining
        await self._send(wire.encode(wire.Drain(draining)))

    async def _stop_what_is_over(self, live: Sequence[LiveAttempt]) -> None:
        """Orders a stop of attempts that were lost while the agent was away, and have ended or were superseded."""
        try:
            places = await self._around.places([each.task_id for each in live])
        except (OperationalError, TooSlow):
            return
        for each in live:
            place = places.get(each.task_id)
            if place is None or (place.tenant_id == self.guest.tenant_id and not place.is_over(each.attempt)):
                continue
            stop = StopAttempt(
                *(each.task_id, each.attempt, self.guest.executor_id, self._hello.incarnation),
                grace_s=STALE_GRACE_S,
                reason="the attempt was lost while the agent was away",
            )
            await self._send(wire.encode(wire.Order(-1, stop)))

    # From Kafka: orders.

    async def _order(self, orders: Orders, missed: Sequence[Any]) -> None:
        over = await self._over(missed)
        for record in missed:
            if record.offset not in over:
                await self._pass_on(record)
        while True:
            record = await orders.next()
            if record.offset > self._epoch:
                await self._pass_on(record)
            if orders.lost:
                raise Cut(wire.TOO_SLOW, "too many orders wait; come back")

    async def _over(self, missed: Sequence[Any]) -> set[int]:
        """Offsets of orders to run what was lost while the agent was away: it must not begin any more."""
        runs = {}
        for record in missed:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                message = _decoder.decode(record.value or b"")
                if isinstance(message, RunAttempt):
                    runs[record.offset] = message
        try:
            places = await self._around.places([run.task_id for run in runs.values()]) if runs else {}
        except (OperationalError, TooSlow) as error:
            raise Cut(wire.GOING_AWAY, "PostgreSQL does not answer; come back") from error
        found = {offset: places.get(run.task_id) for offset, run in runs.items()}
        return {offset for offset, place in found.items() if place and place.is_over(runs[offset].attempt)}

    async def _pass_on(self, record: Any) -> None:
        try:
            message = _decoder.decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.error("an order cannot be read", agent=self.guest.executor_id, offset=record.offset, error=str(error))
            return
        if isinstance(message, LinkTaken):
            if record.offset > self._epoch:
                raise Cut(wire.TAKEN_OVER, "another connection of this agent took its place")
        elif isinstance(message, DrainNoted):
            if message.version >= self.guest.version:
                self.update(msgspec.structs.replace(self.guest, version=message.version, draining=message.draining))
                await self._tell_drain(message.draining)
        elif message.incarnation in ("", self._hello.incarnation):
            if isinstance(message, RunAttempt):
                self._relay.note_task(message.task_id)
                message = await self._whole(message)
            await self._send(wire.encode(wire.Order(record.offset, message)))

    async def _whole(self, order: RunAttempt) -> RunAttempt:
        """With large values in the place of their references, since the agent cannot follow them. One that cannot be
        had stays a reference, which the agent fails the attempt with."""
        try:
            given, context = await self._around.resolve(order.input), await self._around.resolve(order.context)
        except (ClaimMissing, ClaimCorrupt, StoreUnavailable) as error:
            _log.warning("a large value cannot be had", task_id=order.task_id, reason=str(error))
            return order
        return msgspec.structs.replace(order, input=given, context=context)
