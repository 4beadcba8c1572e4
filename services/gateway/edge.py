"""The outermost layer: every request passes it once, before any route. Guard, limits, trace context, metrics, CORS."""

import hashlib
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, HTTPScope, Message, Receive, Scope, Send

from services.gateway.answers import Answer, json_answer
from services.gateway.audit import Auditor
from services.gateway.gatekeeper import Gatekeeper
from services.gateway.limits import Limits
from services.gateway.paths import is_stream
from services.gateway.problems import Problem
from services.gateway.reconnects import CutInstead, comes_back
from services.gateway.refusing import refuse_websocket
from services.gateway.security import BrowserGuard
from taskloom import telemetry
from taskloom.domain.ids import is_valid_id

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_HEX_TRACE: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")

_requests = telemetry.counter("gateway_requests", "Requests answered", ["method", "route", "status"])
_seconds = telemetry.histogram(
    "gateway_request_seconds", "Time until a request was answered, streams left out", ["route"]
)

_ALLOWED: Final = (
    b"Content-Type, Authorization, X-API-Key, X-User-Id, X-Tenant-Id, Idempotency-Key, Prefer, traceparent, "
    b"tracestate, Cache-Control, Last-Event-ID, If-Match"
)
_EXPOSED: Final = (
    b"X-Trace-Id, X-Span-Id, X-Session-ID, X-Workflow-ID, X-Taskloom-Lag-Ms, X-Taskloom-Version, X-Idempotency-Cached, "
    b"X-Idempotency-Key, X-RateLimit-Limit-Minute, X-RateLimit-Remaining-Minute, X-RateLimit-Limit-Hour, "
    b"X-RateLimit-Remaining-Hour, X-RateLimit-Reset, Retry-After, WWW-Authenticate"
)


class Edge:
    """Wraps the whole Litestar application, so that unknown routes and refused requests are traced and counted too."""

    def __init__(
        self, app: ASGIApp, guard: BrowserGuard, gatekeeper: Gatekeeper, auditor: Auditor, limits: Limits
    ) -> None:
        self._app = app
        self._guard = guard
        self._gatekeeper = gatekeeper
        self._auditor = auditor
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            await self._http(scope, receive, send)
        else:  # there are no lifespan messages: the service has its own
            await self._websocket(scope, receive, send)

    async def _http(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        trace_id, traceparent = _trace_of(headers)
        with telemetry.span("gateway.request", traceparent, kind="server") as span:
            if not trace_id:
                trace_id = telemetry.trace_id_of(span.traceparent)
            scope.setdefault("state", {})["traceparent"] = span.traceparent
            reader = CutInstead(send) if comes_back(scope, headers) else send
            sender = _Sender(reader, _common_headers(headers, trace_id, span.traceparent))
            began = time.perf_counter()
            try:
                await self._guarded(scope, headers, receive, sender)
            finally:
                self._auditor.note(scope, sender.status, sender.named, trace_id)
                route = _route_of(scope)
                _requests.labels(scope["method"], route, str(sender.status)).inc()
                if not is_stream(route):
                    _seconds.labels(route).observe(time.perf_counter() - began)
                if telemetry.enabled():
                    span.set(**{"http.request.method": scope["method"], "http.route": route})
                    span.set(**{"http.response.status_code": sender.status, "url.path": scope["path"]})

    async def _websocket(self, scope: Any, receive: Receive, send: Send) -> None:
        """What opens a WebSocket is guarded as a request is: browsers let any page open one."""
        headers = dict(scope["headers"])
        scope.setdefault("state", {})["traceparent"] = _trace_of(headers)[1]
        try:
            self._guard.check(headers)
            await self._gatekeeper.admit(scope)
        except Problem as problem:
            await refuse_websocket(problem, send)
            return
        await self._app(scope, receive, send)

    async def _guarded(self, scope: Any, headers: Mapping[bytes, bytes], receive: Receive, sender: "_Sender") -> None:
        try:
            self._guard.check(headers)
            if scope["method"] == "OPTIONS":
                await _preflight()(scope, receive, sender)
            elif is_stream(scope["path"]):
                await self._gatekeeper.admit(scope)
                await self._app(scope, receive, sender)
            else:
                with self._limits.request(headers):
                    self._auditor.admit(scope["method"])
                    await self._gatekeeper.admit(scope)
                    await self._app(scope, receive, sender)
        except Problem as problem:
            if sender.status:
                raise
            answer = json_answer(problem.body(), status=problem.status, headers=[*problem.headers.items()])
            await answer(scope, receive, sender)


class _Sender:
    """Adds the common headers to the answer and remembers its status, and the task that its headers name."""

    __slots__ = ("_headers", "_send", "named", "status")

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0
        self.named = ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            start: HTTPResponseStartEvent = message
            self.status = start["status"]
            self.named = next((of.decode() for name, of in start["headers"] if name == b"x-workflow-id"), "")
            start["headers"] = [*start["headers"], *self._headers]
        await self._send(message)


def _trace_of(headers: Mapping[bytes, bytes]) -> tuple[str, str]:
    """The trace id to answer with ("" for that of the traceparent) and the traceparent to go on with."""
    given = headers.get(b"traceparent", b"")
    if _TRACEPARENT.fullmatch(given):
        return "", given.decode()
    fresh = telemetry.new_traceparent() if not telemetry.enabled() else ""
    named = (headers.get(b"x-trace-id") or headers.get(b"x-request-id") or b"").decode("latin-1")
    if not named or not is_valid_id(named):
        return "", fresh
    trace = named.replace("-", "").lower()
    if not _HEX_TRACE.fullmatch(trace):
        trace = hashlib.sha256(named.encode()).hexdigest()[:32]
    # A traceparent needs a parent span; the caller named none, so one is made from the trace.
    return named, f"00-{trace}-{hashlib.sha256(trace.encode()).hexdigest()[:16]}-01"


def _common_headers(headers: Mapping[bytes, bytes], trace_id: str, traceparent: str) -> list[tuple[bytes, bytes]]:
    common = [(b"x-trace-id", trace_id.encode()), (b"x-span-id", traceparent[36:52].encode())]
    origin = headers.get(b"origin")
    if origin is not None:
        # Only origins that the guard lets through get here.
        common += [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        common += [(b"access-control-expose-headers", _EXPOSED)]
    return common


def _preflight() -> Answer:
    return Answer(
        200,
        b"",
        [
            (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
            (b"access-control-allow-headers", _ALLOWED),
            (b"access-control-max-age", b"3600"),
        ],
    )


def _route_of(scope: Any) -> str:
    """The route's template, so that ids do not become labels."""
    return str(scope.get("path_template") or "unknown")
