"""``verify``: folds every task anew from the store and names whatever differs from it, in the store or in the views.

Per task: versions and hash chain of the stored bytes, the read row field by field, the stored output against what its
attempts reported, its approvals, a run's steps and variables, and whether an open task, and only an open one, stands in
``open_tasks``. A retired task has no rows, and its events are in the metrics all the same. Then the sums: sessions and
counts by status against the task rows, the metrics against those of all events, and rows of tasks that the store does
not know.

It reads the store in pages, so its memory does not grow with it, and works beside a running system: a task that seems
to differ is looked at again until the time limit, since its events may be on their way.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct, field

from taskloom.domain.entities.ids import is_entity_id, parts_of
from taskloom.domain.entities.sessions import Session
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.evolve import fold as evolve_all
from taskloom.replay import verify_sql as sql
from taskloom.replay.verify_approvals import approval_faults
from taskloom.replay.verify_entities import entity_faults
from taskloom.replay.verify_goals import goal_faults
from taskloom.replay.verify_metrics import first_second, stored_sums, wrong_sums
from taskloom.replay.verify_outputs import output_faults
from taskloom.replay.verify_retired import left_of, retired_faults
from taskloom.replay.verify_steps import step_faults
from taskloom.store.history import HistoryReader
from taskloom.views.metrics.fold import Tally
from taskloom.views.positions import read_lag
from taskloom.views.reading import Pool, rows
from taskloom.views.retired import query as retired
from taskloom.views.task_executions.fold import fold
from taskloom.views.task_executions.query import row_of
from taskloom.views.task_executions.row import FIELDS, Row
from taskloom.wire.recorded import chain_fault, unseal

PAGE_EVENTS: Final = 2_000
MAX_DIFFERENCES: Final = 1_000
"""Verification stops looking for more after so many."""

LOOK_AGAIN_EVERY_S: Final = 0.2
SHOWN_CHARS: Final = 200


class Difference(Struct, frozen=True):
    """``subject`` is a task id, or ``session …``, ``counts …``; ``field`` is where; the values are as text, cut."""

    subject: str
    field: str
    stored: str
    expected: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.field}: stored {self.stored}, expected {self.expected}"


class Report(Struct):
    """What was looked at and what differs; ``complete`` is False when there were too many differences to go on."""

    tasks: int = 0
    events: int = 0
    sessions: int = 0
    looked_again: int = 0
    seconds: float = 0.0
    complete: bool = True
    differences: list[Difference] = field(default_factory=list)


class Stream(Struct, frozen=True):
    """A task's stored events: versions as in the table's key, and their bytes."""

    task_id: str
    versions: list[int]
    bodies: list[bytes]


Progress = Callable[[Report], None]


class Verifier:
    """Compares a store with the views beside it."""

    def __init__(
        self, history: HistoryReader, pool: Pool, *, shards: int, events_topic: str, timeout_s: float = 30.0
    ) -> None:
        self._history, self._pool, self._shards, self._events_topic = history, pool, shards, events_topic
        self._timeout_s = timeout_s

    async def run(self, progress: Progress = lambda _: None) -> Report:
        """Everything that differs, after waiting up to the time limit for the projection to catch up.

        Raises:
            StoreUnavailable, psycopg.OperationalError: the database went away.
        """
        began, report = time.monotonic(), Report()
        await self._caught_up()
        tally, since = Tally(), first_second()
        sums = await stored_sums(self._pool, since)
        suspects: dict[str, None] = {}
        for shard in range(self._shards):
            async for streams in self._pages(shard):
                found = await self._compare(streams, tally)
                report.tasks += sum(not is_entity_id(stream.task_id) for stream in streams)
                report.events += sum(len(stream.bodies) for stream in streams)
                suspects.update(dict.fromkeys(found))
                progress(report)
                if len(suspects) >= MAX_DIFFERENCES:
                    report.complete = False
                    break
        await self._settle(report, self._compare_anew, suspects)
        await self._settle(report, self._compare_sums, {"": None})

        async def compare_metrics(_names: Sequence[str]) -> dict[str, list[Difference]]:
            kept_from = await retired.hours_before(self._pool)
            wrong = wrong_sums(sums, await stored_sums(self._pool, since), tally, since, kept_from)
            return {"": [difference(*each) for each in wrong]} if wrong else {}

        if report.complete and not report.differences:  # a changed history leads to other sums, and is named already
            await self._settle(report, compare_metrics, {"": None})
        report.seconds = round(time.monotonic() - began, 3)
        return report

    async def _caught_up(self) -> None:
        until = time.monotonic() + self._timeout_s
        # What we wait for happens in the database.
        while time.monotonic() < until and await self._waiting():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_AGAIN_EVERY_S)

    async def _waiting(self) -> int:
        return (await read_lag(self._pool, self._events_topic)).records

    async def _settle(
        self,
        report: Report,
        compare: Callable[[Sequence[str]], Awaitable[dict[str, list[Difference]]]],
        suspects: Iterable[str],
    ) -> None:
        """Looks at suspects until none is left or the time is over; what then still differs goes into the report."""
        until, names = time.monotonic() + self._timeout_s, list(suspects)
        while names:
            found = await compare(names)
            names = [name for name in names if name in found]
            if not names or time.monotonic() > until:
                report.differences += [difference for name in names for difference in found[name]]
                return
            report.looked_again += 1
            await asyncio.sleep(LOOK_AGAIN_EVERY_S)

    # Reading the store.

    async def _pages(self, shard: int) -> AsyncIterator[list[Stream]]:
        """Whole streams, a page at a time. A stream longer than a page is gathered before it is given out."""
        after, open_stream = ("", 0), Stream("", [], [])
        while page := await self._history.page(shard, after, PAGE_EVENTS):
            streams: list[Stream] = []
            for task_id, version, body in page:
                if task_id != open_stream.task_id:
                    streams.append(open_stream)
                    open_stream = Stream(task_id, [], [])
                open_stream.versions.append(version)
                open_stream.bodies.append(body)
            after = page[-1][:2]
            streams = [stream for stream in streams if stream.bodies]
            if streams:
                yield streams
        if open_stream.bodies:
            yield [open_stream]

    async def _compare_anew(self, task_ids: Sequence[str]) -> dict[str, list[Difference]]:
        found: dict[str, list[Difference]] = {}
        for task_id in task_ids:
            bodies = await self._history.bodies(task_id)
            found |= await self._compare([Stream(task_id, list(range(1, len(bodies) + 1)), bodies)])
        return found

    # Comparing tasks.

    async def _compare(self, streams: Sequence[Stream], tally: Tally | None = None) -> dict[str, list[Difference]]:
        """Differences by task id; tasks without one are absent. The events are added to ``tally``."""
        found = await self._compare_entities([stream for stream in streams if is_entity_id(stream.task_id)])
        streams = [stream for stream in streams if not is_entity_id(stream.task_id)]
        ids = [stream.task_id for stream in streams]
        stored = {row.task_id: row for row in map(row_of, await rows(self._pool, sql.ROWS, {"tasks": ids}))}
        open_ids = {task_id for (task_id,) in await rows(self._pool, sql.OPEN, {"tasks": ids})}
        gone = await retired.of_tasks(self._pool, ids)
        left = await left_of(self._pool, list(gone))
        histories: dict[str, list[Recorded]] = {}
        for stream in streams:
            history, expected, faults = read_history(stream, tally)
            if expected is not None:
                row, stone = stored.get(stream.task_id), gone.get(stream.task_id)
                if stone is None:
                    histories[stream.task_id] = history
                    faults += compare_row(row, expected)
                else:
                    named = retired_faults(stone, row, expected, left.get(stream.task_id, ()))
                    faults += [difference(stream.task_id, name, *each) for name, each in named.items()]
                faults += compare_open(stream.task_id in open_ids, expected)
            if faults:
                found[stream.task_id] = faults
        for task_id, faults in (await self._compare_approvals(ids, histories)).items():
            found.setdefault(task_id, []).extend(faults)
        for task_id, faults in (await self._compare_steps(histories)).items():
            found.setdefault(task_id, []).extend(faults)
        return found

    async def _compare_entities(self, streams: Sequence[Stream]) -> dict[str, list[Difference]]:
        if not streams:
            return {}
        ids = [stream.task_id for stream in streams]
        stored = dict(await rows(self._pool, sql.ENTITIES, {"tasks": ids}))
        marks = await self._marks(ids)
        faults = {
            each.task_id: entity_faults(each.bodies, stored.get(each.task_id), marks.get(each.task_id))
            for each in streams
        }
        return {
            name: [difference(name, place, is_there, is_due) for place, (is_there, is_due) in found.items()]
            for name, found in faults.items()
            if found
        }

    async def _marks(self, ids: Sequence[str]) -> dict[str, Session]:
        """What stands in the sessions' own table of those entities that are sessions."""
        named = [name for name in map(parts_of, ids) if name.kind == "session"]
        if not named:
            return {}
        wanted = {"tenants": [name.tenant_id for name in named], "sessions": [name.name for name in named]}
        found = await rows(self._pool, sql.MARKS, wanted)
        return {entity_id: Session(title, removed_at) for entity_id, title, removed_at in found}

    async def _compare_approvals(
        self, ids: Sequence[str], histories: dict[str, list[Recorded]]
    ) -> dict[str, list[Difference]]:
        there: dict[str, list[bytes]] = {}
        for task_id, stored in await rows(self._pool, sql.APPROVALS, {"tasks": list(ids)}):
            there.setdefault(task_id, []).append(stored)
        found: dict[str, list[Difference]] = {}
        for task_id, history in histories.items():
            for place, (is_there, is_due) in approval_faults(history, there.get(task_id, ())).items():
                found.setdefault(task_id, []).append(difference(task_id, place, is_there, is_due))
        return found

    async def _compare_steps(self, histories: dict[str, list[Recorded]]) -> dict[str, list[Difference]]:
        """And goals with theirs, and output."""
        found: dict[str, list[Difference]] = {}
        for faults_of in (step_faults, goal_faults, output_faults):
            for task_id, faults in (await faults_of(self._pool, histories)).items():
                named = [difference(task_id, place, is_there, is_due) for place, (is_there, is_due) in faults.items()]
                found.setdefault(task_id, []).extend(named)
        return found

    # Comparing sums.

    async def _compare_sums(self, _names: Sequence[str]) -> dict[str, list[Difference]]:
        """Sessions and counts against the task rows, in one snapshot each; and rows without a history."""
        found = [
            difference(f"session {tenant}/{session}", name, stored, expected)
            for tenant, session, name, stored, expected in await rows(
                self._pool, sql.SESSIONS, {"limit": MAX_DIFFERENCES}
            )
        ]
        found += [
            difference(f"counts of tenant {tenant}", status, stored, expected)
            for tenant, status, stored, expected in await rows(self._pool, sql.COUNTS)
        ]
        found += await self._without_history()
        return {"": found} if found else {}

    async def _without_history(self) -> list[Difference]:
        """Rows of tasks that the store has no event of; looked for only when there are more rows than histories."""
        tasks = sum(shard.tasks for shard in (await self._history.counts()).shards)
        found: list[Difference] = []
        for what, count, ids in (
            ("read row", sql.COUNT_ROWS, sql.ROW_IDS),
            ("retired task", sql.COUNT_RETIRED, sql.RETIRED_IDS),
            ("open task", sql.COUNT_OPEN, sql.OPEN_IDS),
            ("entity", sql.COUNT_ENTITIES, sql.ENTITY_IDS),
            ("session mark", sql.COUNT_MARKS, sql.MARK_IDS),
            ("approval", sql.COUNT_APPROVALS, sql.APPROVAL_IDS),
            ("step", sql.COUNT_STEPS, sql.STEP_IDS),
            ("variable", sql.COUNT_VARIABLES, sql.VARIABLE_IDS),
            ("goal", sql.COUNT_GOALS, sql.GOAL_IDS),
        ):
            [(there,)] = await rows(self._pool, count)
            if what in ("read row", "retired task") and there <= tasks:
                continue
            async for task_id in self._ids(ids):
                if not await self._history.bodies(task_id, limit=1):
                    found.append(difference(task_id, what, "a row", "no row: the store has no event of it"))
                    if len(found) >= MAX_DIFFERENCES:
                        return found
        return found

    async def _ids(self, statement: str) -> AsyncIterator[str]:
        after = ""
        while page := await rows(self._pool, statement, {"after": after, "limit": PAGE_EVENTS}):
            for (task_id,) in page:
                yield task_id
            after = page[-1][0]


