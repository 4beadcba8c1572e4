"""OpenTelemetry traces, off unless an OTLP endpoint is set; trace contexts travel as W3C ``traceparent`` text.

While tracing is off ``span`` makes no OpenTelemetry object: it hands the given traceparent on, so a caller's trace id
still reaches every event and log line. Hot paths ask ``enabled()`` once a batch.
"""

import os
from contextlib import AbstractContextManager
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TRACEPARENT_LENGTH: Final = 55
FLUSH_TIMEOUT_MS: Final = 3_000
"""How long shutting down waits for the last spans to leave."""

EXPORT_TIMEOUT_S: Final = 2
"""How long one export may take, retries included: a collector that is away must not hold up the end of a service."""

_provider: "TracerProvider | None" = None
_tracer: Any = None


class Span:
    """A piece of a trace. ``traceparent`` is what to hand on: this span's own, or what came in while tracing is off."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str = "") -> None:
        self.traceparent = traceparent

    def set(self, **attributes: Any) -> None:
        """Adds attributes; does nothing while tracing is off."""

    def __enter__(self) -> "Span":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _RecordedSpan(Span):
    """A span that is exported; it becomes the current one, so that log lines and inner spans find it."""

    __slots__ = ("_manager", "_span")

    def __init__(self, manager: AbstractContextManager[Any]) -> None:
        super().__init__()
        self._manager = manager
        self._span: Any = None

    def set(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(name, value)

    def __enter__(self) -> "Span":
        self._span = self._manager.__enter__()
        self.traceparent = _format(self._span.get_span_context())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.__exit__(kind, error, trace)


def configure_tracing(service: str, *, endpoint: str, instance: str = "") -> None:
    """Turns tracing on when ``endpoint`` (OTLP/HTTP base URL) is set; spans leave in batches from a thread."""
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    url = endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    _install(service, instance).add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT_S))
    )


def record_in_memory(service: str = "test") -> "InMemorySpanExporter":
    """Turns tracing on and keeps the spans in memory: for tests. ``shutdown_tracing`` turns it off again."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    _install(service, "").add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def shutdown_tracing() -> None:
    """Sends what is left, within 3 s, and turns tracing off."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.force_flush(FLUSH_TIMEOUT_MS)
        provider.shutdown()


def enabled() -> bool:
    """True when spans are recorded."""
    return _tracer is not None


def span(name: str, traceparent: str = "", *, kind: str = "internal", **attributes: Any) -> Span:
    """A context manager that records ``name`` as a child of ``traceparent`` (W3C text), or of the current span.

    ``kind`` is internal, server, client, producer or consumer. An exception that leaves it marks the span as failed.
    """
    if _tracer is None:
        return Span(traceparent)
    from opentelemetry.trace import SpanKind

    return _RecordedSpan(
        _tracer.start_as_current_span(
            name, context=_parent_context(traceparent), kind=SpanKind[kind.upper()], attributes=attributes or None
        )
    )


def new_traceparent() -> str:
    """A fresh trace context, marked as not sampled: an id to find a request by while tracing is off."""
    bits = os.urandom(24).hex()
    return f"00-{bits[:32]}-{bits[32:]}-00"


def trace_id_of(traceparent: str) -> str:
    """The 32 hex digits of a W3C traceparent; empty when it is none."""
    return traceparent[3:35] if len(traceparent) >= TRACEPARENT_LENGTH and traceparent[2] == "-" else ""


def current_trace_id() -> str:
    """Trace id of the span that is open here, in hex; empty while tracing is off."""
    if _tracer is None:
        return ""
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def _install(service: str, instance: str) -> "TracerProvider":
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    global _provider, _tracer
    shutdown_tracing()
    about = {"service.name": f"taskloom-{service}", "service.version": version("taskloom")}
    if instance:
        about["service.instance.id"] = instance
    # Our own provider, not OpenTelemetry's global one: that can be set only once a process.
    _provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    _tracer = _provider.get_tracer("taskloom", version("taskloom"))
    return _provider


def _parent_context(traceparent: str) -> Any:
    if not traceparent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _format(context: Any) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
