"""One wish for many tasks: those of a filter, or those named, each decided by its owner."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from services.gateway.control import envelope_of
from services.gateway.known import KnownThings
from services.gateway.problems import BadRequest, decoded, invalid_json
from services.gateway.queries import TaskFilter, filters_of
from services.gateway.readside import Views
from services.gateway.submission import Origin
from services.gateway.submit import BATCH_MAX
from services.gateway.updates import check_update
from services.gateway.wait import Recent, ReplySource, Sender, ask
from taskloom.domain.task.commands import (
    CancelTask,
    DeleteTask,
    GraceSeconds,
    PauseTask,
    Reason,
    ResumeTask,
    RetryTask,
    RunStart,
    UpdateTask,
)
from taskloom.domain.values import Identifier
from taskloom.domain.workflow.wanted import parent_of
from taskloom.views.task_executions.filters import Filters
from taskloom.views.task_executions.query import MAX_METADATA_FILTERS, BadCursor
from taskloom.views.task_executions.row import FAILED_STATUSES, Row

Verb = Literal["cancel", "pause", "resume", "retry", "delete", "update"]
BulkCommand = CancelTask | PauseTask | ResumeTask | RetryTask | DeleteTask | UpdateTask


class BulkFilter(TaskFilter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As the list's. ``metadata`` can also be given as ``metadata.KEY``; ``task_ids`` names the tasks themselves."""

    metadata: Annotated[dict[str, str], Meta(max_length=MAX_METADATA_FILTERS)] = field(default_factory=dict)
    task_ids: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=BATCH_MAX)] | None = None


class BulkWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``all`` has to be true when the filter names nothing. At most ``limit`` tasks are looked at, newest first;
    ``cursor`` goes on where the last answer ended. ``changes`` belong to update, ``grace_s`` to cancel and delete,
    ``from`` to retry."""

    filter: BulkFilter = BulkFilter()
    all: bool = False
    reason: Reason = ""
    changes: UpdateTask | None = None
    grace_s: GraceSeconds = 5.0
    start: RunStart = field(default="failed", name="from")
    dry_run: bool = False
    limit: Annotated[int, Meta(ge=1, le=BATCH_MAX)] = BATCH_MAX
    cursor: str | None = None


class BulkRefusal(Struct, frozen=True):
    task_id: str
    error: str


class BulkResult(Struct, frozen=True):
    """``matched`` tasks of the filter, a lower bound where not ``matched_is_exact``. Of those looked at now, ``sent``
    got the command and ``skipped`` were in no state for it; of the sent, ``refused`` were not carried out and
    ``unanswered`` may still be. A dry run sends nothing: ``sent`` is what would be."""

    matched: int
    matched_is_exact: bool
    sent: int
    skipped: int
    refused: list[BulkRefusal]
    unanswered: int
    dry_run: bool
    next_cursor: str | None


class _Chosen(Struct, frozen=True):
    task_ids: list[str]
    matched: int
    exact: bool = True
    skipped: int = 0
    next_cursor: str | None = None


class Bulk:
    """``reply_s``: how long the owners' answers are waited for, all together."""

    def __init__(
        self, sender: Sender, replies: ReplySource, recent: Recent, views: Views, known: KnownThings, *, reply_s: float
    ) -> None:
        self._sender = sender
        self._replies = replies
        self._recent = recent
        self._views = views
        self._known = known
        self._reply_s = reply_s

    async def run(self, verb: Verb, body: bytes, origin: Origin) -> BulkResult:
        """Sends the commands as one batch to Kafka.

        Raises:
            BadRequest: names the field; a filter that names nothing without ``all``.
            Unavailable: Kafka did not take the commands; sending the same again is safe.
        """
        wish = read_wish(body)
        command = _command(verb, wish)
        if isinstance(command, UpdateTask):
            await check_update(command, self._known, origin.caller.tenant_id, "changes.")
        chosen = await self._chosen(verb, wish, origin.caller.tenant_id)
        if wish.dry_run or not chosen.task_ids:
            return _result(chosen, [], 0, wish.dry_run)
        envelopes = {task_id: envelope_of(task_id, command, origin) for task_id in chosen.task_ids}
        ids = [envelope.attributes.id for envelope in envelopes.values()]
        replies = await ask(self._sender, self._replies, list(envelopes.values()), awaited=ids, within_s=self._reply_s)
        refused, unanswered = [], 0
        for task_id, envelope in envelopes.items():
            reply = replies.get(envelope.attributes.id)
            if reply is None:
                unanswered += 1
            elif reply.refusal is not None:
                refused.append(BulkRefusal(task_id, reply.refusal.message))
            else:
                self._recent.add(origin.caller.tenant_id, task_id, reply.version)
        return _result(chosen, refused, unanswered, False)

    async def _chosen(self, verb: Verb, wish: BulkWish, tenant_id: str) -> _Chosen:
        named = wish.filter.task_ids
        if named is not None and wish.filter == BulkFilter(task_ids=named):
            # Their owners know them best, also those that the read side does not show yet.
            names = list(dict.fromkeys(named))
            return _Chosen(names, len(names))
        try:
            filters = filters_of(wish.filter, wish.filter.metadata)
        except BadRequest as bad:
            raise BadRequest(str(bad), field=f"filter.{bad.field}") from bad
        if named is not None:
            filters = msgspec.structs.replace(filters, task_ids=named)
        if filters == Filters() and not wish.all:
            raise BadRequest('the filter names nothing; send "all": true to mean every task', field="filter")
        try:
            page = await self._views.tasks(tenant_id, filters, limit=wish.limit, offset=0, cursor=wish.cursor)
        except BadCursor as error:
            raise BadRequest(str(error), field="cursor") from error
        fitting = [row.task_id for row in page.rows if _FITS[verb](row)]
        skipped = len(page.rows) - len(fitting)
        return _Chosen(fitting, page.total_count, page.total_is_exact, skipped, page.next_cursor)


