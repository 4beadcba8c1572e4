"""uvicorn in the service's own loop: started with a time limit, stopped by the service's drain."""

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from services.gateway.sending import StreamCut
from taskloom import telemetry
from taskloom.errors import TaskloomError
from taskloom.wire import link

START_TIMEOUT_S: Final = 10.0
KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 2048

MAX_MESSAGE_BYTES: Final = 512
"""Most that a WebSocket's peer may say in one message; of these one waits, and then no more is read. An agent that was
let in may say more: ``wire.link.MAX_UP_BYTES``."""

WS_PING_S: Final = 20.0
WS_SILENT_S: Final = 60.0
"""A WebSocket's peer that does not answer to pings for this long is dropped."""

_log = telemetry.get_logger(__name__)


class CannotListen(TaskloomError):
    """The HTTP port cannot be used."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves SIGTERM to the service."""
        yield


class _WebSocket(WebSocketsSansIOProtocol):
    """Takes larger messages from agents, once they have shown their token; those of all others stay small."""

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.accept" and self.scope["path"] == link.PATH:
            self.conn.max_message_size = link.MAX_UP_BYTES
        await super().send(message)


class _WithoutCuts(logging.Filter):
    """A stream that is cut on purpose leaves the application as an exception, so that uvicorn breaks the connection off
    instead of ending it; that is no error to log. Nor are opened WebSockets, whose line would show the query string:
    there may be a key in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if '"WebSocket %s"' in str(record.msg):
            return False
        fault = record.exc_info[1] if record.exc_info else None
        while fault is not None:
            if isinstance(fault, StreamCut):
                return False
            fault = fault.__cause__ or fault.__context__
        return True


class HttpServer:
    """``drain_s``: how long requests in work have when it stops. ``port`` 0 takes a free one; read it from ``port``."""

    def __init__(self, app: Any, host: str, port: int, *, drain_s: float) -> None:
        self.host, self.port = host, port
        self._drain_s = drain_s
        config = uvicorn.Config(
            app,
            http="httptools",
            ws=_WebSocket,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=WS_PING_S,
            ws_ping_timeout=WS_SILENT_S - WS_PING_S,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, int(drain_s)),
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when requests are answered.

        Raises:
            CannotListen: the port is taken or forbidden, or the server was not up within 10 s.
        """
        logging.getLogger("uvicorn.error").addFilter(_WithoutCuts())
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener()]), name="http")
        until = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if self._serving.done() or time.monotonic() > until:
                await self.stop()
                raise CannotListen(
                    f"the HTTP server on {self.host}:{self.port} was not up within {START_TIMEOUT_S:g} s"
                )
            await asyncio.sleep(0.005)
        _log.info("listening", url=f"http://{self.host}:{self.port}")

    async def run(self, stopping: asyncio.Event) -> None:
        """Ends at ``stopping``, or with the server's fault."""
        assert self._serving is not None
        stop = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({stop, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self._serving.done():
            self._serving.result()

    async def stop(self) -> None:
        """Takes no more connections, and returns when the requests in work are answered or their time is over."""
        if self._serving is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._serving}, timeout=self._drain_s + 1.0)
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)

    def _listener(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
        except OSError as error:
            listener.close()
            raise CannotListen(
                f"cannot listen on {self.host}:{self.port}: {error.strerror}; choose another TASKLOOM_HTTP_PORT"
            ) from error
        listener.setblocking(False)
        self.port = int(listener.getsockname()[1])
        return listener
