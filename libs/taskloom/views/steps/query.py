"""Reads of a run's steps and variables. Who asks has looked whose run it is: its row is an argument."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, LiteralString

import msgspec
from msgspec import Struct, structs

from taskloom.domain.workflow.evolve import initial_variables
from taskloom.domain.workflow.state import FAILURE_STEPS
from taskloom.domain.workflow.wanted import SEPARATOR, child_id, parent_of, restart_of
from taskloom.views.reading import Pool, rows
from taskloom.views.steps.fold import StepRow
from taskloom.views.steps.shape import Shape
from taskloom.views.task_executions.row import Row

FIELDS: Final[tuple[str, ...]] = StepRow.__struct_fields__

_LIGHT: Final = ", ".join("NULL" if name == "result" else name for name in FIELDS)

STEPS: Final = f"""
SELECT {_LIGHT} FROM task_execution_steps
WHERE task_id = %(task)s AND path > %(after)s::text COLLATE "C"
ORDER BY path LIMIT %(limit)s
"""

# The tasks of a run's steps, not those of its child workflows' steps: they lie side by side in the order of their ids.
TASKS: Final[LiteralString] = """
SELECT task_id, kind, state, attempt, executor_id, started_at, completed_at, error, error_type
FROM task_executions
WHERE task_id > %(after)s::text COLLATE "C" AND task_id < %(end)s::text COLLATE "C"
    AND strpos(substr(task_id, %(length)s), '~') = 0
