"""Values that commands, events and states share. All are frozen; durations are seconds, times are aware UTC."""

import hashlib
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from taskloom.domain.ids import ID_PATTERN

Identifier = Annotated[str, Meta(pattern=ID_PATTERN)]
Text256 = Annotated[str, Meta(max_length=256)]
Description = Annotated[str, Meta(max_length=10_000)]
Seconds = Annotated[float, Meta(gt=0, le=366 * 86_400)]
UtcTime = Annotated[datetime, Meta(tz=True)]

OUTPUT_SEQ_SPAN: Final = 1_000_000_000
"""Output chunk ``n`` (from 1) of attempt ``a`` has ``seq = (a - 1) * OUTPUT_SEQ_SPAN + n``: one rising number a task,
the same for the executor, the table and a live stream, without anyone having to hand numbers out."""

Stream = Literal["stdout", "stderr", "message", "log"]
DependencyOutcome = Literal["completed", "failed", "timed_out", "cancelled", "unknown"]
DependencyPolicy = Literal["fail", "skip", "continue"]
TimeoutKind = Literal["schedule_to_start", "start_to_close", "heartbeat", "total"]


class Priority(IntEnum):
    LOW = 1
    NORMAL = 2
    HIGH = 3
    URGENT = 4
    CRITICAL = 5


