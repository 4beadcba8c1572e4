"""Retention on real tables: what has ended goes with all that hangs on it, and nothing else does; store and read tables
agree before and after; what is gone stays away, until somebody wants it or it begins anew."""

import asyncio
import json
import re
import threading
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from services.projection.retention import Retention
from services.projection.settings import ProjectionSettings
from taskloom.cli.main import app
from taskloom.domain.task import commands as c
from taskloom.replay.verify_goals import goal_faults
from taskloom.retention.restore import restore_wanted, want
from taskloom.retention.settings import Cutoffs
from taskloom.retention.sweep import Busy
from taskloom.store.history import HistoryReader
from taskloom.testing.eventually import eventually
from taskloom.testing.histories import START, TaskLife, one_step_task
from taskloom.views.reading import read_pool
from tests.integration.projection.world import Lives, World, execute, store_lives
from tests.integration.retention.scene import (
    ALL,
    NOW,
    WRITER,
    all_lives,
    bodies_of,
    differences,
    ended,
    everything,
    feed,
    feed_output,
    open_run,
    set_up,
    shown,
    store_more,
    sweep,
    varied,
)
from tests.unit.views.goal_lives import achieved

pytestmark = pytest.mark.integration

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
HOURS = "SELECT * FROM metrics_hours ORDER BY tenant_id, hour, kind, executor_id"
DETAILS = ("approvals", "task_execution_steps", "run_variables", "goals", "goal_steps", "goal_traces", "task_outputs")


async def test_what_has_ended_goes_with_all_that_hangs_on_it_and_stays_away(database_dsn: str) -> None:
    lives = all_lives()
    world = await set_up(database_dsn, lives)
    assert await differences(database_dsn) == []
    before, gone = everything(database_dsn), ended(lives)

    found = sweep(database_dsn, apply=False)
    assert everything(database_dsn) == before, "a dry run changes nothing"
    assert found.of("tasks").rows == len(gone)
    assert (found.of("outputs").rows, found.of("outputs").bytes) == (3, 6)

    done = sweep(database_dsn)
    assert done.counts == found.counts, "a dry run tells what will go"
    assert shown(database_dsn) == {life.task_id for life in lives} - gone
    assert "goes-on~a" in shown(database_dsn), "a run that goes on keeps the steps that have ended"
    for table in DETAILS:
        left = {task_id for (task_id,) in execute(database_dsn, f"SELECT task_id FROM {table}")}
        assert left <= shown(database_dsn), table
    assert everything(database_dsn)["metrics"] == before["metrics"], "what happened has happened"
    assert await differences(database_dsn) == []
    assert sweep(database_dsn).rows == 0

    after = everything(database_dsn)
    await feed(world, bodies_of(lives))
    await feed_output(world)
    assert everything(database_dsn) == after, "events and output that come again bring nothing back"
    assert await differences(database_dsn) == []
    await world.stop()


async def test_verify_names_what_is_left_of_a_retired_task_and_an_open_one_that_is_retired(database_dsn: str) -> None:
    lives = all_lives()
    world = await set_up(database_dsn, lives)
    sweep(database_dsn)
    open_one = sorted(shown(database_dsn) - {"goes-on~a"})[0]
    execute(database_dsn, "INSERT INTO run_variables VALUES ('ended-1', 'a', '1')")
    execute(database_dsn, "UPDATE retired_tasks SET counted = 2 WHERE task_id = 'ended-2'")
    execute(database_dsn, "INSERT INTO retired_tasks SELECT %s, 'default', 1, 1, now()", open_one)
    execute(database_dsn, "INSERT INTO retired_tasks VALUES ('never-was', 'default', 1, 1, now())")
    execute(database_dsn, "DELETE FROM retired_tasks WHERE task_id = 'ended-3'")
    named = {(each.subject, each.field) for each in await differences(database_dsn)}
    assert {("ended-1", "run_variables"), ("ended-2", "counted"), ("ended-3", "read row")} <= named
    assert {(open_one, "read row"), (open_one, "retired")} <= named
    await world.stop()


