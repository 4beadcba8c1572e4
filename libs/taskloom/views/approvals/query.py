"""Reads of approvals. An unknown id and another tenant's look the same: None, or left out; so do a deleted task's."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

import msgspec
from msgspec import Struct

from taskloom.errors import TaskloomError
from taskloom.views.approvals.fold import Approval
from taskloom.views.reading import Pool, row, rows

GET: Final[LiteralString] = """
SELECT approval.approval, task.session_id, task.name, task.query
FROM approvals AS approval JOIN task_executions AS task USING (task_id)
WHERE approval.approval_id = %(id)s AND approval.tenant_id = %(tenant)s AND task.deleted_at IS NULL
"""

# Statements are planned with their values, so the list of the pending ones walks its own small index.
LIST: Final[LiteralString] = """
SELECT approval.approval, task.session_id, task.name, task.query
FROM approvals AS approval JOIN task_executions AS task USING (task_id)
WHERE approval.tenant_id = %(tenant)s AND task.deleted_at IS NULL
    AND (%(status)s::text IS NULL OR approval.status = %(status)s::text)
    AND (%(task)s::text IS NULL OR approval.task_id = %(task)s::text)
    AND (%(session)s::text IS NULL OR task.session_id = %(session)s::text)
    AND (%(approver)s::text IS NULL
        OR approval.approvers = ARRAY[]::text[] OR %(approver)s::text = ANY(approval.approvers))
    AND (%(at)s::timestamptz IS NULL
        OR (approval.requested_at, approval.approval_id) < (%(at)s::timestamptz, %(after)s::text))
ORDER BY approval.requested_at DESC, approval.approval_id DESC
LIMIT %(limit)s
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_decode = msgspec.json.Decoder(Approval).decode


class BadCursor(TaskloomError):
    """The cursor is not one that this API gave out."""


class Filters(Struct, frozen=True, kw_only=True):
    """None does not narrow. ``approver``: who may decide, which where nobody is named is everybody."""

    status: str | None = None
    task_id: str | None = None
    session_id: str | None = None
    approver: str | None = None


class Asked(Struct, frozen=True):
    """An approval with what its task is about."""

    approval: Approval
    session_id: str = ""
    name: str = ""
    query: str = ""


class Page(Struct, frozen=True):
    """Newest first; ``next_cursor`` is None on the last page."""

    approvals: list[Asked]
    next_cursor: str | None = None


async def get(pool: Pool, tenant_id: str, approval_id: str) -> Asked | None:
    found = await row(pool, GET, {"tenant": tenant_id, "id": approval_id})
    return None if found is None else _asked(found)


async def list_approvals(pool: Pool, tenant_id: str, filters: Filters, *, limit: int, cursor: str | None) -> Page:
    """One page, newest first; pages by cursor neither skip nor repeat.

    Raises:
        BadCursor: ``cursor`` is none of ours.
    """
    at, after = read_cursor(cursor) if cursor else (None, None)
    wanted = {
        "tenant": tenant_id,
        "status": filters.status,
        "task": filters.task_id,
        "session": filters.session_id,
        "approver": filters.approver,
        "at": at,
        "after": after,
        "limit": limit + 1,
    }
    found = [_asked(columns) for columns in await rows(pool, LIST, wanted)]
    page = found[:limit]
    return Page(page, cursor_after(page[-1].approval) if len(found) > limit else None)


def cursor_after(last: Approval) -> str:
    """Where the next page begins: after this one."""
    micros = (last.requested_at - _EPOCH) // timedelta(microseconds=1)
    return urlsafe_b64encode(f"{micros}!{last.approval_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises BadCursor: the text is none of ours."""
    try:
        micros, _, name = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("!")
        return _EPOCH + timedelta(microseconds=int(micros)), name
    except (ValueError, OverflowError) as error:
        raise BadCursor(f"{cursor!r} is no cursor of this list; leave it out to begin anew") from error


def _asked(columns: tuple[Any, ...]) -> Asked:
    stored, *about = columns
    return Asked(_decode(stored), *(text or "" for text in about))
