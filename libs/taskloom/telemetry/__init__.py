"""Logs, metrics and traces of every process, in one import: ``from taskloom import telemetry``."""

from taskloom.telemetry.logs import bind_task, configure_logging, get_logger
from taskloom.telemetry.metrics import REGISTRY, counter, exposition, gauge, histogram
from taskloom.telemetry.tracing import (
    Span,
    configure_tracing,
    enabled,
    new_traceparent,
    record_in_memory,
    shutdown_tracing,
    span,
    trace_id_of,
)

__all__ = [
    "REGISTRY",
    "Span",
    "bind_task",
    "configure_logging",
    "configure_tracing",
    "counter",
    "enabled",
    "exposition",
    "gauge",
    "get_logger",
    "histogram",
    "new_traceparent",
    "record_in_memory",
    "shutdown_tracing",
    "span",
    "trace_id_of",
]
