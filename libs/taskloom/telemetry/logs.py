"""Structured logs: one JSON object a line on stderr, with task and trace ids where they are known.

The standard library's logging (uvicorn, aiokafka, psycopg) comes out in the same form. Nothing logs once a message or a
task on a hot path; ``bind_task`` is for the slow and the rare.
"""

import logging
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

from taskloom.telemetry.tracing import current_trace_id, trace_id_of

REPEAT_AFTER_S: Final = 10.0
"""A library's warning that says the same again within this time is left out, and counted in the next one."""

_NOISY: Final = {
    "aiokafka": logging.WARNING,
    "faststream": logging.WARNING,
    "psycopg.pool": logging.WARNING,
    "httpx": logging.WARNING,
    "websockets": logging.INFO,
    "uvicorn": logging.INFO,
}
"""The last two would print frames of agents' links, and so tokens, output and secrets."""

EventDict = MutableMapping[str, Any]


def configure_logging(service: str, *, level: str = "info", log_format: str = "json", instance: str = "") -> None:
    """Routes all logging of this process to stderr. May be called again; the last call holds."""
    shared: list[Any] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _Constant(service=service, instance=instance),
        _add_trace_id,
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    else:
        last += [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    handler.addFilter(_Quieter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Logger of a module: ``log.info("what happened", field=value)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


@contextmanager
def bind_task(task_id: str, traceparent: str = "") -> Iterator[None]:
    """Everything logged inside carries ``task_id``, and ``trace_id`` when the traceparent is known."""
    bound = {"task_id": task_id}
    if traceparent:
        bound["trace_id"] = trace_id_of(traceparent)
    with bound_contextvars(**bound):
        yield


class _Constant:
    """Adds the same fields to each line."""

    def __init__(self, **fields: str) -> None:
        self._fields = {name: value for name, value in fields.items() if value}

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        for name, value in self._fields.items():
            event.setdefault(name, value)
        return event


def _add_trace_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    if "trace_id" not in event and (trace_id := current_trace_id()):
        event["trace_id"] = trace_id
    return event


def _to_json(event: EventDict, **_options: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


class _Quieter(logging.Filter):
    """Keeps a library from writing the same line ten times a second while a broker is away.

    Lines of ours pass. "The same" is logger and message template, so changing ports and ids do not defeat it. The table
    is bounded: when it is full, it starts anew.
    """

    MOST: Final = 500

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _NOISY:
            return True
        now, key = time.monotonic(), (record.name, str(record.msg))
        since, left_out = self._seen.get(key, (now - REPEAT_AFTER_S, 0))
        if now - since < REPEAT_AFTER_S:
            self._seen[key] = (since, left_out + 1)
            return False
        if len(self._seen) >= self.MOST:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} times more since)", ()
        return True
