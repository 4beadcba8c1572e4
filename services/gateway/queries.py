"""What the query strings of the reads may hold: one struct each, parsed strictly, documented from it."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from services.gateway.problems import BadRequest
from taskloom.domain.task.submission import Invalid, priority_of
from taskloom.domain.values import Identifier
from taskloom.views.task_executions.filters import Filters
from taskloom.wire.commands import field_of

Q = TypeVar("Q", bound=Struct)

Limit100 = Annotated[int, Meta(ge=1, le=100, description="Most entries to return")]
Limit200 = Annotated[int, Meta(ge=1, le=200, description="Most entries to return")]
Limit1000 = Annotated[int, Meta(ge=1, le=1000, description="Most entries to return")]
Offset = Annotated[int, Meta(ge=0, le=1_000_000, description="Entries to leave out")]
AsOf = Annotated[str, Meta(max_length=64, description="A version (event number) or an RFC 3339 time: the state then")]
Time = Annotated[datetime, Meta(tz=True, description="RFC 3339 time")]

STATUSES: Final = {
    **{word: word for word in ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PAUSED")},
    "CANCELED": "CANCELLED",
}


class NoQuery(Struct, frozen=True):
    """No parameters."""


class AsOfQuery(Struct, frozen=True):
    as_of: AsOf = ""


class TaskFilter(Struct, frozen=True):
    """Which tasks; several values of status are separated by commas. What is left out does not narrow."""

    status: Annotated[
        str, Meta(description="QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT, PAUSED; any case")
    ] = ""
    kind: str | None = None
    queue: str | None = None
    session_id: Identifier | None = None
    workflow_id: Annotated[str, Meta(max_length=1024, description="Tasks of this workflow's own steps")] | None = None
    tag: str | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    q: Annotated[str, Meta(max_length=1000, description="Words of query or error, or beginnings of words")] | None = (
        None
    )
    priority: Annotated[str, Meta(description="1 to 5, or low, normal, high, urgent, critical")] | None = None
    assigned_to: Annotated[str, Meta(description="Executor it has to run on, runs or ran on")] | None = None
    agent_id: Annotated[str, Meta(description="The same as assigned_to")] | None = None
    error_type: Annotated[str, Meta(max_length=256, description="Type of the error of what failed")] | None = None
    overdue: Annotated[bool, Meta(description="Whether the deadline passed before the end")] | None = None
    scheduled: Annotated[bool, Meta(description="Whether it waits for its start time")] | None = None


class TaskListQuery(TaskFilter, frozen=True):
    """``metadata.KEY=VALUE`` narrows by metadata."""

    cursor: str | None = None
    limit: Limit100 = 20
    offset: Offset = 0
    as_of: AsOf = ""


class WorkflowQuery(Struct, frozen=True):
    after: Annotated[str, Meta(max_length=1024, description="Steps whose paths come after this one only")] = ""
    limit: Annotated[int, Meta(ge=1, le=10_000, description="Most steps to return")] = 10_000


class StepsQuery(Struct, frozen=True):
    after: Annotated[str, Meta(max_length=1024, description="Steps whose paths come after this one only")] = ""
    limit: Annotated[int, Meta(ge=1, le=1_000, description="Most steps to return")] = 100


class CheckpointQuery(Struct, frozen=True):
    version: Annotated[int, Meta(ge=1, description="Of the task, as in the list; none: as it is now")] | None = None


class EventsQuery(Struct, frozen=True):
    limit: Limit200 = 50
    offset: Offset = 0
    as_of: AsOf = ""


class TimelineQuery(Struct, frozen=True):
    mode: Literal["summary", "full"] = "summary"
    include_payloads: bool = False
    run_id: str = ""
    persist: bool = False
    as_of: AsOf = ""


class OutputQuery(Struct, frozen=True):
    after: Annotated[int, Meta(ge=0, description="Chunks with a higher seq only")] = 0
    stream: Annotated[str, Meta(description="stdout, stderr, message, log; separated by commas")] = ""
    limit: Limit1000 = 200
    format: Literal["json", "text"] = "json"


class PageQuery(Struct, frozen=True):
    limit: Limit100 = 20
    offset: Offset = 0


class SessionsQuery(PageQuery, frozen=True):
    """What is left out does not narrow."""

    cursor: str | None = None
    user_id: Identifier | None = None
    q: Annotated[str, Meta(max_length=1000, description="Text in title or id")] | None = None
    active: Annotated[bool, Meta(description="Something happened within 24 hours")] = False
    created_after: Time | None = None
    created_before: Time | None = None


class SessionHistoryQuery(Struct, frozen=True):
    limit: Limit1000 = 1000
    cursor: str | None = None
    as_of: AsOf = ""


class FilesQuery(Struct, frozen=True):
    path: Annotated[str, Meta(max_length=4096, description="A directory below the session's own")] = ""


class SessionEventsQuery(Struct, frozen=True):
    limit: Limit100 = 10
    offset: Offset = 0
    include_payload: bool = False


class StreamQuery(Struct, frozen=True):
    """A task's stream by ``workflow_id``, else that of all tasks that fit what else is given."""

    workflow_id: Annotated[Identifier, Meta(description="One task; its stream ends with it")] | None = None
    session_id: Annotated[Identifier, Meta(description="All tasks of the session, those to come too")] | None = None
    kind: str | None = None
    queue: str | None = None
    tag: str | None = None
    status: Annotated[
        str, Meta(description="Only the events that bring a task into one of these; comma-separated, any case")
    ] = ""
    all: Annotated[bool, Meta(description="All tasks of the tenant; needed where nothing else chooses")] = False
    since: (
        Annotated[
            datetime,
            Meta(tz=True, description="Begin with what happened then; else a session from its beginning, others now"),
        ]
        | None
    ) = None
    types: Annotated[
        str, Meta(max_length=4096, description="Event types to send, comma-separated; either spelling")
    ] = ""
    last_event_id: Annotated[
        str, Meta(max_length=4096, description="Resume after this id; the header Last-Event-ID wins")
    ] = ""


