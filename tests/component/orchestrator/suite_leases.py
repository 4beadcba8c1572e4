"""Limits over several orchestrators: who may start, who waits for whom, and what deaths do to leases."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from services.orchestrator import leases
from taskloom.domain.scheduling.leases import Limit, Wish
from taskloom.domain.task import commands as c
from taskloom.domain.task.events import AttemptAssigned
from taskloom.domain.values import ErrorInfo
from taskloom.store.batch import Batch
from taskloom.store.errors import Fenced
from tests.component.orchestrator.rig import Node, Rig, task_on

KEY = Limit("key", "default", "k")
ONE = {"key": "k", "limit": 1}
ZERO, ONE_ON, TWO, THREE = (task_on(n, "leases") for n in range(4))


async def own_halves(*nodes: Node) -> None:
    """Even partitions are the first one's, odd ones the second one's; all hear of an executor with room."""
    for node, partitions in zip(nodes, ((0, 2), (1, 3)), strict=True):
        await node.own(*partitions)
        node.hear(slots=20)


def words(nodes: Sequence[Node], *task_ids: str) -> list[str]:
    found = []
    for task_id in task_ids:
        states = [state for node in nodes if (state := node.memory.get(task_id)) is not None]
        found.append(states[0].word if states else "")
    return found


def taken(rig: Rig, limit: Limit = KEY) -> int:
    return rig.open_store(0).look_at_leases("nobody", [limit])[limit].taken


async def until_looked(node: Node) -> bool:
    """The next look of a node that watches something."""
    return await node.leases.look()


class LeasesSuite:
    @pytest.fixture(autouse=True)
    def _no_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leases, "CALLED_S", 60.0)

    async def test_two_orchestrators_keep_a_limit_together_and_hand_its_place_over(self, rig: Rig) -> None:
        async with rig.node("o-1") as left, rig.node("o-2") as right:
            nodes = (left, right)
            await own_halves(*nodes)
            rig.submit(ZERO, concurrency=ONE)
            await left.rounds(2)
            rig.submit(ONE_ON, concurrency=ONE)
            rig.submit("beside" + ONE_ON)
            await right.rounds(2)
            assert words(nodes, ZERO, ONE_ON) == ["assigned", "ready"]
            assert not await until_looked(right), "nothing has changed"
            rig.send(ZERO, c.ReportCompleted(1, "ex-1"))
            await left.round()
            assert taken(rig) == 0, "a lease ends with what stores its attempt's end"
            assert await until_looked(right)
            await right.round()
            assert words(nodes, ONE_ON) == ["assigned"]
            assert taken(rig) == 1

    async def test_those_that_wait_take_turns_although_one_of_them_is_nearer(self, rig: Rig) -> None:
        async with rig.node("o-1") as left, rig.node("o-2") as right:
            await own_halves(left, right)
            rig.submit(ZERO, concurrency=ONE)
            rig.submit(TWO, concurrency=ONE)
            await left.rounds(2)
            rig.submit(ONE_ON, concurrency=ONE)
            await right.rounds(2)
            rig.send(ZERO, c.ReportCompleted(1, "ex-1"))
            await left.rounds(3)
            assert words([left], TWO) == ["ready"], "the other one has waited for longer"
            rig.send(TWO, c.ExplainTask(), tenant_id="default")
            await left.round()
            [gate] = rig.replies()[-1].data["gates"]
            assert gate["detail"] == "key 'k' is limited to 1 at once; a task that waits for longer goes first"
            assert await until_looked(right)
            await right.round()
            assert words([right], ONE_ON) == ["assigned"]
            rig.send(ONE_ON, c.ReportCompleted(1, "ex-1"))
            await right.round()
            await until_looked(left)
            await left.round()
            assert words([left], TWO) == ["assigned"]

    async def test_who_waits_no_longer_holds_nobody_up(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        async with rig.node("o-1") as left, rig.node("o-2") as right:
            await own_halves(left, right)
            rig.submit(ZERO, concurrency=ONE)
            rig.submit(TWO, concurrency=ONE)
            await left.rounds(2)
            rig.submit(ONE_ON, concurrency=ONE)
            await right.rounds(2)
            rig.send(ONE_ON, c.CancelTask())
            await right.round()
            rig.send(ZERO, c.ReportCompleted(1, "ex-1"))
            await left.rounds(2)
            assert words([left], TWO) == ["ready"]
            monkeypatch.setattr(leases, "CALLED_S", -1.0)
            await until_looked(right)
            await until_looked(right)
            assert await until_looked(left)
            await left.round()
            assert words([left], TWO) == ["assigned"]

    async def test_why_names_holders_of_other_orchestrators_and_since_when(self, rig: Rig) -> None:
        async with rig.node("o-1") as left, rig.node("o-2") as right:
            await own_halves(left, right)
            rig.submit(ZERO, concurrency=ONE)
            await left.round()
            before = datetime.now(UTC)
            rig.submit(ONE_ON, concurrency=ONE)
            await right.rounds(2)
            rig.send(ONE_ON, c.ExplainTask(), tenant_id="default")
            await right.round()
            [gate] = rig.replies()[-1].data["gates"]
            assert (gate["gate"], list(gate["held_by"])) == ("concurrency", [ZERO])
            [lease] = gate["leases"]
            assert lease["task_id"] == ZERO
            assert datetime.fromisoformat(lease["since"]) <= before

    async def test_a_lease_of_a_round_that_was_not_stored_ends_with_the_take_over(self, rig: Rig) -> None:
        """A death between the lease and the transaction of its attempt, of which the put that fails is a stand-in."""
        async with rig.node("o-1") as dying:
            await dying.own(0, 2)
            dying.hear(slots=20)
            rig.submit(ZERO, concurrency=ONE)

            def die(batch: Batch) -> None:
                if batch.events:
                    assert taken(rig) == 1, "a lease is there before its attempt"
                    raise asyncio.CancelledError

            for store in dying.stores:
                store.before_put = die
            with pytest.raises(asyncio.CancelledError):
                await dying.round()
        assert taken(rig) == 1
        async with rig.node("o-2") as heir:
            await heir.own(0)
            assert taken(rig) == 0
            heir.hear(slots=20)
            await heir.rounds(2)
            assert (words([heir], ZERO), taken(rig)) == (["assigned"], 1)

    async def test_leases_of_live_attempts_are_taken_over_and_end_with_them(self, rig: Rig) -> None:
        async with rig.node("o-1") as dying:
            await dying.own()
            dying.hear(slots=20)
            rig.submit(ZERO, concurrency=ONE)
            await dying.rounds(2)
        async with rig.node("o-2") as heir:
            await own_one(heir, 0, 1)
            rig.submit(ONE_ON, concurrency=ONE)
            await heir.rounds(2)
            assert words([heir], ZERO, ONE_ON) == ["assigned", "ready"]
            rig.send(ZERO, c.ReportFailed(1, "ex-1", ErrorInfo("E", "e", retryable=False)))
            await heir.rounds(2)
            assert (words([heir], ZERO, ONE_ON), taken(rig)) == (["failed", "assigned"], 1)

    async def test_the_owner_before_takes_no_lease_and_ends_none(self, rig: Rig) -> None:
        async with rig.node("o-1") as old, rig.node("o-2") as new:
            await old.own(0)
            old.hear(slots=20)
            epochs = old.owner.epochs
            await own_one(new, 0)
            store = rig.open_store(0)
            wish = Wish(ZERO, 1, 0, "default", ((KEY, 1),))
            found = store.take_leases("o-1", epochs, [wish])
            assert (set(found.granted), set(found.fenced)) == (set(), {0})
            rig.submit(ZERO, concurrency=ONE)
            await new.rounds(2)
            assert taken(rig) == 1
            assert not store.settle_leases(0, epochs[0], [])
            assert taken(rig) == 1
            await old.round()
            assert (list(old.owner.partitions), taken(rig)) == ([0], 1), "it takes over anew, as in Kafka's group"

    async def test_a_fenced_round_gives_up_its_leases(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear(slots=20)
            rig.open_store(0).take_over(0)
            rig.submit(ZERO, concurrency=ONE)
            rig.submit(TWO, concurrency={"key": "other", "limit": 1})
            await node.rounds(4)
            assert words([node], ZERO, TWO) == ["assigned", "assigned"]
            assert (taken(rig), taken(rig, Limit("key", "default", "other"))) == (1, 1)

    async def test_places_come_back_however_an_attempt_ends(self, rig: Rig) -> None:
        """As many tasks as ways to end, one after the other, each in the place that the one before gave back."""
        async with rig.node() as node:
            await node.own()
            node.hear(slots=20)
            names = [task_on(n % 4, f"end{n}") for n in range(6)]
            for name in names:
                rig.submit(name, concurrency=ONE, retry={"max_attempts": 1})
            where: Any = (1, "ex-1")
            ends: list[list[c.TaskCommand]] = [
                [c.ReportCompleted(*where)],
                [c.ReportFailed(1, "ex-1", ErrorInfo("E", "e"))],
                [c.ReportDeclined(*where), c.CancelTask()],
                [c.ReportStarted(*where), c.CancelTask(), c.ReportStopped(*where)],
                [c.CancelTask(), c.ReportStopped(*where)],
                [c.ReportCompleted(*where)],
            ]
            for end in ends:
                await node.rounds(2)
                node.hear(slots=20)  # Where it declined it gets nothing before its next heartbeat.
                await node.rounds(2)
                [running] = [name for name in names if words([node], name) == ["assigned"]]
                assert taken(rig) == 1
                for command in end:
                    rig.send(running, command)
            await node.rounds(3)
            assert taken(rig) == 0
            assert all(node.memory.get(name).ended for name in names)  # type: ignore[union-attr]

    async def test_an_executor_that_went_meanwhile_leaves_no_lease(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear(slots=20)
            store = node.stores[0]
            take = store.take_leases

            def restarted(*asked: Any) -> Any:
                found = take(*asked)
                node.hear(incarnation="b", slots=0)
                return found

            monkeypatch.setattr(store, "take_leases", restarted)
            rig.submit(ZERO, concurrency=ONE)
            await node.round()
            assert (words([node], ZERO), taken(rig)) == (["ready"], 0)
            monkeypatch.setattr(store, "take_leases", take)
            node.hear(incarnation="b", slots=1)
            await node.round()
            [assigned] = [each.event for each in rig.stored(ZERO) if isinstance(each.event, AttemptAssigned)]
            assert (assigned.incarnation, taken(rig)) == ("b", 1)

    async def test_a_batch_that_ends_a_lease_is_stored_whole_or_not_at_all(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear(slots=20)
            rig.submit(ZERO, concurrency=ONE)
            await node.rounds(2)
            rig.open_store(0).take_over(0)
            store = rig.open_store(0)
            stale = node.owner.move(0, None)
            with pytest.raises(Fenced):
                store.put(Batch(moves=[stale], ended=node.leases.ended([ended_now(node)])))
            assert taken(rig) == 1

    async def test_tasks_without_limits_ask_for_no_lease(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear(slots=20)

            def asked(*_: Any) -> Any:
                raise AssertionError("a lease was asked for")

            monkeypatch.setattr(node.stores[0], "take_leases", asked)
            rig.submit(ZERO)
            await node.rounds(2)
            rig.send(ZERO, c.ReportCompleted(1, "ex-1"))
            await node.rounds(2)
            assert words([node], ZERO) == ["completed"]


async def own_one(node: Node, *partitions: int) -> None:
    await node.own(*partitions)
    node.hear(slots=20)


def ended_now(node: Node) -> Any:
    state = node.memory.get(ZERO)
    assert state is not None
    return structs.replace(state, live=None)
