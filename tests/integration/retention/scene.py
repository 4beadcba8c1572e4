"""Many tasks of many kinds in a store and in read tables that agree, for retention to work on."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo, OutputSummary
from taskloom.replay.verify import Difference, Verifier
from taskloom.retention.report import Found
from taskloom.retention.settings import Cutoffs
from taskloom.retention.sweep import Sweep
from taskloom.store.history import HistoryReader
from taskloom.testing.histories import START, STEPS, TaskLife, one_step_task, varied_submission
from taskloom.views.reading import read_pool
from taskloom.wire.messages import OutputChunk
from tests.integration.projection.test_steps import run_until_it_failed
from tests.integration.projection.world import TOPICS, World, execute, store_lives
from tests.unit.domain.workflow.runs import task
from tests.unit.views.goal_lives import GoalLife

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
ALL: Final = Cutoffs(completed=NOW, failed=NOW)
WRITER: Final = "writer"
Life = TaskLife | GoalLife


def varied(count: int) -> list[TaskLife]:
    """Open and ended ones, retried, deleted, in sessions and without; no output, since none is fed."""
    found = []
    for number in range(count):
        life = TaskLife(f"task-{number}", varied_submission(number), at=START + timedelta(seconds=number))
        for step in range(number % 14):
            choice = number * 5 + step * 3
            life.step(choice if choice % STEPS not in (4, 5, 6, 15) else 0)
        found.append(life)
    ended = [one_step_task(f"ended-{n}", START + timedelta(hours=n), session_id=f"s{n % 3}") for n in range(12)]
    return [*found, *ended]


def writer() -> TaskLife:
    """It wrote three pieces, and failed."""
    error = ErrorInfo("ValueError", "broken", retryable=False)
    life = TaskLife(WRITER, c.SubmitTask(kind="echo", session_id="s1")).start()
    return life.do(c.ReportFailed(1, "e1", error, 1, OutputSummary(3, 3, 6)))


def open_run() -> list[TaskLife]:
    """A run that goes on, with the task of a step that has ended."""
    definition = {"name": "w", "steps": [task("a"), task("b", "a")]}
    run = TaskLife("goes-on", msgspec.convert({"kind": "workflow", "input": {"definition": definition}}, c.SubmitTask))
    run.do(c.NoteChild("a", "completed"))
    return [run, one_step_task("goes-on~a", START)]


def all_lives() -> list[TaskLife]:
    run, children = run_until_it_failed()
    return [*varied(60), writer(), run, *children, *open_run()]


def bodies_of(lives: Iterable[Life]) -> list[tuple[str, bytes]]:
    return [(life.task_id, body) for life in lives for body in life.bodies]


def ended(lives: Iterable[TaskLife]) -> set[str]:
    """Tasks that retention may take: those that have ended, but not the task of a step of the open run."""
    found = {life.task_id for life in lives if life.state is not None and life.state.ended}
    return {task_id for task_id in found if not task_id.startswith("goes-on")}


async def set_up(dsn: str, lives: Sequence[TaskLife]) -> World:
    """A world whose applier reads the stored events, with all of these in it."""
    world = await World(dsn, lives).start()
    store_lives(dsn, lives)
    await feed(world, bodies_of(lives))
    await feed_output(world)
    return world


async def feed(world: World, bodies: Sequence[tuple[str, bytes]]) -> None:
    for first in range(0, len(bodies), 97):
        await world.feed(bodies[first : first + 97])
    assert world.dead.buried == []


async def feed_output(world: World) -> None:
    pieces = [OutputChunk(WRITER, 1, seq, "stdout", START, "ab") for seq in (1, 2, 3)]
    await world.feed_topic(TOPICS.outputs, [(WRITER, msgspec.json.encode(piece)) for piece in pieces])


def store_more(dsn: str, life: TaskLife, after: int) -> None:
    """What happened to a stored task since."""

    class Later:
        task_id, state, recorded = life.task_id, life.state, life.recorded[after:]

    execute(dsn, "DELETE FROM open_tasks WHERE task_id = %s", life.task_id)
    store_lives(dsn, [Later()])  # type: ignore[list-item]


def sweep(dsn: str, cutoffs: Cutoffs = ALL, *, apply: bool = True, **more: Any) -> Found:
    return Sweep(dsn, cutoffs, apply=apply, **more).run()


async def differences(dsn: str) -> list[Difference]:
    pool = read_pool(dsn)
    async with HistoryReader(dsn) as history:
        await pool.open(wait=True)
        try:
            verifier = Verifier(history, pool, shards=2, events_topic=TOPICS.events, timeout_s=0.3)
            return (await verifier.run()).differences
        finally:
            await pool.close()


def shown(dsn: str) -> set[str]:
    return {task_id for (task_id,) in execute(dsn, "SELECT task_id FROM task_executions")}


def everything(dsn: str) -> dict[str, list[Any]]:
    """All read tables, sums rounded, to compare one state of them with another."""
    tables = (
        "task_executions",
        "approvals",
        "task_execution_steps",
        "run_variables",
        "goals",
        "goal_steps",
        "goal_traces",
    )
    found: dict[str, list[Any]] = {
        table: sorted(text for (text,) in execute(dsn, f"SELECT row_to_json(t)::text FROM {table} AS t"))
        for table in tables
    }
    found["sessions"] = execute(
        dsn,
        "SELECT tenant_id, session_id, user_id, created_at, updated_at, last_completed_at, task_count, "
        "successful_tasks, failed_tasks, cancelled_tasks, tokens_used, round(cost_usd::numeric, 6) "
        "FROM sessions ORDER BY 1, 2",
    )
    found["counts"] = execute(
        dsn, "SELECT tenant_id, status, sum(tasks) FROM task_counts GROUP BY 1, 2 HAVING sum(tasks) <> 0 ORDER BY 1, 2"
    )
    found["metrics"] = execute(dsn, "SELECT * FROM metrics_totals ORDER BY tenant_id, kind, executor_id")
    return found