ONLY_LISTS: Final = frozenset(TaskFilter.__struct_fields__) - frozenset(StreamQuery.__struct_fields__)
"""Filters of lists that no stream has."""


class TaskStreamQuery(Struct, frozen=True):
    types: str = ""
    last_event_id: str = ""


def read_query(pairs: Iterable[tuple[str, str]], kind: type[Q]) -> Q:
    """The parameters that ``kind`` names; others are left alone. The last of several values counts.

    Raises:
        BadRequest: names the parameter.
    """
    values = {name: value for name, value in pairs if name in kind.__struct_encode_fields__}
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        field = field_of(error)
        if field == "$" and "missing required field" in str(error):
            field = str(error).rpartition("field `")[2].rstrip("`")
        raise BadRequest(f"{field}: {error}", field=field) from error


def without_wrong(
    pairs: Iterable[tuple[str, str]], kind: type[Struct], names: Collection[str]
) -> list[tuple[str, str]]:
    """The parameters without those of ``names`` that ``kind`` would refuse: the defaults stand in for them."""

    def fits(name: str, value: str) -> bool:
        try:
            msgspec.convert({name: value}, kind, strict=False)
        except msgspec.ValidationError:
            return False
        return True

    return [(name, value) for name, value in pairs if name not in names or fits(name, value)]


def metadata_filters(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The filters ``metadata.KEY=VALUE`` of a query string."""
    return {name.removeprefix("metadata."): value for name, value in pairs if name.startswith("metadata.") and name[9:]}


def filters_of(wanted: TaskFilter, metadata: dict[str, str]) -> Filters:
    """What the read side is asked for.

    Raises:
        BadRequest: names the parameter.
    """
    assigned_to = wanted.assigned_to if wanted.assigned_to is not None else wanted.agent_id
    return Filters(
        statuses=read_statuses(wanted.status),
        kind=wanted.kind,
        queue=wanted.queue,
        session_id=wanted.session_id,
        tag=wanted.tag,
        metadata=metadata if wanted.workflow_id is None else {**metadata, "workflow_id": wanted.workflow_id},
        created_after=wanted.created_after,
        created_before=wanted.created_before,
        q=wanted.q,
        priority=None if wanted.priority is None else _priority(wanted.priority),
        assigned_to=assigned_to,
        error_type=wanted.error_type,
        overdue=wanted.overdue,
        scheduled=wanted.scheduled,
    )


def _priority(text: str) -> int:
    try:
        return priority_of(int(text) if text.isascii() and text.isdigit() else text)
    except Invalid as invalid:
        raise BadRequest(invalid.message, field="priority") from invalid


def read_statuses(text: str) -> tuple[str, ...]:
    """Status words without prefix.

    Raises:
        BadRequest: one of them is no status.
    """
    words = [word.strip().upper().removeprefix("TASK_STATUS_") for word in text.split(",") if word.strip()]
    for word in words:
        if word not in STATUSES:
            raise BadRequest(f"{word!r} is not a status; known are {', '.join(STATUSES)}", field="status")
    return tuple(dict.fromkeys(STATUSES[word] for word in words))
