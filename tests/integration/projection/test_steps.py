"""Steps and variables of runs in their tables: folded once whatever comes twice, paged, and as ``verify`` has them."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo
from taskloom.replay.verify import Verifier
from taskloom.store.history import HistoryReader
from taskloom.testing.histories import TaskLife
from taskloom.views.reading import Pool, read_pool
from taskloom.views.steps.query import StepPage, steps_of, variables_of
from taskloom.views.task_executions import query as task_rows
from tests.integration.projection.world import TOPICS, World, bodies_of, execute, store_lives
from tests.unit.domain.workflow.runs import step, task

pytestmark = pytest.mark.integration

BOOM = ErrorInfo("ValueError", "bo\x00om", retryable=False)
DEFINITION = {
    "name": "w",
    "variables": {"a": 0, "b": 0},
    "steps": [
        task("a"),
        step("p", "parallel", sub_steps=[task("x"), task("y"), step("ok", "approval")]),
        step("m", "map", items=[1, 2, 3], map_steps=[task("t"), step("c", "checkpoint")], depends_on=["a"]),
        task("last", "m"),
    ],
}


def child(path: str, *commands: c.TaskCommand) -> TaskLife:
    life = TaskLife(f"run~{path}", c.SubmitTask(kind="echo")).start()
    for command in commands or (c.ReportCompleted(1, "e1", response={"path": path}),):
        life.do(command)
    return life


def run_until_it_failed() -> tuple[TaskLife, list[TaskLife]]:
    run = TaskLife("run", msgspec.convert({"kind": "workflow", "input": {"definition": DEFINITION}}, c.SubmitTask))
    run.do(c.NoteChild("a", "completed", {"variables": {"a\x00": [1], "b": 2}}))
    run.do(c.NoteChild("p.x", "completed"))
    run.do(c.NoteChild("p.y", "failed", error=BOOM))
    run.do(c.DecideApproval("ok", True, "fine"))
    run.do(c.NoteChild("m.0.t", "completed"))
    run.do(c.NoteChild("m.1.t", "failed", error=BOOM))
    run.do(c.NoteChild("m.2.t", "completed"))
    failed = c.ReportFailed(1, "e1", BOOM)
    children = [child(path) for path in ("a", "p.x", "m.0.t", "m.2.t")]
    return run, [*children, child("p.y", failed), child("m.1.t", failed)]


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    opened = read_pool(database_dsn)
    await opened.open(wait=True)
    yield opened
    await opened.close()


@pytest.fixture
async def world(database_dsn: str) -> AsyncIterator[World]:
    made = await World(database_dsn).start()
    yield made
    await made.stop()


async def page(pool: Pool, **wanted: Any) -> StepPage:
    row = await task_rows.get(pool, "default", "run")
    assert row is not None
    return await steps_of(pool, row, **{"limit": 100, **wanted})


async def words(pool: Pool) -> dict[str, str]:
    return {each.path: each.status for each in (await page(pool)).steps}


async def test_steps_and_variables_are_as_the_run_left_them_and_as_verify_expects_them(
    world: World, pool: Pool, database_dsn: str
) -> None:
    run, children = run_until_it_failed()
    before = bodies_of([*children, run])
    await world.feed(before)
    await world.feed(before[-3:])
    assert await words(pool) == {
        "a": "completed",
        "last": "skipped",
        "m": "failed",
        "p": "failed",
        "m.0": "completed",
        "m.0.c": "completed",
        "m.0.t": "completed",
        "m.1": "failed",
        "m.1.c": "skipped",
        "m.1.t": "failed",
        "m.2": "completed",
        "m.2.c": "completed",
        "m.2.t": "completed",
        "p.ok": "completed",
        "p.x": "completed",
        "p.y": "failed",
    }
    found: list[str] = []
    after = ""
    while True:
        some = await page(pool, after=after, limit=2)
        found += [each.path for each in some.steps]
        if not (after := some.next):
            break
    assert found == sorted(await words(pool))
    by_path = {each.path: each for each in (await page(pool, results=True)).steps}
    assert (by_path["a"].result, by_path["a"].attempts, by_path["a"].task_id) == ({"path": "a"}, 1, "run~a")
    assert (by_path["p.ok"].result or {})["comment"] == "fine"
    assert by_path["m.1"].error == "bo\ufffdom"
    assert (by_path["m.1.t"].parent, by_path["m.1"].number) == ("m.1", 1)
    row = await task_rows.get(pool, "default", "run")
    assert row is not None
    assert await variables_of(pool, row) == {"a": 0, "a\x00": [1], "b": 2}

    length = len(run.recorded)
    run.do(c.RetryTask("mended"))
    await world.feed([(run.task_id, body) for body in run.bodies[length:]])
    assert await words(pool) == {
        "a": "completed",
        "m": "running",
        "p": "running",
        "p.ok": "completed",
        "p.x": "completed",
        "m.0": "completed",
        "m.0.c": "completed",
        "m.0.t": "completed",
        "m.1": "running",
        "m.2": "completed",
        "m.2.c": "completed",
        "m.2.t": "completed",
    }
    assert (await page(pool)).steps[0].started_at == by_path["a"].started_at
    store_lives(database_dsn, [run, *children])

    async def faults() -> list[str]:
        async with HistoryReader(database_dsn) as history:
            report = await Verifier(history, pool, shards=2, events_topic=TOPICS.events, timeout_s=0.3).run()
        return [f"{each.subject}: {each.field}" for each in report.differences]

    assert await faults() == []
    execute(database_dsn, "DELETE FROM run_variables WHERE name = 'b'")
    execute(database_dsn, "UPDATE task_execution_steps SET status = 'waiting' WHERE path = 'p'")
    assert await faults() == ["run: step p", "run: variable b"]


async def test_a_run_from_its_start_has_no_steps_and_variables_of_the_life_before(world: World, pool: Pool) -> None:
    run, children = run_until_it_failed()
    await world.feed(bodies_of(children))
    run.do(c.RetryTask(start="start"))
    await world.feed(bodies_of([run]))
    assert await words(pool) == {"p": "running", "p.ok": "waiting"}
    row = await task_rows.get(pool, "default", "run")
    assert row is not None
    assert (row.restarts, row.steps_since) == (1, 1)
    assert await variables_of(pool, row) == {"a": 0, "b": 0}
