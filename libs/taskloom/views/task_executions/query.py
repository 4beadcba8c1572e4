"""Reads of task rows. An unknown id and another tenant's look the same: None, or left out."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from taskloom.errors import TaskloomError
from taskloom.views.reading import Pool, TooSlow, row, rows
from taskloom.views.task_executions.filters import LOOKS_LIKE, MATCHES, Filters, values_of
from taskloom.views.task_executions.row import FIELDS, Row

COUNT_UP_TO: Final = 2_000
"""A filtered list counts its tasks up to here; ``Page.total_is_exact`` is False beyond."""

WINDOW: Final = 1_000
COMMON_AMONG: Final = 50
"""So many of the newest ``WINDOW``: then tasks are looked through from the newest on, else an index of contents is."""

COUNT_COMMON_UP_TO: Final = 500
"""The same of what an index would find, since each row then costs more to look into."""

MAX_METADATA_FILTERS: Final = 8

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HEAVY: Final = frozenset({"context", "input", "response"})

_ALL: Final = ", ".join(FIELDS)
LIGHT: Final = ", ".join(f"NULL AS {name}" if name in _HEAVY else name for name in FIELDS)

GET: Final = f"SELECT {_ALL} FROM task_executions WHERE task_id = %(task)s AND tenant_id = %(tenant)s"

LIST: Final = f"""
SELECT {LIGHT} FROM task_executions
WHERE {MATCHES} AND {LOOKS_LIKE}
    AND (%(cursor_at)s::timestamptz IS NULL
        OR (created_at, task_id) < (%(cursor_at)s::timestamptz, %(cursor_id)s::text))
ORDER BY created_at DESC, task_id DESC
LIMIT %(limit)s OFFSET %(offset)s
"""

COUNT_SOME: Final = f"""
SELECT count(*) FROM (
    SELECT FROM task_executions WHERE {MATCHES} AND {LOOKS_LIKE} LIMIT %(count_up_to)s
) AS matching
"""

COMMON: Final = f"""
SELECT count(*), count(*) FILTER (WHERE {MATCHES} AND {LOOKS_LIKE}) FROM (
    SELECT * FROM task_executions WHERE tenant_id = %(tenant)s ORDER BY created_at DESC, task_id DESC LIMIT %(window)s
) AS newest
"""

PLACES: Final = f"SELECT created_at, task_id FROM task_executions WHERE {MATCHES} LIMIT %(limit)s"

SOME: Final = f"""
SELECT {LIGHT} FROM task_executions WHERE task_id = ANY(%(tasks)s) AND tenant_id = %(tenant)s
ORDER BY created_at DESC, task_id DESC
"""

COUNT_BY_STATUS: Final = """
SELECT status, sum(tasks)::bigint FROM task_counts WHERE tenant_id = %(tenant)s GROUP BY status
"""

KNOWN: Final = """
SELECT task_id FROM task_executions
WHERE task_id = ANY(%(tasks)s) AND tenant_id = %(tenant)s AND deleted_at IS NULL
"""

WHOSE: Final = "SELECT task_id, tenant_id, attempt, phase FROM task_executions WHERE task_id = ANY(%(tasks)s)"

ASSIGNED: Final = """
SELECT task_id FROM task_executions
WHERE tenant_id = %(tenant)s AND completed_at IS NULL AND state = 'assigned'
ORDER BY priority, created_at DESC
LIMIT %(limit)s
"""

OF_SESSION: Final = f"""
SELECT {LIGHT} FROM task_executions
WHERE tenant_id = %(tenant)s AND session_id = %(session)s
    AND (deleted_at IS NULL OR %(deleted_too)s)
    AND (%(since)s::timestamptz IS NULL OR created_at > %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR created_at <= %(until)s::timestamptz)
    AND (%(cursor_at)s::timestamptz IS NULL
        OR (created_at, task_id) > (%(cursor_at)s::timestamptz, %(cursor_id)s::text))