async def test_a_run_that_has_ended_waits_for_the_last_task_of_its_steps(database_dsn: str) -> None:
    run, step = open_run()
    run.do(c.CancelTask("enough")).do(c.NoteChild("b", "cancelled"))
    assert run.state is not None
    assert run.state.ended
    runs_on = TaskLife("goes-on~b", c.SubmitTask(kind="echo")).start()
    world = await set_up(database_dsn, [run, step, runs_on])
    found = sweep(database_dsn, apply=False)
    assert (found.rows, found.held_back) == (0, 1)
    assert (sweep(database_dsn).rows, len(shown(database_dsn))) == (0, 3)
    length = len(runs_on.recorded)
    runs_on.complete()
    store_more(database_dsn, runs_on, length)
    await feed(world, [(runs_on.task_id, body) for body in runs_on.bodies[length:]])
    assert sweep(database_dsn).of("tasks").rows == 3
    assert await differences(database_dsn) == []
    await world.stop()


async def test_ages_are_those_of_each_outcome_and_of_the_tenant_asked_for(database_dsn: str) -> None:
    world = await set_up(
        database_dsn,
        [
            one_step_task("good", START),
            one_step_task("young", START + timedelta(days=2)),
            TaskLife("bad", c.SubmitTask(kind="echo")).start().fail(retryable=False),
            TaskLife("red", c.SubmitTask(kind="echo"), tenant_id="red").start().complete(),
        ],
    )
    day = START + timedelta(days=1)
    assert sweep(database_dsn, Cutoffs()).rows == 0
    assert sweep(database_dsn, Cutoffs(completed=day), tenant_id="default").of("tasks").rows == 1
    assert shown(database_dsn) == {"young", "bad", "red"}
    assert list(sweep(database_dsn, Cutoffs(completed=day)).tenants) == ["red"]
    assert sweep(database_dsn, Cutoffs(failed=day)).of("tasks").rows == 1
    assert shown(database_dsn) == {"young"}
    await world.stop()


async def test_a_retired_run_that_is_retried_is_there_again_with_the_tasks_of_its_steps(database_dsn: str) -> None:
    lives = all_lives()
    world = await set_up(database_dsn, lives)
    sweep(database_dsn)
    run = next(life for life in lives if life.task_id == "run")
    length = len(run.recorded)
    run.do(c.RetryTask("mended"))
    store_more(database_dsn, run, length)
    await feed(world, [(run.task_id, body) for body in run.bodies[length:]])
    assert "run" in shown(database_dsn)
    assert world.applier.returned.is_set()
    async with HistoryReader(database_dsn) as history:
        children = {life.task_id for life in lives if life.task_id.startswith("run~")}
        assert (await restore_wanted(database_dsn, history)).tasks == len(children)
        assert children < shown(database_dsn)
    assert await differences(database_dsn) == []
    assert sweep(database_dsn).of("tasks").rows == 0, "it goes on"
    await world.stop()


async def test_what_happens_to_a_retired_task_without_opening_it_leaves_it_retired(database_dsn: str) -> None:
    life = one_step_task("t", START)
    world = await set_up(database_dsn, [life])
    sweep(database_dsn)
    for command in (c.ReportCompleted(1, "e2", "late"), c.DeleteTask("not needed")):
        length = len(life.recorded)
        life.do(command)
        assert len(life.recorded) > length
        store_more(database_dsn, life, length)
        await feed(world, [("t", body) for body in life.bodies[length:]])
        assert shown(database_dsn) == set()
        assert await differences(database_dsn) == []
    await world.stop()


