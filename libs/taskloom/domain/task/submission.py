"""From a submission as sent to a validated ``TaskSpec``. The same rules at the gateway and at the Kafka door."""

import hashlib
from collections.abc import Collection
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import structs

from taskloom.domain.goals.submitting import DEFINITION, BadGoal, pinned_input
from taskloom.domain.runs import GOAL, RUN_KINDS, is_run
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.modes import QUERY, resolved
from taskloom.domain.tools import retry_of_call
from taskloom.domain.values import Affinity, Priority, Retry, TaskSpec
from taskloom.domain.workflow.check import validate_input
from taskloom.domain.workflow.references import FORKED, PINNED

WEBHOOK_KIND: Final = "webhook"
WEBHOOK_QUEUE: Final = "webhooks"
"""Deliveries wait here; an executor with a webhook key serves it beside its own queues."""

BUILT_IN_KINDS: Final = (
    frozenset({"query", "echo", "sleep", "shell", "python", "http", "sql", "llm", "tool"}) | RUN_KINDS
)
BUILT_IN_QUEUES: Final = frozenset({"default"})
MAX_QUERY_CHARS: Final = 100_000
MAX_INLINE_BYTES: Final = 64 * 1024
"""JSON of metadata, labels or tags."""

MAX_WORKFLOW_BYTES: Final = 512 * 1024
"""JSON of a workflow's input: the definition stays in the event, since the run is folded from there."""

_FIRST_YEAR, _LAST_YEAR = 1970, 9000

MODES: Final = ("simple", "standard", "complex", "supervisor")
MODEL_TIERS: Final = ("small", "medium", "large")
_INTO_CONTEXT: Final = (
    "model_tier",
    "model_override",
    "provider_override",
    "research_strategy",
    "max_iterations",
    "max_concurrent_agents",
    "enable_verification",
    "skill",
)
_choices: Final = attrgetter(*_INTO_CONTEXT)
_NO_CHOICES: Final = _choices(SubmitTask())
_PRIORITY_WORDS: Final = {priority.name.lower(): int(priority) for priority in Priority}


