"""A task as it was: the same fold as the live view, over the events up to a version or a time."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from taskloom.domain.envelope import Recorded
from taskloom.errors import TaskloomError
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.row import Row

Moment = int | datetime


class BadMoment(TaskloomError):
    """as_of is neither a version from 1 nor an RFC 3339 time with an offset."""


class History(Protocol):
    """Where events are read: ``taskloom.store.history.HistoryReader``."""

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]: ...


def read_moment(text: str) -> Moment:
    """A version (``12``) or a time (``2026-11-21T10:00:00Z``), as they stand in ``?as_of=``.

    Raises:
        BadMoment: it is neither.
    """
    if text.isascii() and text.isdigit():
        if not 0 < int(text[:19]) < 2**31:
            raise BadMoment(f"as_of={text} is no version; they count from 1")
        return int(text)
    try:
        # A plus sign in a query string arrives as a blank.
        at = datetime.fromisoformat(text.strip().replace(" ", "+"))
    except ValueError as error:
        raise BadMoment(f"as_of={text!r} is neither a version from 1 nor an RFC 3339 time") from error
    if at.tzinfo is None:
        raise BadMoment(f"as_of={text!r} has no offset; add Z or +hh:mm")
    return at.astimezone(UTC)


def up_to(history: Iterable[Recorded], moment: Moment) -> list[Recorded]:
    """The events that had happened at that moment: the version itself and those before, or all up to that time."""
    if isinstance(moment, int):
        return [recorded for recorded in history if recorded.meta.version <= moment]
    kept: list[Recorded] = []
    for recorded in history:
        if recorded.meta.at > moment:
            break  # a later event may carry an earlier time when a clock was set back: order is by version
        kept.append(recorded)
    return kept


async def history_as_of(history: History, tenant_id: str, task_id: str, moment: Moment | None) -> list[Recorded]:
    """The task's events up to the moment, all when None; empty for an unknown task, another tenant's, or too early."""
    version = moment if isinstance(moment, int) else None
    found = await history.events(task_id, up_to=version)
    if not found or found[0].meta.tenant_id != tenant_id:
        return []
    return found if moment is None else up_to(found, moment)


async def task_as_of(history: History, tenant_id: str, task_id: str, moment: Moment) -> Row | None:
    """The task's row at that moment; None before its first event, for an unknown task, or another tenant's."""
    return fold_all(await history_as_of(history, tenant_id, task_id, moment))


async def tasks_as_of(history: History, tenant_id: str, task_ids: Sequence[str], moment: datetime) -> list[Row]:
    """The rows of several tasks at that time, in the order asked; those that were not there yet are left out."""
    rows = [await task_as_of(history, tenant_id, task_id, moment) for task_id in task_ids]
    return [row for row in rows if row is not None]
