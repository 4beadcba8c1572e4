"""Submitting: one task, or a batch whose bad entries refuse only themselves."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from services.gateway.dependencies import DependencyReader
from services.gateway.ids import KEY_MAX_CHARS
from services.gateway.known import KnownThings, recordable
from services.gateway.problems import BadRequest, Conflict, Forbidden, Problem, Unknown, decoded, refused
from services.gateway.quotas import Quotas
from services.gateway.submission import ClaimSink, Origin, Submission, failed_with, is_large, put_away, read_submission
from services.gateway.wait import Recent, ReplySource, Sender, ask, no_answer, session_key
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import ErrorInfo
from taskloom.rules import RuleBroken, TenantRules
from taskloom.wire.messages import Reply

BATCH_MAX: Final = 1000
ACCEPTED: Final = "STATUS_CODE_OK"
_SAFE_TO_REPEAT: Final = "whether the task was taken is not known yet; sending the same again is safe"


class Submitted(Struct, frozen=True, omit_defaults=True):
    """Answer of POST /tasks; ``session_id`` goes into a header."""

    task_id: str
    workflow_id: str
    status: str
    created_at: datetime
    message: str = ""


class Accepted(Struct, frozen=True):
    """``repeated``: the task was there before, from the same submission. ``confirmed``: the orchestrator said so."""

    task_id: str
    session_id: str
    created_at: datetime
    repeated: bool = False
    confirmed: bool = False


class StreamSubmitted(Struct, frozen=True):
    """Answer of POST /tasks/stream; ``stream_url`` is relative."""

    workflow_id: str
    task_id: str
    stream_url: str


class SubmitBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /tasks/batch, as documented; entries are decoded one by one, so that each can be refused alone."""

    tasks: Annotated[list[SubmitTask], Meta(min_length=1, max_length=BATCH_MAX)]


class _RawBatch(Struct, frozen=True, forbid_unknown_fields=True):
    tasks: list[msgspec.Raw]


class BatchEntry(Struct, frozen=True, omit_defaults=True):
    """``status`` of an accepted entry, or ``error`` and the ``field`` at fault of a refused one."""

    index: int
    task_id: str = ""
    status: str = ""
    error: str = ""
    field: str = ""


class BatchResult(Struct, frozen=True):
    tasks: list[BatchEntry]
    accepted: int
    rejected: int


_batch_decoder = msgspec.json.Decoder(_RawBatch)