async def test_what_is_brought_back_is_as_it_was_and_kept_as_long_again(database_dsn: str) -> None:
    lives = all_lives()
    world = await set_up(database_dsn, lives)
    before = everything(database_dsn)
    sweep(database_dsn)
    async with HistoryReader(database_dsn) as history:
        assert want(database_dsn, ["run~a", "ended-4", "unknown"]) == 8
        done = await restore_wanted(database_dsn, history)
        assert (done.tasks, done.later) == (8, [])
        assert "ended-4" in shown(database_dsn)
        assert await differences(database_dsn) == []
        want(database_dsn, sorted(ended(lives)))
        await asyncio.gather(*(restore_wanted(database_dsn, history) for _ in range(3)))
    assert everything(database_dsn) == before
    assert await differences(database_dsn) == []
    assert execute(database_dsn, "SELECT count(*) FROM task_outputs") == [(0,)], "output does not come back"
    young = execute(database_dsn, "SELECT now() - interval '1 day'")[0][0]
    assert sweep(database_dsn, Cutoffs(completed=young, failed=young)).rows == 0
    assert sweep(database_dsn, ALL).of("tasks").rows == len(ended(lives))
    assert await differences(database_dsn) == []
    await world.stop()


async def test_read_tables_made_anew_are_the_same_without_what_was_retired(database_dsn: str) -> None:
    lives = all_lives()
    world = await set_up(database_dsn, lives)
    sweep(database_dsn, Cutoffs(completed=NOW, failed=START + timedelta(seconds=100), metrics=START))
    before, metrics = everything(database_dsn), execute(database_dsn, HOURS)
    await world.stop()

    [block] = [
        each for each in re.findall(r"```sql\n(.*?)```", OPERATIONS.read_text(), re.DOTALL) if "TRUNCATE" in each
    ]
    for statement in block.split(";"):
        if statement.strip():
            execute(database_dsn, statement)
    assert shown(database_dsn) == set()
    world = await World(database_dsn, lives).start()
    # The events of all tasks beside each other, so that those of one come in several batches.
    for place in range(max(len(life.bodies) for life in lives)):
        await feed(world, [(life.task_id, life.bodies[place]) for life in lives if place < len(life.bodies)])
    assert everything(database_dsn) == before
    assert execute(database_dsn, HOURS) == metrics
    assert await differences(database_dsn) == []

    execute(database_dsn, "DELETE FROM retired_tasks")
    for statement in block.split(";")[:-1]:
        execute(database_dsn, statement)
    await world.stop()
    world = await World(database_dsn, lives).start()
    await feed(world, bodies_of(lives))
    assert shown(database_dsn) == {life.task_id for life in lives}, "all are back where that was asked for"
    assert await differences(database_dsn) == []
    await world.stop()


async def test_old_output_goes_and_the_tasks_stay(database_dsn: str) -> None:
    lives = all_lives()
    world = await set_up(database_dsn, lives)
    before = everything(database_dsn)
    cutoffs = Cutoffs(output=NOW)
    found = sweep(database_dsn, cutoffs, apply=False)
    assert {kind for _, kind in found.counts} == {"outputs"}
    assert sweep(database_dsn, Cutoffs(NOW, NOW, NOW), apply=False).of("outputs").rows == 3, "each is counted once"
    assert sweep(database_dsn, cutoffs).counts == found.counts
    assert everything(database_dsn) == before
    assert await differences(database_dsn) == []

    await feed_output(world)
    assert execute(database_dsn, "SELECT count(*) FROM task_outputs") == [(0,)]
    writer = next(life for life in lives if life.task_id == WRITER)
    length = len(writer.recorded)
    writer.do(c.RetryTask()).start().complete()
    store_more(database_dsn, writer, length)
    await feed(world, [(WRITER, body) for body in writer.bodies[length:]])
    assert await differences(database_dsn) == []
    await world.stop()