class Invalid(ValueError):
    """A field of a submission is wrong; ``field`` is its path, for example ``retry.factor``."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def normalise(
    command: SubmitTask,
    *,
    task_id: str,
    tenant_id: str,
    user_id: str,
    kinds: Collection[str] | None = None,
    key_id: str = "",
) -> TaskSpec:
    """The specification that a submission asks for, defaults filled in. Pure: the same submission, the same result.

    ``kinds`` are the kinds that can run; None leaves that question to the scheduler.

    Raises:
        Invalid: a field is wrong; the message says what to send instead.
    """
    if command.fork is not None:
        raise Invalid("a fork is made of a stored task: send it to POST /api/v1/tasks/{task_id}/fork", "fork")
    command = resolved(command)
    kind = _kind(command, kinds)
    run_input = command.input
    if kind == "workflow":
        _check_workflow(command)
    elif kind == GOAL:
        run_input = _goal(command)
    return TaskSpec(
        kind=kind,
        input=run_input,
        query=_query(command),
        tenant_id=tenant_id,
        user_id=user_id,
        session_id=command.session_id or own_session(tenant_id, task_id),
        context=_context(command),
        mode=_mode(command.mode),
        name=command.name,
        tags=tuple(dict.fromkeys(command.tags)),
        metadata=command.metadata,
        queue=command.queue,
        priority=priority_of(command.priority),
        run_at=utc_of(command.run_at, "run_at"),
        deadline=utc_of(command.deadline, "deadline"),
        timeouts=command.timeouts,
        retry=_retry(kind, command),
        executor_id=command.executor_id or "",
        capabilities=tuple(sorted(set(command.capabilities))),
        labels=command.labels,
        resources=command.resources,
        concurrency=command.concurrency,
        budget=command.budget,
        affinity=_affinity(command.affinity),
        callback_url=_callback(command.callback_url),
        depends_on=_dependencies(command, task_id),
        on_dependency_failure=command.on_dependency_failure,
        description=command.description,
        approval=command.approval,
        key_id=key_id,
        forked_from=command.forked_from,
    )


def _retry(kind: str, command: SubmitTask) -> Retry:
    retry = command.retry or Retry()
    return retry_of_call(retry, command.input) if kind == "tool" else retry


def check_size(field: str, value: Any) -> None:
    """For values that stay inline in events and rows.

    Raises:
        Invalid: its JSON is too large.
    """
    if (size := len(msgspec.json.encode(value))) > MAX_INLINE_BYTES:
        raise Invalid(f"{size} bytes of JSON, {MAX_INLINE_BYTES} are allowed; large values go into input", field)


def _check_workflow(command: SubmitTask) -> None:
    if command.timeouts.total_s is not None:
        raise Invalid("set timeout_seconds in the definition of the workflow", "timeouts.total_s")
    if (size := len(msgspec.json.encode(command.input))) > MAX_WORKFLOW_BYTES:
        raise Invalid(f"{size} bytes of JSON, {MAX_WORKFLOW_BYTES} are allowed for a workflow", "input")
    for fault in validate_input(command.input):
        raise Invalid(fault.message, fault.path)


def _goal(command: SubmitTask) -> dict[str, Any]:
    try:
        run_input = pinned_input(command)
    except BadGoal as bad:
        raise Invalid(bad.message, bad.field) from bad
    if (size := len(msgspec.json.encode(run_input))) > MAX_WORKFLOW_BYTES:
        raise Invalid(f"{size} bytes of JSON, {MAX_WORKFLOW_BYTES} are allowed for a goal", "input")
    return run_input


def check_from_outside(command: SubmitTask) -> None:
    """What only the platform itself may put into a submission.

    Raises:
        Invalid: it is there.
    """
    if command.fails_with is not None:
        raise Invalid("whether a task fails is not for its submission to say; leave it out", "fails_with")
    if command.kind == WEBHOOK_KIND:
        raise Invalid("deliveries are submitted by the platform alone; set a callback_url or add a webhook", "kind")
    if command.kind == "workflow" and PINNED in command.input:
        raise Invalid("what is pinned is looked up when the run is submitted; leave it out", f"input.{PINNED}")
    if command.kind == GOAL and DEFINITION in command.input:
        raise Invalid("a goal's definition is made when it is submitted; leave it out", f"input.{DEFINITION}")
    check_no_forged_fork(command)
    if command.fork is not None and command != SubmitTask(task_id=command.task_id, fork=command.fork):
        raise Invalid("what shall be different goes into fork.overrides", "fork.overrides")


def check_no_forged_fork(command: SubmitTask) -> None:
    """Only the platform says what a task was forked from: the state of a run may refer to stored values.

    Raises:
        Invalid: the submission says so itself.
    """
    if command.forked_from is not None:
        raise Invalid("it follows from the fork; leave it out", "forked_from")
    if is_run(command.kind) and FORKED in command.input:
        raise Invalid("only a fork of a run has it; leave it out", f"input.{FORKED}")


def own_session(tenant_id: str, task_id: str) -> str:
    """Session id of a task that was submitted without one, in the form of a UUID. Derived: a repeat gets the same."""
    digest = hashlib.blake2b(f"{tenant_id}/{task_id}".encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:]}"


def body_hash(spec: TaskSpec) -> str:
    """Tells the same submission sent twice from another one: SHA-256 over the specification's JSON, sorted keys. Which
    of the user's keys it came with is no part of it."""
    spec = structs.replace(spec, key_id="") if spec.key_id else spec
    if spec.kind == "workflow" and PINNED in spec.input:
        # What a stored workflow was when it was looked up is no part of what was sent.
        spec = structs.replace(spec, input={name: value for name, value in spec.input.items() if name != PINNED})
    if spec.kind == GOAL and DEFINITION in spec.input:
        # Another release may make another definition of the same goal.
        spec = structs.replace(spec, input={name: value for name, value in spec.input.items() if name != DEFINITION})
    return hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()


