"""A tiny HTTP server in the service's own loop: /health, /readiness, /metrics. For services that have no other HTTP."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import msgspec
import uvicorn

from taskloom import telemetry
from taskloom.errors import TaskloomError

CHECK_TIMEOUT_S: Final = 2.0
START_TIMEOUT_S: Final = 5.0
KEEP_CHECKS_S: Final = 0.5
"""Answers of the checks are kept this long, so that many probes do not become many queries."""

log = telemetry.get_logger(__name__)

Check = Callable[[], Awaitable[None]]
"""Raises when the thing is not ready; the exception's text is the answer's detail."""


class OpsUnavailable(TaskloomError):
    """The server for /health, /readiness and /metrics could not start."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves SIGTERM to the service: its drain decides when this server stops."""
        yield


class Readiness:
    """Named checks, run side by side, each within 2 s."""

    def __init__(self, service: str, checks: Mapping[str, Check]) -> None:
        self._service = service
        self._checks = dict(checks)
        self._version = version("taskloom")
        self._kept: tuple[float, int, dict[str, Any]] | None = None
        self._turn = asyncio.Lock()

    async def report(self) -> tuple[int, dict[str, Any]]:
        """200 or 503, and ``{"status", "service", "version", "time", "checks": {name: "ok" or why not}}``."""
        async with self._turn:
            if self._kept is None or time.monotonic() - self._kept[0] > KEEP_CHECKS_S:
                results = await asyncio.gather(*(self._result(check) for check in self._checks.values()))
                checks = dict(zip(self._checks, results, strict=True))
                ready = all(result == "ok" for result in results)
                self._kept = (
                    time.monotonic(),
                    200 if ready else 503,
                    self.answer("ready" if ready else "not ready", checks),
                )
            return self._kept[1], self._kept[2]

    def answer(self, status: str, checks: Mapping[str, str]) -> dict[str, Any]:
        now = datetime.now(UTC)
        return {
            "status": status,
            "service": self._service,
            "version": self._version,
            "time": now,
            "checks": dict(checks),
        }

    async def _result(self, check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await check()
        except TimeoutError:
            return f"no answer within {CHECK_TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why the service is not ready
            return str(error) or type(error).__name__
        return "ok"


class OpsServer:
    """Serves until ``stop``. ``port`` 0 takes any free port; read it from ``port`` after ``start``."""

    def __init__(self, host: str, port: int, *, service: str, checks: Mapping[str, Check]) -> None:
        self.host, self.port = host, port
        self._readiness = Readiness(service, checks)
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the server answers.

        Raises:
            OpsUnavailable: the port is taken, or the server was not up within 5 s.
        """
        listener = self._listen()
        config = uvicorn.Config(
            self._app, interface="asgi3", proxy_headers=False, http="httptools", ws="none", lifespan="off",
            log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1, limit_concurrency=64,
        )  # fmt: skip
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="ops server")
        until = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if self._task.done() or time.monotonic() > until:
                await self.stop()
                raise OpsUnavailable(
                    f"the ops server on {self.host}:{self.port} was not up within {START_TIMEOUT_S:g} s"
                )
            await asyncio.sleep(0.005)
        log.info("ops server listens", url=f"http://{self.host}:{self.port}")

    async def stop(self) -> None:
        """Closes the port and the connections; takes at most about a second."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._task}, timeout=2.0)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._server = self._task = None

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
        except OSError as error:
            listener.close()
            raise OpsUnavailable(
                f"cannot listen on {self.host}:{self.port}: {error.strerror}; set TASKLOOM_OPS_PORT"
            ) from error
        listener.setblocking(False)
        self.port = int(listener.getsockname()[1])
        return listener

    async def _app(self, scope: dict[str, Any], _receive: Any, send: Any) -> None:
        status, kind, body = await self._respond(str(scope.get("method", "GET")), str(scope["path"]))
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, method: str, path: str) -> tuple[int, bytes, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, b"application/json", b'{"error":"only GET here"}'
        if path == "/metrics":
            return 200, b"text/plain; version=0.0.4; charset=utf-8", telemetry.exposition()
        if path == "/health":
            return 200, b"application/json", msgspec.json.encode(self._readiness.answer("healthy", {}))
        if path == "/readiness":
            status, report = await self._readiness.report()
            return status, b"application/json", msgspec.json.encode(report)
        return 404, b"application/json", b'{"error":"here are /health, /readiness and /metrics"}'