def read_history(stream: Stream, tally: Tally | None = None) -> tuple[list[Recorded], Row | None, list[Difference]]:
    """The stream's events, the row they fold to, and what is wrong with their sequence, hash chain or content. Without
    a row when they cannot be folded. What they add to the metrics is added to ``tally``."""
    task_id = stream.task_id
    if stream.versions != list(range(1, len(stream.versions) + 1)):
        return (
            [],
            None,
            [difference(task_id, "versions", stream.versions, f"1 to {len(stream.versions)} without a gap")],
        )
    fault = chain_fault(stream.bodies)
    faults = [Difference(task_id, "hash chain", fault, "an unbroken chain")] if fault else []
    try:
        history = [unseal(body) for body in stream.bodies]
        if any(recorded.meta.task_id != task_id for recorded in history):
            faults.append(Difference(task_id, "task id", "events of another task", task_id))
        state, row = evolve_all(history), _folded(history, tally)
    except Exception as error:  # noqa: BLE001 - whatever a changed event leads to, it is a difference
        return [], None, [*faults, Difference(task_id, "events", str(error), "events that can be folded")]
    if state is not None and row is not None and state.word != row.state:
        faults.append(Difference(task_id, "state by evolve", state.word, row.state))
    return history, row, faults


def _folded(history: Sequence[Recorded], tally: Tally | None) -> Row | None:
    row: Row | None = None
    for recorded in history:
        before, row = row, fold(row, recorded)
        if tally is not None:
            tally.count(before, recorded, row)
    return row


def compare_row(stored: Row | None, expected: Row) -> list[Difference]:
    """Each field of the read row that is not what folding the history gives."""
    if stored is None:
        return [Difference(expected.task_id, "read row", "none", f"a row of version {expected.version}")]
    return [
        difference(expected.task_id, name, getattr(stored, name), getattr(expected, name))
        for name in FIELDS
        if getattr(stored, name) != getattr(expected, name)
    ]


def compare_open(is_open: bool, expected: Row) -> list[Difference]:
    """An open task stands in ``open_tasks``, an ended one does not."""
    if is_open == (not expected.ended):
        return []
    due = "no row" if expected.ended else "a row"
    return [
        Difference(expected.task_id, "open_tasks", "a row" if is_open else "no row", f"{due}: it is {expected.state}")
    ]


def difference(subject: str, field_name: str, stored: Any, expected: Any) -> Difference:
    return Difference(subject, field_name, _shown(stored), _shown(expected))


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