ORDER BY task_id LIMIT %(limit)s
"""

STEP_RESULTS: Final[LiteralString] = """
SELECT path, result FROM task_execution_steps WHERE task_id = %(task)s AND path = ANY(%(paths)s) AND result IS NOT NULL
"""
TASK_RESULTS: Final[LiteralString] = """
SELECT task_id, result, response FROM task_executions
WHERE task_id = ANY(%(tasks)s) AND (result IS NOT NULL OR response IS NOT NULL)
"""

VARIABLES: Final[LiteralString] = "SELECT name, value FROM run_variables WHERE task_id = %(task)s"

_SPARE: Final = 200
"""Tasks that are read beyond a page, since of a step that was tried again there are several."""

_STATUSES: Final = {"completed": "completed", "failed": "failed", "timed_out": "failed", "cancelled": "cancelled"}


class StepTask(Struct, frozen=True):
    """The task of a step, as its row says."""

    task_id: str
    kind: str
    state: str
    attempts: int
    executor_id: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    error_type: str = ""


class Step(Struct, frozen=True, kw_only=True):
    """A step of a run that has begun, or was skipped. ``parent`` is the path of the step around it, ``number`` the item
    or round of that. ``task_id`` and ``attempts`` belong to steps that are tasks; ``result`` is there where it was
    asked for, a large one as a reference."""

    path: str
    kind: str
    status: str
    parent: str = ""
    number: int | None = None
    task_id: str = ""
    attempts: int = 0
    executor_id: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    error_type: str = ""
    result: Any = None


class StepPage(Struct, frozen=True):
    """In the order of their paths; ``next`` is the path to go on after, empty on the last page."""

    steps: list[Step]
    next: str = ""


async def steps_of(pool: Pool, run: Row, *, after: str = "", limit: int, results: bool = False) -> StepPage:
    """Up to ``limit`` steps of the run whose paths come after ``after``, with their ``results`` if these are wanted."""
    wanted = {"task": run.task_id, "after": after, "limit": limit + 1}
    stored = [step_row(columns) for columns in await rows(pool, STEPS, wanted)]
    begin = child_id(run.task_id, "")
    read = limit + _SPARE
    place = {"after": begin + after, "end": run.task_id + chr(ord(SEPARATOR) + 1), "length": len(begin) + 1}
    found = await rows(pool, TASKS, {**place, "limit": read})
    tasks = [_task(*columns) for columns in found]
    page = page_of(run, stored, tasks, after=after, limit=limit, all_read=len(tasks) < read)
    return await _with_results(pool, run, page) if results else page


async def _with_results(pool: Pool, run: Row, page: StepPage) -> StepPage:
    paths = [step.path for step in page.steps if not step.task_id]
    found: dict[str, Any] = {
        path: msgspec.json.decode(result)
        for path, result in await rows(pool, STEP_RESULTS, {"task": run.task_id, "paths": paths})
    }
    tasks = [step.task_id for step in page.steps if step.task_id]
    for task_id, result, response in await rows(pool, TASK_RESULTS, {"tasks": tasks}):
        found[task_id] = result if response is None else response
    steps = [structs.replace(step, result=found.get(step.task_id or step.path)) for step in page.steps]
    return structs.replace(page, steps=steps)


def _task(task_id: str, kind: str, state: str, attempts: int, *rest: Any) -> StepTask:
    executor_id, started_at, ended_at, error, error_type = rest
    return StepTask(
        task_id, kind, state, attempts, executor_id or "", started_at, ended_at, error or "", error_type or ""
    )


def page_of(
    run: Row, stored: Sequence[StepRow], tasks: Sequence[StepTask], *, after: str, limit: int, all_read: bool = True
) -> StepPage:
    """The page that step rows and tasks make. ``all_read``: there are no tasks behind these."""
    rows_by_path = {row.path: row for row in stored}
    tasks_by_path = _newest(run, tasks)
    shape = Shape(run.input)
    paths = sorted(path for path in {*rows_by_path, *tasks_by_path} if path > after)
    if not all_read:
        paths = [path for path in paths if path <= _path_of(tasks[-1].task_id)]
    seen = (_seen(run, path, shape, rows_by_path.get(path), tasks_by_path.get(path)) for path in paths)
    page = list(islice((step for step in seen if step is not None), limit + 1))
    if len(page) > limit:
        return StepPage(page[:limit], page[limit - 1].path)
    return StepPage(page, paths[-1] if paths and not all_read else "")


def _newest(run: Row, tasks: Sequence[StepTask]) -> dict[str, StepTask]:
    """Of each step the last task, of those of this life of the run."""
    newest: dict[str, StepTask] = {}
    for task in tasks:
        path, restart = _path_of(task.task_id), restart_of(task.task_id)
        of_failure = path.startswith(f"{FAILURE_STEPS}.")
        if restart < (run.restarts if of_failure else run.steps_since):
            continue
        known = newest.get(path)
        if known is None or restart_of(known.task_id) < restart:
            newest[path] = task
    return newest


def _path_of(task_id: str) -> str:
    parent = parent_of(task_id)
    return "" if parent is None else parent[1]


def _seen(run: Row, path: str, shape: Shape, row: StepRow | None, task: StepTask | None) -> Step | None:
    if task is None:
        assert row is not None
        return Step(
            path=path,
            kind=row.kind,
            status=row.status,
            parent=row.parent,
            number=row.number,
            started_at=row.started_at,
            ended_at=row.ended_at,
            error=row.error,
            error_type=row.error_type,
        )
    status = _STATUSES.get(task.state, "running")
    if row is None and status in ("failed", "cancelled") and restart_of(task.task_id) < run.restarts:
        return None  # it was set back by a retry of the run, and has not begun again
    place = shape.place(path)
    return Step(
        path=path,
        kind=place.kind,
        status=status if row is None else row.status,
        parent=place.parent,
        number=place.number,
        task_id=task.task_id,
        attempts=task.attempts,
        executor_id=task.executor_id,
        started_at=task.started_at,
        ended_at=task.ended_at if row is None else row.ended_at,
        error=task.error if row is None else row.error,
        error_type=task.error_type if row is None else row.error_type,
    )


async def variables_of(pool: Pool, run: Row) -> dict[str, Any]:
    """The run's variables by name, in the order of their names."""
    stored = await rows(pool, VARIABLES, {"task": run.task_id})
    changed = {bytes(name).decode(): msgspec.json.decode(value) for name, value in stored}
    variables = {**initial_variables(run.input), **changed}
    return {name: variables[name] for name in sorted(variables)}


def step_row(columns: Sequence[Any]) -> StepRow:
    """A row from the table's columns, in the order of ``FIELDS``."""
    row = StepRow(*columns)
    return structs.replace(
        row,
        parent=row.parent or "",
        error=row.error or "",
        error_type=row.error_type or "",
        handled=bool(row.handled),
        result=None if row.result is None else bytes(row.result),
    )
