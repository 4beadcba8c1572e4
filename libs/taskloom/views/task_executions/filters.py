"""What a list of tasks is narrowed to, and the SQL condition for it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from taskloom.views.task_executions.row import FAILED_STATUSES, OPEN_STATUSES
from taskloom.views.task_executions.words import like, tsquery_of, words_of

MATCHES: Final = """
    tenant_id = %(tenant)s
    AND (deleted_at IS NULL OR %(deleted_too)s)
    AND (NOT %(only_open)s OR completed_at IS NULL)
    AND (NOT %(only_failed)s OR failed_at IS NOT NULL)
    AND (%(statuses)s::text[] IS NULL OR status = ANY(%(statuses)s::text[]))
    AND (%(user)s::text IS NULL OR user_id = %(user)s::text)
    AND (%(session)s::text IS NULL OR session_id = %(session)s::text)
    -- Deliveries of webhooks are shown to who asks for that kind, or for one of them.
    AND (kind <> 'webhook' OR %(kind)s::text IS NOT NULL OR %(tasks)s::text[] IS NOT NULL)
    AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
    AND (%(priority)s::integer IS NULL OR priority = %(priority)s::integer)
    AND (%(assigned_to)s::text IS NULL
        OR assigned_to = %(assigned_to)s::text OR executor_id = %(assigned_to)s::text)
    AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s::text)
    AND (%(overdue)s::boolean IS NULL OR coalesce(overdue, false) = %(overdue)s::boolean)
    AND (%(scheduled)s::boolean IS NULL OR (state = 'scheduled') = %(scheduled)s::boolean)
    AND (%(tasks)s::text[] IS NULL OR task_id = ANY(%(tasks)s::text[]))
    AND (%(tag)s::jsonb IS NULL OR tags @> %(tag)s::jsonb)
    AND (%(metadata)s::jsonb IS NULL OR (
        -- The index finds the first key's value as text or as JSON; all keys are then compared as text.
        (metadata @> %(first_text)s::jsonb OR metadata @> %(first_json)s::jsonb)
        AND NOT EXISTS (
            SELECT FROM jsonb_each_text(%(metadata)s::jsonb) AS wanted
            WHERE metadata ->> wanted.key IS DISTINCT FROM wanted.value)))
    AND (%(after)s::timestamptz IS NULL OR created_at >= %(after)s::timestamptz)
    AND (%(before)s::timestamptz IS NULL OR created_at < %(before)s::timestamptz)
    AND (%(words)s::text IS NULL
        OR (query IS NOT NULL AND task_words(query) @@ to_tsquery('simple', %(words)s::text))
        OR (error IS NOT NULL AND task_words(error) @@ to_tsquery('simple', %(words)s::text)))
"""

LOOKS_LIKE: Final = (
    "(%(likes)s::text[] IS NULL OR query ILIKE ALL (%(likes)s::text[]) OR error ILIKE ALL (%(likes)s::text[]))"
)
"""What holds for all that has the words, and costs less to find out where rows are read one after the other."""


class Filters(Struct, frozen=True, kw_only=True):
    """What a list is narrowed to; None and empty mean: not at all.

    ``statuses`` are REST words without prefix (QUEUED, RUNNING, …); ``metadata`` compares values as text; each word of
    ``q`` has to begin a word of the query, or each one of the error, upper and lower case alike. ``assigned_to`` is the
    executor it has to run on, or runs or ran on; ``scheduled``: it waits for its start time. ``deleted_too`` is for
    looks at the past.
    """

    statuses: Collection[str] = ()
    kind: str | None = None
    queue: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tag: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    q: str | None = None
    priority: int | None = None
    assigned_to: str | None = None
    error_type: str | None = None
    overdue: bool | None = None
    scheduled: bool | None = None
    task_ids: Collection[str] | None = None
    deleted_too: bool = False

    @property
    def by_content(self) -> bool:
        """Whether an index finds the tasks by what they contain, in no order."""
        return bool(self.tag is not None or self.metadata or (self.q and words_of(self.q)))

    @property
    def by_status_alone(self) -> bool:
        return self == Filters(statuses=self.statuses)


def values_of(tenant_id: str, filters: Filters) -> dict[str, Any]:
    """What ``MATCHES`` is filled in with, and ``LOOKS_LIKE``."""
    words = words_of(filters.q or "")
    statuses = set(filters.statuses)
    first = next(iter(filters.metadata.items()), None)
    return {
        "tenant": tenant_id,
        "statuses": sorted(statuses) or None,
        "only_open": bool(statuses) and statuses <= OPEN_STATUSES,
        "only_failed": filters.error_type is not None or (bool(statuses) and statuses <= FAILED_STATUSES),
        "error_type": filters.error_type,
        "user": filters.user_id,
        "session": filters.session_id,
        "kind": filters.kind,
        "queue": filters.queue,
        "tag": _json([filters.tag]) if filters.tag is not None else None,
        "metadata": _json(filters.metadata) if filters.metadata else None,
        "first_text": _json(dict([first])) if first else None,
        "first_json": _json({first[0]: _as_json(first[1])}) if first else None,
        "after": filters.created_after,
        "before": filters.created_before,
        "priority": filters.priority,
        "assigned_to": filters.assigned_to,
        "overdue": filters.overdue,
        "scheduled": filters.scheduled,
        "tasks": None if filters.task_ids is None else sorted(filters.task_ids),
        "deleted_too": filters.deleted_too,
        "words": tsquery_of(words) if words else None,
        "likes": [f"%{like(word)}%" for word in words or [filters.q]] if filters.q else None,
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _as_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return text