def _kind(command: SubmitTask, kinds: Collection[str] | None) -> str:
    kind = command.kind or QUERY
    if kinds is not None and kind not in kinds:
        raise Invalid(f"no executor runs the kind {kind!r}; known kinds: {', '.join(sorted(kinds))}", "kind")
    return kind


def _query(command: SubmitTask) -> str:
    if not command.query.strip() and command.kind in ("", QUERY) and not _has_attachments(command.context):
        raise Invalid("the query is empty; send what the task shall do, or a kind with its input", "query")
    if len(command.query) > MAX_QUERY_CHARS:
        raise Invalid(f"the query has {len(command.query)} characters, {MAX_QUERY_CHARS} are allowed", "query")
    return command.query


def _has_attachments(context: dict[str, Any]) -> bool:
    """Also true for a context that was checked in as a claim: the gateway has looked at it before."""
    if "$claim" in context:
        return True
    attachments = context.get("attachments")
    return isinstance(attachments, list) and bool(attachments)


def _context(command: SubmitTask) -> dict[str, Any]:
    """The context with the model and research choices copied in, as Shannon's gateway does; the top level wins."""
    if _choices(command) == _NO_CHOICES:
        return command.context
    if command.model_tier and command.model_tier.lower() not in MODEL_TIERS:
        raise Invalid(f"{command.model_tier!r} is not a model tier; known are {', '.join(MODEL_TIERS)}", "model_tier")
    chosen = {name: value for name in _INTO_CONTEXT if (value := getattr(command, name)) not in (None, "")}
    if "disable_ai" in command.context and any(name in chosen for name in _INTO_CONTEXT[:3]):
        raise Invalid("a model cannot be chosen together with context.disable_ai", "context.disable_ai")
    return {**command.context, **chosen}


def _mode(mode: str) -> str:
    if not mode:
        return "simple"
    if mode.lower() not in MODES:
        raise Invalid(f"{mode!r} is not a mode; known are {', '.join(MODES)}", "mode")
    return mode.lower()


def priority_of(priority: int | str) -> int:
    """1 to 5 for a number or word. Raises Invalid."""
    value = _PRIORITY_WORDS.get(priority.lower(), 0) if isinstance(priority, str) else priority
    if not Priority.LOW <= value <= Priority.CRITICAL:
        raise Invalid(f"{priority!r} is not a priority; send 1 to 5 or one of {', '.join(_PRIORITY_WORDS)}", "priority")
    return value


def utc_of(at: datetime | None, field: str) -> datetime | None:
    """The time in UTC, within what the store's tables hold: an offset can carry a time out of the calendar.

    Raises:
        Invalid: it is not.
    """
    if at is None:
        return None
    try:
        moved = at.astimezone(UTC)
    except OverflowError:
        moved = None
    if moved is None or not _FIRST_YEAR <= moved.year <= _LAST_YEAR:
        raise Invalid(f"{at.isoformat()} is not between the years {_FIRST_YEAR} and {_LAST_YEAR}", field)
    return moved


def _dependencies(command: SubmitTask, task_id: str) -> tuple[str, ...]:
    if task_id in command.depends_on:
        raise Invalid("a task cannot depend on itself", f"depends_on[{command.depends_on.index(task_id)}]")
    return tuple(dict.fromkeys(command.depends_on))


def _affinity(affinity: Affinity | None) -> Affinity | None:
    if affinity is not None and bool(affinity.key) != (affinity.to == "key"):
        raise Invalid('send a key together with "to": "key", and with nothing else', "affinity.key")
    return affinity


def _callback(url: str) -> str:
    try:
        valid = not url or is_webhook_url(url)
    except ValueError:
        valid = False
    if not valid:
        raise Invalid(f"{url!r} is not an https URL", "callback_url")
    return url


def is_webhook_url(url: str) -> bool:
    """https, or plain http to this machine, which executors refuse unless they are told otherwise.

    Raises:
        ValueError: it is no URL at all.
    """
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    plain = all(" " < letter < "\x7f" for letter in url)
    _ = parts.port
    return (
        plain
        and not parts.username
        and bool(parts.hostname)
        and (parts.scheme == "https" or (local and parts.scheme == "http"))
    )