async def test_old_traces_of_goals_go_alone_or_with_their_goal_and_come_back_with_it_alone(database_dsn: str) -> None:
    goals = [achieved(), achieved("other")]
    histories = {goal.task_id: goal.recorded for goal in goals}
    world = await World(database_dsn).start()
    await feed(world, bodies_of(goals))
    before = everything(database_dsn)
    found = sweep(database_dsn, Cutoffs(traces=NOW), apply=False)
    assert {kind for _, kind in found.counts} == {"traces"}
    both = sweep(database_dsn, Cutoffs(completed=NOW, traces=NOW), apply=False)
    assert (both.of("traces"), both.of("goals").rows) == (found.of("traces"), 2 + len(before["goal_steps"]))
    assert sweep(database_dsn, Cutoffs(traces=NOW)).counts == found.counts
    after = everything(database_dsn)
    assert after.pop("goal_traces") == []
    assert after == {name: value for name, value in before.items() if name != "goal_traces"}
    pool = read_pool(database_dsn)
    await pool.open(wait=True)
    assert await goal_faults(pool, histories) == {}

    sweep(database_dsn)
    assert [everything(database_dsn)[table] for table in ("goals", "goal_steps", "task_executions")] == [[], [], []]
    assert want(database_dsn, list(histories)) == 2
    assert (await restore_wanted(database_dsn, Lives(goals))).tasks == 2  # type: ignore[arg-type]
    assert everything(database_dsn) == {**after, "goal_traces": []}
    assert await goal_faults(pool, histories) == {}
    await pool.close()
    await world.stop()


async def test_one_sweep_at_a_time_and_sums_go_by_their_own_ages(database_dsn: str) -> None:
    lives = varied(30)
    world = await set_up(database_dsn, lives)
    execute(
        database_dsn,
        "INSERT INTO usage_ledger (tenant_id, session_id, period, shard, tokens, cost_usd) VALUES "
        "('default', '', '2026-01-01', 0, 1, 1), ('default', '', '2026-01-01T05', 0, 1, 1), "
        "('default', '', '2026-01', 0, 1, 1), ('default', '', '', 0, 1, 1), ('default', 's', '2026-01-03', 0, 1, 1)",
    )
    execute(
        database_dsn,
        "INSERT INTO audit SELECT 'default', n::text, now() - n * interval '1 day', '', '', '', '', '', 200, '{}' "
        "FROM generate_series(1, 9) AS n",
    )
    [(recent,)] = execute(database_dsn, "SELECT now() - interval '5 days 1 hour'")
    noon = START + timedelta(hours=3, minutes=20)
    cutoffs = Cutoffs(usage=START + timedelta(days=2), metrics=noon, audit=recent)
    with psycopg.connect(database_dsn) as other:
        other.execute("SELECT pg_advisory_lock(7462, 0)")
        found = sweep(database_dsn, cutoffs, apply=False)
        with pytest.raises(Busy):
            sweep(database_dsn, cutoffs)
    assert sweep(database_dsn, cutoffs).counts == found.counts
    assert (found.of("usage").rows, found.of("audit").rows) == (2, 4)
    assert found.of("metrics").rows > 0
    left = execute(database_dsn, "SELECT period FROM usage_ledger ORDER BY period")
    assert [period for (period,) in left] == ["", "2026-01", "2026-01-03"]
    assert execute(database_dsn, "SELECT min(hour) FROM metrics_hours") == [(START + timedelta(hours=3),)]
    assert await differences(database_dsn) == []
    await feed(world, bodies_of([late := TaskLife("late", at=START).start().complete()]))
    assert execute(database_dsn, "SELECT min(hour) FROM metrics_hours") == [(START + timedelta(hours=3),)]
    assert late.state is not None
    await world.stop()


