from datetime import UTC, datetime, timedelta

import pytest

from taskloom.domain.envelope import Recorded
from taskloom.replay.as_of import BadMoment, history_as_of, read_moment, task_as_of, tasks_as_of
from taskloom.testing.histories import START, TaskLife


class Histories:
    """Histories in memory, with ``HistoryReader``'s call."""

    def __init__(self, *lives: TaskLife) -> None:
        self._lives = {life.task_id: life.recorded for life in lives}

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]:
        found = [r for r in self._lives.get(task_id, []) if after < r.version <= (up_to or 2**31)]
        return found if limit is None else found[:limit]


LIFE = TaskLife().start().complete()
HISTORIES = Histories(LIFE)


async def test_version_and_time_give_the_state_then() -> None:
    by_version = await task_as_of(HISTORIES, "default", "task-1", 4)
    by_time = await task_as_of(HISTORIES, "default", "task-1", LIFE.recorded[3].meta.at)
    assert by_version is not None
    assert by_version == by_time
    assert (by_version.version, by_version.state) == (4, "running")


async def test_before_the_first_event_there_is_no_task() -> None:
    assert await task_as_of(HISTORIES, "default", "task-1", START - timedelta(days=1)) is None


async def test_unknown_and_foreign_tasks_look_the_same() -> None:
    assert await task_as_of(HISTORIES, "default", "nothing", 1) is None
    assert await task_as_of(HISTORIES, "other", "task-1", 1) is None
    assert await history_as_of(HISTORIES, "other", "task-1", None) == []


async def test_version_beyond_the_last_gives_the_last_state() -> None:
    row = await task_as_of(HISTORIES, "default", "task-1", 999)
    assert row is not None
    assert row.state == "completed"


async def test_list_leaves_out_what_was_not_there_yet() -> None:
    later = TaskLife("task-2", at=START + timedelta(hours=1))
    rows = await tasks_as_of(Histories(LIFE, later), "default", ["task-2", "task-1"], START + timedelta(minutes=1))
    assert [row.task_id for row in rows] == ["task-1"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("12", 12),
        ("2026-11-21T10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21T12:00:00 02:00", datetime(2026, 11, 21, 10, tzinfo=UTC)),
    ],
)
def test_moment_is_a_version_or_a_time(text: str, moment: int | datetime) -> None:
    assert read_moment(text) == moment


@pytest.mark.parametrize("text", ["0", "-1", "", "yesterday", "2026-11-21T10:00:00", "99999999999999999999", "１"])
def test_anything_else_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(BadMoment, match="as_of="):
        read_moment(text)
