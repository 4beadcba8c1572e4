"""Events of a batch into changed rows, in memory. Doubles are dropped, gaps are filled from the store."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from services.projection import metrics
from services.projection.batch import Arrived, Batch, Poison
from services.projection.cache import RowCache
from services.projection.changes import Absent, Changes
from taskloom import telemetry
from taskloom.domain.envelope import Recorded
from taskloom.errors import TaskloomError
from taskloom.views.approvals.fold import concerns
from taskloom.views.goals import fold as goals
from taskloom.views.retired.write import Stone
from taskloom.views.steps.fold import concerns as concerns_steps
from taskloom.views.steps.write import OfRun
from taskloom.views.task_executions.fold import OutOfSequence, fold
from taskloom.views.task_executions.row import Row
from taskloom.wire.errors import WireError

log = telemetry.get_logger(__name__)

LoadRows = Callable[[list[str]], Awaitable[dict[str, Row]]]
LoadRetired = Callable[[list[str]], Awaitable[dict[str, Stone]]]
Step = tuple[Row | None, Recorded, Row]
"""A row, an event, and the row after it."""


class History(Protocol):
    """Where missing events are read: ``taskloom.store.history.HistoryReader``."""

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]: ...


class Unfillable(TaskloomError):
    """The store does not have the events before this one."""


async def fold_batch(
    batch: Batch, cache: RowCache, load_rows: LoadRows, history: History, load_retired: LoadRetired | None = None
) -> Changes:
    """The rows that the batch's events lead to. An event that cannot be folded is added to ``batch.poison``.

    Raises:
        whatever ``load_rows``, ``load_retired`` and ``history`` raise when the database is away.
    """
    changes = Changes()
    await _find_rows(batch, cache, load_rows, changes, load_retired)
    duplicates = 0
    for arrived in batch.events:
        recorded = arrived.recorded
        task_id, version = recorded.meta.task_id, recorded.meta.version
        row = changes.after.get(task_id) or changes.before.get(task_id)
        absent = changes.absent.get(task_id) if row is None else None
        reached = row.version if row is not None else absent.counted if absent is not None else 0
        if version <= reached:
            duplicates += 1
            continue
        try:
            if absent is not None:
                await _fold_absent(changes, absent, arrived, cache, history)
                continue
            if version > reached + 1:
                steps = await _fill_gap(row, recorded, history)
            else:
                steps = [(row, recorded, fold(row, recorded))]
            _note(changes, arrived, steps, cache)
        except (TaskloomError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            _set_aside(batch, arrived, error)
    if duplicates:
        metrics.DUPLICATES.labels("event").inc(duplicates)
    return changes


def _note(changes: Changes, arrived: Arrived, steps: list[Step], cache: RowCache, *, counted: int = 0) -> None:
    """What the steps to an event change. The metrics have the events up to ``counted`` already."""
    task_id = arrived.recorded.meta.task_id
    for before, one, after in steps:
        if one.version > counted:
            changes.tally.count(before, one, after)
        if concerns(before, one.event):
            changes.of_approvals.append(one)
        if concerns_steps(one.event):
            changes.of_runs.append(OfRun(one, cache.shapes.of(task_id, after.input)))
        if after.kind == goals.KIND and goals.concerns(one.event):
            changes.of_goals.append(one)
    changes.after[task_id] = steps[-1][2]
    changes.partitions[task_id] = arrived.record.partition


async def _fold_absent(changes: Changes, absent: Absent, arrived: Arrived, cache: RowCache, history: History) -> None:
    """An event of a retired task. Only one after its retirement that opens the task brings its rows back, all of them;
    any other one is counted and no more."""
    recorded = arrived.recorded
    stands = absent.row.version if absent.row is not None else 0
    if recorded.version == stands + 1:
        steps: list[Step] = [(absent.row, recorded, fold(absent.row, recorded))]
    else:
        steps = await _steps_to(absent.row, recorded, history)
    if recorded.version > absent.stone.version and not steps[-1][2].ended:
        _note(changes, arrived, await _steps_to(None, recorded, history), cache, counted=absent.counted)
        changes.returned[recorded.task_id] = absent.stone.counted
        del changes.absent[recorded.task_id]
        return
    for before, one, after in steps:
        if one.version > absent.counted:
            changes.tally.count(before, one, after)
    absent.row, absent.counted = steps[-1][2], recorded.version


async def _find_rows(
    batch: Batch, cache: RowCache, load_rows: LoadRows, changes: Changes, load_retired: LoadRetired | None
) -> None:
    missing: dict[str, None] = {}
    for arrived in batch.events:
        task_id = arrived.recorded.meta.task_id
        if task_id in changes.before or task_id in missing:
            continue
        row = cache.get(task_id)
        if row is None:
            missing[task_id] = None
        else:
            changes.before[task_id] = row
    if missing:
        changes.before.update(await load_rows(list(missing)))
    without_row = [task_id for task_id in missing if task_id not in changes.before]
    if without_row and load_retired is not None:
        for task_id, stone in (await load_retired(without_row)).items():
            changes.absent[task_id] = Absent(stone, cache.retired(task_id, stone.counted), stone.counted)


async def _fill_gap(row: Row | None, recorded: Recorded, history: History) -> list[Step]:
    """The steps to ``recorded`` and with it, from the store's events.

    Raises:
        Unfillable: the store lacks some of them.
    """
    meta, reached = recorded.meta, row.version if row is not None else 0
    steps = await _steps_to(row, recorded, history)
    metrics.GAPS.inc()
    log.warning("missing events read from the store", task_id=meta.task_id, after=reached, up_to=meta.version - 1)
    return steps


async def _steps_to(row: Row | None, recorded: Recorded, history: History) -> list[Step]:
    meta, reached = recorded.meta, row.version if row is not None else 0
    missing = await history.events(meta.task_id, after=reached, up_to=meta.version - 1)
    steps: list[Step] = []
    for one in (*missing, recorded):
        before = steps[-1][2] if steps else row
        stands = before.version if before is not None else 0
        if one is recorded and stands != meta.version - 1:
            raise Unfillable(f"event {meta.version} arrived, but the store has nothing after {stands}")
        steps.append((before, one, fold(before, one)))
    return steps


def poisons(error: Exception) -> bool:
    """Whether the event is at fault, rather than that the store or the bus is away."""
    return not isinstance(error, TaskloomError) or isinstance(error, (WireError, Unfillable, OutOfSequence))


def _set_aside(batch: Batch, arrived: Arrived, error: Exception) -> None:
    """An event that cannot be folded is poison; the store or the bus being away is not."""
    if not poisons(error):
        raise error
    batch.poison.append(Poison(arrived.record, f"{type(error).__name__}: {error}"))
