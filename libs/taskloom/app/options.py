"""What can be said about how a task runs: with its function, or for one call of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypedDict

import msgspec

from taskloom.app.errors import AppError
from taskloom.app.expressions import Reference
from taskloom.domain.values import Concurrency, Resources, Retry


class TaskOptions(TypedDict, total=False):
    """``timeout_s`` is of each attempt, ``total_timeout_s`` of all together, ``heartbeat_s`` the longest silence.

    ``concurrency``: at most so many attempts at once, of this task or with a key of your own.
    """

    retry: Retry
    timeout_s: float
    total_timeout_s: float
    schedule_to_start_s: float
    heartbeat_s: float
    queue: str
    priority: int | str
    concurrency: int | Concurrency
    capabilities: Sequence[str]
    labels: Mapping[str, str]
    resources: Resources
    tags: Sequence[str]
    metadata: Mapping[str, Any]


class CallOptions(TaskOptions, total=False):
    """For one call. When submitted: ``task_id``, ``idempotency_key``, ``session_id``, ``run_at``, ``deadline``. As a
    step: ``step_id``; ``after``, the results that it waits for instead of the step before it; ``on_failure``.

    ``title`` is the task's name for people.
    """

    title: str
    task_id: str
    idempotency_key: str
    session_id: str
    run_at: datetime | str
    deadline: datetime | str
    step_id: str
    after: Sequence[Reference]
    on_failure: Literal["fail", "continue", "compensate"]


_LIMITS: Final = {
    "timeout_s": "start_to_close_s",
    "total_timeout_s": "total_s",
    "schedule_to_start_s": "schedule_to_start_s",
    "heartbeat_s": "heartbeat_s",
}
_AS_THEY_ARE: Final = ("queue", "priority", "capabilities", "labels", "tags", "metadata")
OF_STEPS: Final = frozenset({"step_id", "after", "on_failure"})
OF_SUBMISSIONS: Final = frozenset({"task_id", "idempotency_key", "session_id", "run_at", "deadline"})


def checked(options: Mapping[str, Any], allowed: type, where: str) -> dict[str, Any]:
    """
    Raises:
        AppError: an option is unknown.
    """
    known = allowed.__annotations__.keys() | TaskOptions.__annotations__.keys()
    for name in options:
        if name not in known:
            raise AppError(f"{where}: there is no option {name!r}; there are {', '.join(sorted(known))}")
    return dict(options)


def fields_of(options: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The fields of a submission that options stand for, as JSON data."""
    fields: dict[str, Any] = {name: options[name] for name in _AS_THEY_ARE if options.get(name)}
    if timeouts := {field: options[name] for name, field in _LIMITS.items() if options.get(name) is not None}:
        fields["timeouts"] = timeouts
    for name in ("retry", "resources"):
        if name in options:
            fields[name] = options[name]
    limit = options.get("concurrency")
    if limit is not None:
        fields["concurrency"] = Concurrency(kind, limit) if isinstance(limit, int) else limit
    if options.get("title"):
        fields["name"] = options["title"]
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(fields))
    return plain
