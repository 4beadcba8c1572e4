"""Approvals in their table: folded once whatever comes twice, read by tenant, and as ``verify`` expects them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.values import Approval
from taskloom.replay.verify import Verifier
from taskloom.store.history import HistoryReader
from taskloom.testing.histories import START, TaskLife
from taskloom.views.approvals import query
from taskloom.views.approvals.query import Filters
from taskloom.views.reading import Pool, read_pool
from tests.integration.projection.world import TOPICS, World, bodies_of, execute, store_lives

pytestmark = pytest.mark.integration

DEFINITION = {
    "name": "w",
    "steps": [
        {"step_type": "approval", "id": "ok", "approvers": ["ada"]},
        {"step_type": "approval", "id": "also"},
    ],
}


def life(name: str, number: int, **fields: object) -> TaskLife:
    submission = msgspec.convert({"kind": "echo", "name": name, "session_id": f"s-{name}", **fields}, c.SubmitTask)
    return TaskLife(name, submission, at=START + timedelta(seconds=number))


def lives() -> list[TaskLife]:
    asking = [life(name, n, approval=Approval("?", ("ada",))) for n, name in enumerate(("open", "yes", "no", "gone"))]
    late = life("late", 5, approval=Approval("?", timeout_s=60))
    run = life("run", 6, kind="workflow", input={"definition": DEFINITION})
    plain = life("plain", 7)
    asking[1].do(c.DecideApproval("approval", True, "fine", {"rows": 3}))
    asking[2].do(c.DecideApproval("approval", False, "no\x00"))
    asking[3].do(c.CancelTask("never mind"))
    late.do(c.FireTimers(), after_s=60)
    run.do(c.DecideApproval("ok", True, "fine"))
    run.do(c.CancelTask("never mind"))
    return [*asking, late, run, plain]


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


async def ids(pool: Pool, tenant: str = "default", **wanted: str) -> set[str]:
    page = await query.list_approvals(pool, tenant, Filters(**wanted), limit=100, cursor=None)
    return {each.approval.approval_id for each in page.approvals}


async def test_each_is_as_its_events_say_whatever_came_twice(world: World, pool: Pool) -> None:
    records = bodies_of(lives())
    await world.feed(records[:5])
    await world.feed(records)
    await world.feed(records)
    assert await ids(pool, status="pending") == {"open~.approval.1"}
    assert await ids(pool, status="decided") == {"yes~.approval.1", "no~.approval.1", "run~ok"}
    assert await ids(pool, status="expired") == {"late~.approval.1"}
    assert await ids(pool, status="withdrawn") == {"gone~.approval.1", "run~also"}
    yes = await query.get(pool, "default", "yes~.approval.1")
    assert yes is not None
    assert (yes.approval.decided_by, yes.approval.feedback, yes.approval.modified_action) == (
        "ada",
        "fine",
        {"rows": 3},
    )
    assert (yes.session_id, yes.name) == ("s-yes", "yes")
    assert world.dead.buried == []


async def test_lists_are_narrowed_and_paged_and_know_their_tenant(world: World, pool: Pool) -> None:
    await world.feed(bodies_of(lives()))
    assert await ids(pool, "red") == set()
    assert await query.get(pool, "red", "yes~.approval.1") is None
    assert await ids(pool, task_id="run") == {"run~ok", "run~also"}
    assert await ids(pool, session_id="s-no") == {"no~.approval.1"}
    assert await ids(pool, approver="bob") == {"late~.approval.1", "run~also"}
    seen: list[str] = []
    cursor = None
    while True:
        page = await query.list_approvals(pool, "default", Filters(), limit=2, cursor=cursor)
        seen += [each.approval.approval_id for each in page.approvals]
        if (cursor := page.next_cursor) is None:
            break
    assert len(seen) == len(set(seen)) == 7
    assert seen[-1] == "open~.approval.1"


async def test_verify_finds_them_as_the_events_say_and_names_one_that_was_changed(
    world: World, pool: Pool, database_dsn: str
) -> None:
    store_lives(database_dsn, all_lives := lives())
    await world.feed(bodies_of(all_lives))

    async def faults() -> list[str]:
        async with HistoryReader(database_dsn) as history:
            report = await Verifier(history, pool, shards=2, events_topic=TOPICS.events, timeout_s=0.3).run()
        return [f"{each.subject}: {each.field}" for each in report.differences]

    assert await faults() == []
    execute(database_dsn, "DELETE FROM approvals WHERE approval_id = 'run~ok'")
    assert await faults() == ["run: approval run~ok"]