ORDER BY created_at, task_id
LIMIT %(limit)s OFFSET %(offset)s
"""


class BadCursor(TaskloomError):
    """The cursor is not one that this API gave out."""


class Page(Struct, frozen=True):
    """Newest first. ``rows`` come without context, input and response. ``next_cursor`` is None on the last page."""

    rows: list[Row]
    total_count: int
    total_is_exact: bool
    next_cursor: str | None


async def get(pool: Pool, tenant_id: str, task_id: str) -> Row | None:
    """The task's row, a deleted one's too; None when it is unknown, or another tenant's."""
    found = await row(pool, GET, {"tenant": tenant_id, "task": task_id})
    return None if found is None else row_of(found)


async def assigned(pool: Pool, tenant_id: str, limit: int) -> list[str]:
    """Tasks that an executor has and has not started: low priorities first, then the youngest."""
    return [task_id for (task_id,) in await rows(pool, ASSIGNED, {"tenant": tenant_id, "limit": limit})]


async def known(pool: Pool, tenant_id: str, task_ids: Sequence[str]) -> set[str]:
    """Those of the ids that are this tenant's tasks."""
    found = await rows(pool, KNOWN, {"tenant": tenant_id, "tasks": list(task_ids)})
    return {task_id for (task_id,) in found}


class Place(Struct, frozen=True):
    """Whose a task is, and how far: ``attempt`` is the number of the last one."""

    tenant_id: str
    attempt: int
    phase: str

    def is_over(self, attempt: int) -> bool:
        """Whether that attempt has ended, however. False for one that the row does not show yet."""
        return self.attempt > attempt or (self.attempt == attempt and self.phase not in ("assigned", "running"))


async def places(pool: Pool, task_ids: Sequence[str]) -> dict[str, Place]:
    """By task id, of all tenants: for who has to find out whose a task is."""
    found = await rows(pool, WHOSE, {"tasks": list(task_ids)})
    return {task_id: Place(*rest) for task_id, *rest in found}


async def list_tasks(
    pool: Pool,
    tenant_id: str,
    filters: Filters | None = None,
    *,
    limit: int = 20,
    offset: int = 0,
    cursor: str | None = None,
) -> Page:
    """One page of tasks, newest first. With a ``cursor`` the pages neither skip nor repeat a task, whatever arrives.

    Raises:
        BadCursor: ``cursor`` is none of ours.
        TooSlow: the filters match so few of so many tasks that the time limit was reached.
    """
    filters = filters or Filters()
    at, task_id = read_cursor(cursor) if cursor else (None, None)
    matching = values_of(tenant_id, filters)
    counted: tuple[int, bool] | None = None
    count_up_to = COUNT_UP_TO
    if filters.by_content:
        if await _is_common(pool, matching):
            count_up_to = COUNT_COMMON_UP_TO
        else:
            places = await rows(pool, PLACES, {**matching, "limit": COUNT_UP_TO + 1})
            if len(places) <= COUNT_UP_TO:
                return await _page_of(pool, tenant_id, places, limit, offset, (at, task_id) if cursor else None)
            counted = COUNT_UP_TO, False
    values = {
        **matching,
        "cursor_at": at,
        "cursor_id": task_id,
        "limit": limit + 1,
        "offset": offset,
    }
    found = [row_of(columns) for columns in await rows(pool, LIST, values)]
    page = found[:limit]
    more = len(found) > limit
    if cursor is None and not more and (found or not offset):
        return Page(page, offset + len(found), True, None)  # All of it was seen: counting would look for them again.
    at_least = offset + len(found) if found else 0
    total, exact = counted or await _total(pool, tenant_id, filters, at_least=at_least, up_to=count_up_to)
    return Page(page, max(total, at_least), exact, make_cursor(page[-1]) if more and page else None)


async def _is_common(pool: Pool, matching: dict[str, Any]) -> bool:
    """Whether so many of the newest look alike that a page is full soon, and all that match are too many to collect."""
    found = await row(pool, COMMON, {**matching, "words": None, "window": WINDOW})
    assert found is not None
    seen, fitting = found
    return bool(seen == WINDOW and fitting >= COMMON_AMONG)