async def test_sweeps_beside_a_projection_that_writes_lose_nothing(database_dsn: str) -> None:
    """Tasks arrive, end and are retried while one sweep after the other takes all that has ended."""
    lives = [one_step_task(f"t{n}", START + timedelta(seconds=n), session_id=f"s{n % 4}") for n in range(200)]
    for number in range(200, 400):
        submit = c.SubmitTask(kind="echo", session_id=f"s{number % 4}")
        life = TaskLife(f"t{number}", submit, at=START).start().fail(retryable=False).do(c.RetryTask()).start()
        assert life.state is not None
        assert not life.state.ended, "it began anew"
        lives.append(life.complete() if number % 3 else life)
    world = await set_up(database_dsn, lives[:1])
    store_rest(database_dsn, lives[1:], world)
    stop, swept, faults = threading.Event(), [], []

    def sweeps() -> None:
        while not stop.is_set():
            try:
                swept.append(sweep(database_dsn).of("tasks").rows)
            except Exception as fault:  # noqa: BLE001 - told by the test
                faults.append(fault)
                return

    sweeper = threading.Thread(target=sweeps)
    sweeper.start()
    try:
        # All first events, then all second ones, and so on: a task is open for several batches.
        for place in range(max(len(life.bodies) for life in lives)):
            bodies = [(life.task_id, life.bodies[place]) for life in lives[1:] if place < len(life.bodies)]
            for first in range(0, len(bodies), 50):
                await feed_again(world, bodies[first : first + 50])
    finally:
        stop.set()
        await asyncio.to_thread(sweeper.join)
    assert faults == []
    assert sum(swept) > 300
    assert world.dead.buried == []
    assert await differences(database_dsn) == []
    await world.stop()


async def feed_again(world: World, bodies: list[tuple[str, bytes]]) -> None:
    await world.feed_until_applied(bodies)


def store_rest(dsn: str, lives: list[TaskLife], world: World) -> None:
    store_lives(dsn, lives)
    world.applier._history = Lives(lives)


async def test_the_command_shows_takes_out_and_brings_back(database_dsn: str) -> None:
    lives = varied(10)
    world = await set_up(database_dsn, lives)
    days = ["--completed-days", "1", "--failed-days", "1", "--dsn", database_dsn]
    number = len(ended(lives))

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["retention", *arguments]))

    dry = await run(*days)
    assert (dry.exit_code, f" {number} " in dry.output) == (0, True), dry.output
    assert len(shown(database_dsn)) == len(lives)
    done = await run(*days, "--apply", "--json")
    rows = {each["kind"]: each["rows"] for each in json.loads(done.stdout)["rows"]}
    assert rows["tasks"] == number
    back = await run("restore", "ended-1", "ended-2", "--dsn", database_dsn)
    assert (back.exit_code, "2 tasks are there again" in back.output) == (0, True)
    assert {"ended-1", "ended-2"} < shown(database_dsn)
    assert (await run("restore", "ended-1", "--dsn", database_dsn)).exit_code == 1
    assert await differences(database_dsn) == []
    await world.stop()


async def test_beside_a_projection_one_sweeps_by_its_settings_and_what_is_wanted_comes_back(database_dsn: str) -> None:
    lives = varied(10)
    world = await set_up(database_dsn, lives)
    settings = ProjectionSettings(
        database_dsn=database_dsn, retention_completed_days=1, retention_failed_days=1, retention_every_s=1
    )
    stopping, returned = asyncio.Event(), asyncio.Event()
    async with HistoryReader(database_dsn) as history:
        two = [Retention(settings, history, returned, stopping) for _ in range(2)]
        loops = [asyncio.create_task(loop) for each in two for loop in (each.sweep(), each.bring_back())]
        try:
            await eventually(lambda: shown(database_dsn).isdisjoint(ended(lives)), 60)
            want(database_dsn, ["ended-1"])
            returned.set()
            await eventually(lambda: "ended-1" in shown(database_dsn), 60)
        finally:
            stopping.set()
            await asyncio.wait_for(asyncio.gather(*loops), 60)
    assert await differences(database_dsn) == []
    await world.stop()