def read_wish(body: bytes) -> BulkWish:
    """The wish in a request's body, ``metadata.KEY`` in its filter gathered under ``metadata``.

    Raises:
        BadRequest: names the field.
    """
    plain = decoded(msgspec.json.Decoder(dict[str, Any]).decode, body or b"{}")
    if isinstance(plain.get("filter"), dict):
        plain["filter"] = _gathered(plain["filter"])
    try:
        return msgspec.convert(plain, BulkWish)
    except msgspec.ValidationError as error:
        raise invalid_json(error) from error


def _gathered(named: dict[str, Any]) -> dict[str, Any]:
    by_key = {name.removeprefix("metadata."): value for name, value in named.items() if name.startswith("metadata.")}
    rest = {name: value for name, value in named.items() if not name.startswith("metadata.")}
    if by_key and isinstance(rest.get("metadata", {}), dict):
        rest["metadata"] = {**rest.get("metadata", {}), **by_key}
    return rest


def _command(verb: Verb, wish: BulkWish) -> BulkCommand:
    if (wish.changes is not None) is not (verb == "update"):
        need = "send what shall change" if verb == "update" else f"{verb} takes none"
        raise BadRequest(f"changes: {need}", field="changes")
    if wish.changes is not None:
        return wish.changes
    simple: dict[str, Callable[[], BulkCommand]] = {
        "cancel": lambda: CancelTask(wish.reason, wish.grace_s),
        "pause": lambda: PauseTask(wish.reason),
        "resume": lambda: ResumeTask(wish.reason),
        "retry": lambda: RetryTask(wish.reason, wish.start),
        "delete": lambda: DeleteTask(wish.reason, wish.grace_s),
    }
    return simple[verb]()


def _result(chosen: _Chosen, refused: list[BulkRefusal], unanswered: int, dry_run: bool) -> BulkResult:
    return BulkResult(
        chosen.matched,
        chosen.exact,
        len(chosen.task_ids),
        chosen.skipped,
        refused,
        unanswered,
        dry_run,
        chosen.next_cursor,
    )


_FITS: Final[dict[str, Callable[[Row], bool]]] = {
    "cancel": lambda row: not row.ended and not row.is_cancelled,
    "pause": lambda row: not (row.ended or row.is_paused or row.is_cancelled),
    "resume": lambda row: row.is_paused and not row.ended,
    "retry": lambda row: row.status in FAILED_STATUSES and parent_of(row.task_id) is None,
    "delete": lambda _row: True,
    "update": lambda _row: True,
}
