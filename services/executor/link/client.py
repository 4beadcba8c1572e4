"""The agent's end of the link: connects, comes back after a cut, and loses nothing in between.

A push stays here until the gateway acknowledges it, and goes again over the next link, in its order. Orders are handed
on in the order of their offsets; the last one's is named when the link is opened again.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from services.executor.link.lanes import Heartbeats, Lane, item_of
from services.executor.link.secrets import Asks
from services.executor.link.settings import AgentSettings
from taskloom import telemetry
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord
from taskloom.client.connection import reads_environment
from taskloom.settings import SettingsError
from taskloom.wire import link as wire

HANDSHAKE_S: Final = 10.0
WELCOME_S: Final = 60.0
MAX_ORDERS: Final = 20_000
"""Orders that wait to be carried out; above it the link is dropped, and they are asked for again by offset."""

_log = telemetry.get_logger(__name__)
_links = telemetry.counter("agent_links", "Links that were opened")
_pending = telemetry.gauge("agent_pushes_unacknowledged", "Pushes that the gateway has not acknowledged")


class AgentRefused(SettingsError):
    """The gateway does not let this agent in."""


class AgentReplaced(SettingsError):
    """Another process connected as this agent."""


class _Beat(Struct, frozen=True, tag="beat"):
    """``wire.Beat`` with the heartbeat as it was encoded."""

    at: datetime
    beat: Raw


class OrderRecord(Struct, frozen=True):
    """What ``Directives`` reads of a Kafka record."""

    offset: int
    key: bytes
    value: bytes
    topic: str = "link"
    partition: int = 0
    headers: tuple[()] = ()


class _Pushed(Struct, eq=False):
    seq: int
    frame: bytes
    done: "asyncio.Future[None]"


class Link:
    """``executor_id``: what the agent registers as; known after the first ``Welcome``. ``on_open``: called with each
    link, once it is open. ``is_over``: the agent was turned away, nobody takes anything of it any more.
    ``draining``: its tenant wants it to take no more work."""

    def __init__(self, settings: AgentSettings, incarnation: str) -> None:
        self._settings = settings
        self._incarnation = incarnation
        self._token = settings.agent_token.get_secret_value()
        self._turn = 0
        self._seq = 0
        self._after = -1
        self._unacknowledged: dict[int, _Pushed] = {}
        self._to_send: deque[bytes] = deque()
        self._bulk: deque[bytes] = deque()  # output, which lets all else pass
        self._some = asyncio.Event()
        self._orders: deque[OrderRecord] = deque()
        self._ordered = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._opened = asyncio.Event()
        self.executor_id = ""
        self.is_over = False
        self.draining = False
        self.reports = Lane("reports", self._push)
        self.outputs = Lane("outputs", self._push)
        self.heartbeats = Heartbeats(self.beat)
        self.secrets = Asks(self._put)
        self.on_open: Callable[[], Awaitable[None]] | None = None

    @property
    def url(self) -> str:
        """The gateway that is, or is next, connected to."""
        return self._settings.gateway_urls[self._turn % len(self._settings.gateway_urls)]

    @property
    def headers(self) -> dict[str, str]:
        return {wire.AGENT_HEADER: self._settings.executor_id, "authorization": f"Bearer {self._token}"}

    async def opened(self) -> None:
        """Returns once the first link is open."""
        await self._opened.wait()

    async def ping(self) -> None:
        """Raises BusUnavailable: there is no link now."""
        if self._socket is None:
            raise BusUnavailable(f"no link to {self.url}")

    async def run(self) -> None:
        """Keeps a link open until cancelled: after a cut the next gateway is tried, after a jittered, growing pause.

        Raises:
            AgentRefused: the token is not good, or no more.
            AgentReplaced: another process connected as this agent.
        """
        settings = self._settings
        pause_s = settings.reconnect_first_s
        while True:
            began = time.monotonic()
            was_open = False
            try:
                async with self._connected() as socket:
                    await self._greet(socket)
                    was_open = True
                    await self._serve(socket)
            except InvalidStatus as refused:
                self._refused(refused)
            except ConnectionClosed as closed:
                self._closed(closed)
            except (OSError, WebSocketException, TimeoutError, msgspec.MsgspecError) as fault:
                _log.warning("no link", gateway=self.url, reason=repr(fault)[:300])
            self._turn += 1
            if was_open and time.monotonic() - began > settings.reconnect_most_s:
                pause_s = settings.reconnect_first_s
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s = min(settings.reconnect_most_s, pause_s * 2)

    def _connected(self) -> connect:
        address = urlsplit(self.url)
        scheme = "wss" if address.scheme == "https" else "ws"
        settings = self._settings
        return connect(
            f"{scheme}://{address.netloc}{address.path}{wire.PATH}",
            additional_headers=self.headers,
            open_timeout=HANDSHAKE_S,
            close_timeout=2.0,
            ping_interval=settings.link_ping_s,
            ping_timeout=settings.link_silent_s,
            max_size=wire.MAX_DOWN_BYTES,
            compression=None,
            proxy=True if reads_environment(self.url) else None,
        )

    def _refused(self, refused: InvalidStatus) -> None:
        status, body = refused.response.status_code, bytes(refused.response.body or b"")[:500]
        if status == 401:
            self._end()
            raise AgentRefused(
                f"{self.url} does not let agent {self._settings.executor_id!r} in: {_message(body)}"
            ) from refused
        _log.warning("no link", gateway=self.url, status=status, reason=_message(body))

    def _closed(self, closed: ConnectionClosed) -> None:
        code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (1006, str(closed))
        if code in (wire.REFUSED, wire.TAKEN_OVER):
            self._end()
        if code == wire.REFUSED:
            raise AgentRefused(f"{self.url} let agent {self._settings.executor_id!r} go: {reason}") from closed
        if code == wire.TAKEN_OVER:
            raise AgentReplaced(f"another process connected as agent {self._settings.executor_id!r}") from closed
        _log.warning("the link was cut", gateway=self.url, code=code, reason=reason, kept=len(self._unacknowledged))

    def _end(self) -> None:
        """What still waits will never be acknowledged: who waits for it goes on."""
        self.is_over = True
        for pushed in self._unacknowledged.values():
            if not pushed.done.done():
                pushed.done.set_result(None)
        self.secrets.end()

    async def _greet(self, socket: ClientConnection) -> None:
        hello = wire.Hello(wire.PROTOCOL, self._incarnation, datetime.now(UTC), self._after, len(self._unacknowledged))
        await socket.send(wire.encode(hello).decode())
        async with asyncio.timeout(WELCOME_S):
            welcome = wire.decode_down(await socket.recv())
        if not isinstance(welcome, wire.Welcome):
            raise WebSocketException("the gateway did not say welcome")
        self.executor_id, self.draining = welcome.executor_id, welcome.draining
        _links.inc()
        _log.info("link is open", gateway=self.url, epoch=welcome.epoch, sends_again=len(self._unacknowledged))

    async def _serve(self, socket: ClientConnection) -> None:
        again = [self._unacknowledged[seq].frame for seq in sorted(self._unacknowledged)]
        self._to_send, self._bulk = deque([*self.secrets.unanswered(), *again]), deque()
        self._some.set()
        self._socket = socket
        self._opened.set()
        work = [asyncio.create_task(self._write(socket)), asyncio.create_task(self._read(socket))]
        if self.on_open is not None:
            work.append(asyncio.create_task(self._tell(self.on_open)))
        try:
            done, _ = await asyncio.wait(work[:2], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._socket = None
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    @staticmethod
    async def _tell(on_open: Callable[[], Awaitable[None]]) -> None:
        with suppress(BusUnavailable):
            await on_open()

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._to_send or self._bulk:
                frame = (self._to_send or self._bulk).popleft()
                await socket.send(frame.decode())

    async def _read(self, socket: ClientConnection) -> None:
        while True:
            message = wire.decode_down(await socket.recv())
            if isinstance(message, wire.Ack):
                self._acknowledged(message)
            elif isinstance(message, wire.Order):
                self._ordered_to(message)
            elif isinstance(message, wire.Drain):
                self.draining = message.draining
            elif isinstance(message, wire.Told):
                self.secrets.told(message)
            if len(self._orders) > MAX_ORDERS:
                raise WebSocketException("more orders than can be carried out; asking again later")

    def _acknowledged(self, ack: wire.Ack) -> None:
        pushed = self._unacknowledged.pop(ack.seq, None)
        _pending.set(len(self._unacknowledged))
        if ack.refused:
            _log.error("the gateway did not pass all on", seq=ack.seq, refused=ack.refused)
        if pushed is not None and not pushed.done.done():
            pushed.done.set_result(None)

    def _ordered_to(self, order: wire.Order) -> None:
        if 0 <= order.offset <= self._after:
            return
        self._after = max(self._after, order.offset)
        directive = msgspec.json.encode(order.directive)
        self._orders.append(OrderRecord(order.offset, self.executor_id.encode(), directive))
        self._ordered.set()

    # For the executor (transport.Transport).

    async def poll(self, timeout_ms: int = 200, max_records: int | None = None) -> dict[Any, list[Any]]:
        """As ``directives.Polls``."""
        if not self._orders:
            self._ordered.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._ordered.wait()
        taken = [self._orders.popleft() for _ in range(min(len(self._orders), max_records or MAX_ORDERS))]
        return {0: taken} if taken else {}

    async def beat(self, encoded: bytes) -> None:
        socket = self._socket
        if socket is None:
            raise BusUnavailable(f"no link to {self.url}")
        try:
            await socket.send(msgspec.json.encode(_Beat(datetime.now(UTC), Raw(encoded))).decode())
        except (ConnectionClosed, OSError) as error:
            raise BusUnavailable(f"the link to {self.url} was cut") from error

    def _put(self, frame: bytes, *, bulk: bool = False) -> None:
        """Sends it, where there is a link; else it waits for the next one with what has no answer."""
        if self._socket is not None:
            (self._bulk if bulk else self._to_send).append(frame)
            self._some.set()

    async def _push(self, lane: wire.Lane, parts: list[list[OutRecord]]) -> None:
        if self.is_over:
            return
        under_way = [self._begin(lane, records) for records in parts]
        try:
            for pushed in under_way:
                await pushed.done
        finally:
            for pushed in under_way:
                self._unacknowledged.pop(pushed.seq, None)

    def _begin(self, lane: wire.Lane, records: Sequence[OutRecord]) -> _Pushed:
        self._seq += 1
        push = wire.Push(self._seq, lane, [item_of(record) for record in records])
        pushed = _Pushed(self._seq, wire.encode(push), asyncio.get_running_loop().create_future())
        self._unacknowledged[pushed.seq] = pushed
        _pending.set(len(self._unacknowledged))
        self._put(pushed.frame, bulk=lane == "outputs")
        return pushed


def _message(body: bytes) -> str:
    try:
        told = msgspec.json.decode(body)
        return str(told.get("message") or told.get("error") or "")
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")