class Submitter:
    """Sends submissions to the orchestrator. ``reply_s``: how long an id from outside waits for its confirmation."""

    def __init__(
        self,
        sender: Sender,
        replies: ReplySource,
        claims: ClaimSink,
        known: KnownThings,
        recent: Recent,
        dependencies: DependencyReader,
        quotas: Quotas,
        *,
        reply_s: float,
        rules: TenantRules | None = None,
    ) -> None:
        self._rules = rules or TenantRules()
        self._dependencies = dependencies
        self._quotas = quotas
        self._sender = sender
        self._replies = replies
        self._claims = claims
        self._known = known
        self._recent = recent
        self._reply_s = reply_s

    @property
    def reply_to(self) -> str:
        return self._replies.reply_to

    async def submit(self, body: bytes, origin: Origin, *, failing: ErrorInfo | None = None) -> Accepted:
        """The task's id once Kafka has the command; once the orchestrator applied it, when the id came from outside.

        ``failing``: what is valid cannot be run; it is recorded as a task that has failed with this.

        Raises:
            BadRequest: a field is wrong.
            Forbidden: a rule of the tenant's refuses the command or image.
            Conflict: the id or the idempotency key belongs to another submission.
            TooMany: a quota of the tenant or the session is used up.
            Unavailable: no confirmation in time; repeating is safe.
            BusUnavailable: Kafka did not take it.
        """
        _check_key(origin.key)
        submission = await self._prepared(body, origin, to_fail=failing is not None)
        if failing is not None:
            submission = failed_with(submission, failing)
        await self._dependencies.check(submission.spec.tenant_id, submission.spec.depends_on)
        awaited = [submission.command_id] if submission.awaited else []
        within_s = max(origin.wait_s, self._reply_s if submission.confirm else 0.0)
        replies = await ask(self._sender, self._replies, [submission.envelope], awaited=awaited, within_s=within_s)
        return self._accepted(submission, replies.get(submission.command_id), datetime.now(UTC), origin.key)

    def _accepted(self, submission: Submission, reply: Reply | None, now: datetime, key: str) -> Accepted:
        if reply is not None and reply.refusal is not None:
            raise _named(refused(reply.refusal, submission.task_id), submission, key)
        if reply is None and submission.confirm:
            raise no_answer(_SAFE_TO_REPEAT)
        self._recent.add(submission.spec.tenant_id, session_key(submission.spec.session_id))
        self._recent.add(submission.spec.tenant_id, submission.task_id, 1 if reply is None else max(1, reply.version))
        return Accepted(
            task_id=submission.task_id,
            session_id=submission.spec.session_id,
            created_at=now if reply is None or reply.created_at is None else reply.created_at,
            repeated=reply is not None and bool(reply.data.get("repeated")),
            confirmed=reply is not None,
        )

    async def _prepared(
        self, body: bytes | msgspec.Raw, origin: Origin, index: int | None = None, *, to_fail: bool = False
    ) -> Submission:
        tenant_id = origin.caller.tenant_id
        try:
            known = self._known.now(tenant_id)
            submission = read_submission(body, recordable(known) if to_fail else known, origin, index)
        except Unknown:
            known = await self._known.renewed(tenant_id)
            submission = read_submission(body, recordable(known) if to_fail else known, origin, index)
        spec = submission.spec
        try:
            self._rules.check(spec.tenant_id, spec.kind, spec.input)
        except RuleBroken as broken:
            raise Forbidden(broken.message, field=broken.field, rule=broken.rule) from broken
        await self._quotas.check(spec.tenant_id, spec.session_id)
        return await put_away(submission, self._claims) if is_large(body) else submission

    async def submit_batch(self, body: bytes, origin: Origin) -> BatchResult:
        """What became of each entry, in order. All good ones go to Kafka together.

        Raises:
            BadRequest: the body is no batch of 1 to 1,000 entries.
            BusUnavailable: Kafka did not take them; none or some are taken, repeating with a key is safe.
        """
        _check_key(origin.key)
        entries = _read_batch(body)
        good: list[tuple[int, Submission]] = []
        answers: dict[int, BatchEntry] = {}
        earlier: set[str] = set()
        for index, entry in enumerate(entries):
            try:
                submission = await self._prepared(entry, origin, index)
                await self._dependencies.check(submission.spec.tenant_id, submission.spec.depends_on, earlier)
                good.append((index, submission))
                earlier.add(submission.task_id)
            except Problem as problem:
                answers[index] = _rejected(index, problem)
            if index % 100 == 99:
                await asyncio.sleep(0)  # a full batch takes tens of milliseconds; streams and others go on in between
        for wave in _waves(good):
            await self._send_batch(wave, answers, origin)
        tasks = [answers[index] for index in range(len(entries))]
        rejected = sum(1 for entry in tasks if entry.error)
        return BatchResult(tasks, len(tasks) - rejected, rejected)

    async def _send_batch(
        self, good: Sequence[tuple[int, Submission]], answers: dict[int, BatchEntry], origin: Origin
    ) -> None:
        submissions = [submission for _, submission in good]
        awaited = [each.command_id for each in submissions if each.awaited]
        within_s = max(origin.wait_s, self._reply_s)
        envelopes = [each.envelope for each in submissions]
        replies = await ask(self._sender, self._replies, envelopes, awaited=awaited, within_s=within_s)
        now = datetime.now(UTC)
        for index, submission in good:
            try:
                accepted = self._accepted(submission, replies.get(submission.command_id), now, origin.key)
                answers[index] = BatchEntry(index, accepted.task_id, ACCEPTED)
            except Problem as problem:
                answers[index] = _rejected(index, problem)


def _named(problem: Problem, submission: Submission, key: str) -> Problem:
    """A conflict over an id that was made of the caller's key names the key."""
    command = submission.envelope.command
    if key and isinstance(problem, Conflict) and isinstance(command, SubmitTask) and command.task_id is None:
        text = f"the Idempotency-Key {key!r} belongs to task {submission.task_id}, which has another body"
        return Conflict(text, **{**problem.more, "field": "Idempotency-Key", "message": text, "idempotency_key": key})
    return problem


def _waves(good: Sequence[tuple[int, Submission]]) -> list[list[tuple[int, Submission]]]:
    """The entries in groups: one that waits for another of the batch is sent when Kafka has that one, so that its
    question after it cannot come first."""
    waves: list[list[tuple[int, Submission]]] = [[]]
    in_wave: set[str] = set()
    for index, submission in good:
        if not in_wave.isdisjoint(submission.spec.depends_on):
            waves.append([])
            in_wave.clear()
        waves[-1].append((index, submission))
        in_wave.add(submission.task_id)
    return waves


def _check_key(key: str) -> None:
    if len(key) > KEY_MAX_CHARS:
        raise BadRequest(f"{len(key)} characters, {KEY_MAX_CHARS} are allowed", field="Idempotency-Key")


def _read_batch(body: bytes) -> list[msgspec.Raw]:
    entries = decoded(_batch_decoder.decode, body).tasks
    if not 1 <= len(entries) <= BATCH_MAX:
        raise BadRequest(f"a batch has 1 to {BATCH_MAX} tasks, not {len(entries)}", field="tasks")
    return entries


def _rejected(index: int, problem: Problem) -> BatchEntry:
    return BatchEntry(index, error=str(problem), field=problem.field)