class Retry(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Retry policy; ``max_attempts`` counts the first try. After ``max_lost`` attempts in a row whose executors were
    lost the task is quarantined: it may be what kills them, so it fails until somebody retries it."""

    max_attempts: Annotated[int, Meta(ge=1, le=1000)] = 4
    initial_s: Annotated[float, Meta(ge=0, le=86_400)] = 1.0
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max_s: Annotated[float, Meta(ge=0, le=7 * 86_400)] = 60.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.2
    non_retryable: tuple[Text256, ...] = ()
    max_lost: Annotated[int, Meta(ge=1, le=1000)] = 5


class Timeouts(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    schedule_to_start_s: Seconds | None = None
    start_to_close_s: Seconds = 300.0
    heartbeat_s: Seconds | None = None
    total_s: Seconds | None = None


class Resources(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an attempt needs, or an executor offers."""

    cpu_cores: Annotated[float, Meta(ge=0)] = 0.0
    memory_gb: Annotated[float, Meta(ge=0)] = 0.0
    disk_gb: Annotated[float, Meta(ge=0)] = 0.0
    gpu_memory_gb: Annotated[float, Meta(ge=0)] = 0.0


class Concurrency(Struct, frozen=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(min_length=1, max_length=256)]
    limit: Annotated[int, Meta(ge=1)]


class Webhook(Struct, frozen=True, omit_defaults=True):
    """A subscription of a tenant. ``events`` empty: all of them; ``kind``, ``queue`` and ``tag`` narrow. ``serial``
    counts its secrets."""

    name: str
    url: str
    events: tuple[str, ...] = ()
    kind: str = ""
    queue: str = ""
    tag: str = ""
    enabled: bool = True
    serial: int = 1


class Affinity(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The task prefers the executor that last got a task with the same affinity: of its workflow, of its session, or
    with the same ``key``. Where that one is full the task waits for ``wait_s`` since it was queued; then any will do.
    """

    to: Literal["workflow", "session", "key"] = "workflow"
    key: Text256 = ""
    wait_s: Annotated[float, Meta(ge=0, le=3600)] = 5.0


class Budget(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    tokens: Annotated[int, Meta(ge=1)] | None = None
    cost_usd: Annotated[float, Meta(gt=0)] | None = None


class Approval(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Somebody has to agree before the task may start: one of ``approvers``, or anybody when there are none.

    ``on_timeout``: what nobody's decision within ``timeout_s`` means. ``fail`` and ``reject`` both end the task; they
    differ in the error.
    """

    message: Annotated[str, Meta(max_length=4096)] = ""
    approvers: Annotated[tuple[Text256, ...], Meta(max_length=100)] = ()
    timeout_s: Seconds | None = None
    on_timeout: Literal["fail", "approve", "reject"] = "fail"


class Fork(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The task shall be another one, as it was at version ``at`` (the newest without it), with these changes.

    ``overrides`` is a JSON Merge Patch (RFC 7396) of its submission: objects are merged, null removes, the rest is
    replaced.
    """

    task_id: Identifier
    at: Annotated[int, Meta(ge=1)] | None = None
    overrides: dict[str, Any] = {}


class ForkedFrom(Struct, frozen=True):
    """Where a fork comes from: the other task's events up to ``version``."""

    task_id: str
    version: int


class ErrorInfo(Struct, frozen=True, omit_defaults=True):
    """Why an attempt failed. ``type`` is what ``retry.non_retryable`` names.

    ``fault``: it speaks against the handler or its executor (a crash, an exception that nobody foresaw, a limit passed,
    an executor lost), not against the task or what it talks to. Only faults open a circuit breaker.
    """

    type: str
    message: str
    retryable: bool = True
    details: dict[str, Any] = {}
    fault: bool = False


class Usage(Struct, frozen=True, omit_defaults=True):
    """Tokens and money of an attempt."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    model: str = ""
    provider: str = ""


class ResourceUse(Struct, frozen=True, omit_defaults=True):
    """Peak use of an attempt's process tree; ``cpu_percent`` of one core, sampled; ``cpu_s`` user + system."""

    cpu_percent: float = 0.0
    memory_mb: float = 0.0
    cpu_s: float = 0.0
    samples: int = 0


class OutputSummary(Struct, frozen=True, omit_defaults=True):
    """What an attempt wrote, so that a reader knows when it has all of it. ``dropped_bytes``: what came after the
    executor's limit of output and is kept nowhere."""

    last_seq: int = 0
    chunks: int = 0
    bytes: int = 0
    dropped_bytes: int = 0


class TaskSpec(Struct, frozen=True, omit_defaults=True):
    """A validated submission, as stored in ``TaskSubmitted``. ``input`` may be a claim (see wire/claims.py)."""

    kind: str
    input: dict[str, Any] = {}
    query: str = ""
    tenant_id: str = "default"
    user_id: str = ""
    session_id: str = ""
    context: dict[str, Any] = {}
    mode: str = "simple"
    name: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    queue: str = "default"
    priority: int = Priority.NORMAL
    run_at: datetime | None = None
    deadline: datetime | None = None
    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry()
    executor_id: str = ""
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    resources: Resources = Resources()
    concurrency: Concurrency | None = None
    budget: Budget | None = None
    affinity: Affinity | None = None
    callback_url: str = ""
    depends_on: tuple[str, ...] = ()
    on_dependency_failure: DependencyPolicy = "fail"
    description: str = ""
    approval: Approval | None = None
    key_id: str = ""
    forked_from: ForkedFrom | None = None


def backoff(failures: int, policy: Retry, *, key: str) -> float:
    """Delay before the next attempt, in seconds: ``min(max_s, initial_s * factor ** (failures - 1))``, then jitter.

    The jitter spreads over ``[1 - jitter, 1]`` of the delay, so the cap holds, and is drawn from a hash of ``key`` and
    ``failures``: the same history gives the same delay, which keeps ``decide`` pure.

    Raises:
        ValueError: ``failures`` is below 1.
    """
    if failures < 1:
        raise ValueError(f"failures must be 1 or more, not {failures}")
    try:
        delay = min(policy.max_s, policy.initial_s * policy.factor ** (failures - 1))
    except OverflowError:
        delay = policy.max_s
    draw = int.from_bytes(hashlib.blake2b(f"{key}/{failures}".encode(), digest_size=4).digest()) / 2**32
    return delay * (1.0 - policy.jitter * draw)