async def _page_of(
    pool: Pool,
    tenant_id: str,
    places: list[tuple[Any, ...]],
    limit: int,
    offset: int,
    after: tuple[Any, ...] | None,
) -> Page:
    """The page out of all that match, of which time and id are known."""
    places.sort(reverse=True)
    rest = [place for place in places if after is None or place < after]
    wanted = [task_id for _, task_id in rest[offset : offset + limit]]
    found = (
        [row_of(columns) for columns in await rows(pool, SOME, {"tenant": tenant_id, "tasks": wanted})]
        if wanted
        else []
    )
    more = len(rest) > offset + limit
    return Page(found, len(places), True, make_cursor(found[-1]) if more and found else None)


async def count_by_status(pool: Pool, tenant_id: str) -> dict[str, int]:
    """How many tasks the tenant has, by REST word without prefix; words without tasks are absent."""
    return {status: tasks for status, tasks in await rows(pool, COUNT_BY_STATUS, {"tenant": tenant_id}) if tasks}


async def of_session(
    pool: Pool,
    tenant_id: str,
    session_id: str,
    *,
    limit: int = 1_000,
    offset: int = 0,
    cursor: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[Row], str | None]:
    """The session's tasks, oldest first, without context, input and response, and where the next page begins.

    ``since``, not included, and ``until`` are when they were submitted; with ``until`` those deleted later too.

    Raises:
        BadCursor: ``cursor`` is none of ours.
    """
    at, task_id = read_cursor(cursor) if cursor else (None, None)
    values = {
        "tenant": tenant_id,
        "session": session_id,
        "limit": limit + 1,
        "offset": offset,
        "cursor_at": at,
        "cursor_id": task_id,
        "since": since,
        "until": until,
        "deleted_too": until is not None,
    }
    found = [row_of(columns) for columns in await rows(pool, OF_SESSION, values)]
    page = found[:limit]
    return page, make_cursor(page[-1]) if len(found) > limit else None


async def _total(pool: Pool, tenant_id: str, filters: Filters, *, at_least: int, up_to: int) -> tuple[int, bool]:
    if filters.by_status_alone:
        counts = await count_by_status(pool, tenant_id)
        return sum(n for status, n in counts.items() if not filters.statuses or status in filters.statuses), True
    try:
        found = await row(pool, COUNT_SOME, {**values_of(tenant_id, filters), "count_up_to": up_to + 1})
    except TooSlow:
        return at_least, False
    assert found is not None
    return max(min(found[0], up_to), at_least), found[0] <= up_to


def row_of(columns: Sequence[Any]) -> Row:
    """A row from the table's columns, in the order of ``FIELDS``; NULL becomes the field's empty value."""
    row = Row(*(empty if value is None else value for value, empty in zip(columns, _EMPTY, strict=True)))
    row.tags = tuple(row.tags)
    row.output_ends = tuple(row.output_ends)
    return row


def _empty(name: str) -> Any:
    kind = Row.__annotations__[name]
    empties = {str: "", bool: False, int: 0, float: 0.0, dict[str, Any]: {}, tuple[str, ...]: (), tuple[int, ...]: ()}
    return empties.get(kind)


_EMPTY: Final = tuple(_empty(name) for name in FIELDS)


def make_cursor(last: Row) -> str:
    """Where the next page begins: after this row."""
    return cursor_at(last.created_at, last.task_id)


def cursor_at(at: datetime, name: str) -> str:
    """A cursor as ``read_cursor`` reads it, of a list by time and name."""
    micros = (at - _EPOCH) // timedelta(microseconds=1)
    return urlsafe_b64encode(f"{micros}:{name}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises BadCursor: the text is none of ours."""
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        micros, _, task_id = text.partition(":")
        return _EPOCH + timedelta(microseconds=int(micros)), task_id
    except (ValueError, OverflowError) as error:
        raise BadCursor(f"{cursor!r} is no cursor of this list; leave it out to begin anew") from error
