"""All links of this gateway: taking them, keeping their tokens checked, and cutting them when it drains."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import msgspec
from aiokafka import TopicPartition
from psycopg import OperationalError

from services.gateway.links.assignments import Assignments, MakeReader, Orders, ReadBack
from services.gateway.links.door import Door, Guest
from services.gateway.links.link import AgentLink, Cut, Publish
from services.gateway.links.relay import Relay
from services.gateway.links.secrets import AgentSecrets
from services.gateway.links.values import AgentValues
from services.gateway.problems import Unauthorized, Unavailable
from services.gateway.readside import Values, Views
from services.gateway.send import RecordPublisher
from taskloom import telemetry
from taskloom.bus.errors import BusError
from taskloom.bus.publish import OutRecord
from taskloom.store.errors import StoreUnavailable
from taskloom.views.task_executions.query import Place
from taskloom.wire import link as wire
from taskloom.wire.cloudevents import Attributes, to_headers
from taskloom.wire.messages import DrainNoted, ExecutorHeartbeat, LinkTaken
from taskloom.wire.topics import Topics, partition_of

CLAIM_S: Final = 15.0
HELLO_S: Final = 10.0
FORGET_EVERY_S: Final = 600.0

_log = telemetry.get_logger(__name__)
_encoder = msgspec.json.Encoder()
_open = telemetry.gauge("gateway_agent_links", "Links of agents open now")
_cuts = telemetry.counter("gateway_agent_cuts", "Links of agents that this gateway ended", ["code"])


@dataclass(frozen=True)
class LinkParts:
    """What links need of Kafka and PostgreSQL. ``outputs`` is a producer of its own, so that gigabytes of output do not
    stand before a report."""

    reports: RecordPublisher
    outputs: RecordPublisher
    assignments: MakeReader
    values: AgentValues


class Links:
    """``check_every_s``: how long a revoked token goes on being good for a link that is open."""

    def __init__(
        self,
        parts: LinkParts,
        door: Door,
        views: Views,
        values: Values,
        secrets: AgentSecrets,
        *,
        topics: Topics,
        partitions: int,
        gateway: str,
        at_most: int,
        check_every_s: float,
    ) -> None:
        self.door = door
        self._parts = parts
        self._views = views
        self._claims = values
        self._secrets = secrets
        self._topics = topics
        self._partitions = partitions
        self._gateway = gateway
        self._at_most = at_most
        self._check_every_s = max(0.2, check_every_s)
        self._assignments = Assignments(parts.assignments)
        self._read_back = ReadBack(parts.assignments)
        self._links: dict[str, AgentLink] = {}
        self._taken = 0
        self._closing = False

    @property
    def values(self) -> AgentValues:
        return self._parts.values

    def check_room(self) -> None:
        """
        Raises:
            Unavailable: the gateway stops, or has as many links as it takes.
        """
        if self._closing:
            raise Unavailable("the gateway stops; go to another one", retry_after_s=1)
        if self._taken >= self._at_most:
            raise Unavailable(f"this gateway has {self._at_most} agents; go to another one", retry_after_s=5)

    async def serve(
        self, guest: Guest, send: Callable[[bytes], Awaitable[None]], receive: Callable[[], Awaitable[bytes]]
    ) -> None:
        """One link from its first message to its end.

        Raises:
            Cut: how to close it, where the agent is still there.
        """
        self._taken += 1
        _open.set(self._taken)
        try:
            hello = await self._hello(receive)
            async with self._assignments.subscribe(guest.executor_id) as orders:
                await self._serve(guest, hello, orders, send, receive)
        except BusError as error:
            raise Cut(wire.GOING_AWAY, "Kafka does not answer; come back") from error
        except Cut as cut:
            _cuts.labels(str(cut.code)).inc()
            _log.info("link of an agent ended", agent=guest.executor_id, code=cut.code, reason=cut.reason)
            raise
        finally:
            self._taken -= 1
            _open.set(self._taken)

    async def _hello(self, receive: Callable[[], Awaitable[bytes]]) -> wire.Hello:
        try:
            async with asyncio.timeout(HELLO_S):
                hello = wire.decode_up(await receive())
        except TimeoutError as error:
            raise Cut(wire.GARBLED, f"no hello within {HELLO_S:g} s") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Cut(wire.GARBLED, f"not understood: {error}"[:100]) from error
        if not isinstance(hello, wire.Hello) or hello.protocol != wire.PROTOCOL:
            raise Cut(wire.GARBLED, f"say hello first, in protocol {wire.PROTOCOL}")
        return hello

    async def _serve(
        self,
        guest: Guest,
        hello: wire.Hello,
        orders: Orders,
        send: Callable[[bytes], Awaitable[None]],
        receive: Callable[[], Awaitable[bytes]],
    ) -> None:
        link_id = uuid4().hex
        epoch = await self._claim(guest, hello, orders, link_id)
        # Behind the claim a drain is read in the orders; one ahead of it is in the store.
        guest = await self._newest(guest)
        place = TopicPartition(self._topics.assignments, partition_of(guest.executor_id, self._partitions))
        missed = await self._read_back.between(place, hello.after, epoch, guest.executor_id.encode())
        relay = Relay(guest, self._views.places, self._parts.values.owned, self._topics, self._partitions)
        link = AgentLink(
            *(guest, hello, send, receive, self, relay), link_id=link_id, gateway=self._gateway, epoch=epoch
        )
        self._links[link_id] = link
        _log.info(
            "link of an agent",
            agent=guest.executor_id,
            epoch=epoch,
            missed=len(missed),
            unacknowledged=hello.unacknowledged,
        )
        try:
            if self._closing:
                raise Cut(wire.GOING_AWAY, "the gateway stops; come back")
            await link.run(orders, missed)
        finally:
            del self._links[link_id]

    async def _newest(self, guest: Guest) -> Guest:
        try:
            return await self.door.newest(guest)
        except Unauthorized as error:
            raise Cut(wire.REFUSED, "the token was revoked, or has expired") from error
        except StoreUnavailable as error:
            raise Cut(wire.GOING_AWAY, "PostgreSQL does not answer; come back") from error

    async def _claim(self, guest: Guest, hello: wire.Hello, orders: Orders, link_id: str) -> int:
        """Says in the agent's partition that this gateway holds its link; the offset of that once it was read back."""
        claim = LinkTaken(guest.executor_id, link_id, hello.incarnation, self._gateway, datetime.now(UTC))
        await self._say_among_orders(claim, link_id)
        mine = link_id.encode()
        try:
            async with asyncio.timeout(CLAIM_S):
                while True:
                    record = await orders.next()
                    if mine in (record.value or b""):
                        return int(record.offset)
        except TimeoutError as error:
            raise Cut(wire.GOING_AWAY, "Kafka is slow; come back") from error

    async def note_drain(self, executor_id: str, version: int, draining: bool) -> None:
        """Says it where the agent's orders are, so that whoever holds its link knows which of them come behind it.

        Raises:
            BusError: Kafka did not take it; saying it again is safe.
        """
        await self._say_among_orders(DrainNoted(executor_id, version, draining, datetime.now(UTC)), uuid4().hex)

    async def _say_among_orders(self, message: LinkTaken | DrainNoted, message_id: str) -> None:
        executor_id = message.executor_id
        attributes = Attributes(message_id, str(message.__struct_config__.tag), self._gateway, executor_id)
        partition, key = partition_of(executor_id, self._partitions), executor_id.encode()
        record = OutRecord(self._topics.assignments, partition, key, _encoder.encode(message), to_headers(attributes))
        await self._parts.reports.publish([record])

    # For links (link.Around).

    async def register(self, beat: ExecutorHeartbeat) -> None:
        attributes = Attributes(
            uuid4().hex, str(ExecutorHeartbeat.__struct_config__.tag), self._gateway, beat.executor_id
        )
        partition = partition_of(beat.executor_id, self._partitions)
        key, value = beat.executor_id.encode(), _encoder.encode(beat)
        await self._parts.reports.publish(
            [OutRecord(self._topics.executors, partition, key, value, to_headers(attributes))]
        )

    async def resolve(self, value: Any) -> Any:
        return await self._claims.resolve(value)

    async def places(self, task_ids: Sequence[str]) -> dict[str, Place]:
        return await self._views.places(task_ids)

    def publish_of(self, lane: wire.Lane) -> Publish:
        return (self._parts.reports if lane == "reports" else self._parts.outputs).publish

    async def tell(self, guest: Guest, incarnation: str, ask: wire.Ask) -> wire.Told:
        return await self._secrets.tell(guest, incarnation, ask)

    # All links.

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks again, until ``stopping``, whether the tokens are still good, and now and then what can be forgotten;
        while PostgreSQL is away links go on."""
        forget_at = time.monotonic()
        while not stopping.is_set():
            try:
                async with asyncio.timeout(self._check_every_s):
                    await stopping.wait()
            except TimeoutError:
                await self.check()
            if time.monotonic() >= forget_at:
                forget_at = time.monotonic() + FORGET_EVERY_S
                with suppress(OperationalError, StoreUnavailable):
                    await self._parts.values.forget_old()

    async def check(self) -> None:
        """Cuts the links of agents whose tokens are good no more, and tells the others of drains."""
        links = list(self._links.values())
        try:
            good = await self.door.still_good([link.guest for link in links])
        except Unavailable as error:
            _log.warning("agents' tokens were not looked up", reason=str(error))
            return
        for link in links:
            now = good.get(link.guest.executor_id)
            if now is None or now.token_hash != link.guest.token_hash:
                link.cut(wire.REFUSED, "the token was revoked, or has expired")
            else:
                link.update(now)

    async def close(self) -> None:
        """Cuts every link: agents go to another gateway, or come back. Returns when all have ended."""
        self._closing = True
        for link in list(self._links.values()):
            link.cut(wire.GOING_AWAY, "the gateway stops; come back")
        while self._links:  # noqa: ASYNC110 - a cut link ends in a turn or two; the drain's limit is over this
            await asyncio.sleep(0.01)
        await self._assignments.close()
