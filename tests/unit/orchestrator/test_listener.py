from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from services.orchestrator.announced import Announced
from services.orchestrator.executors import Listener
from services.orchestrator.memory import Memory
from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.task.commands import AssignAttempt, LoseAttempt
from taskloom.domain.task.directives import StopAttempt
from taskloom.testing.memory import InMemoryRecord
from taskloom.wire.messages import ExecutorHeartbeat, LiveAttempt, OrchestratorHeartbeat
from tests.unit.domain.task.lives import FIRE, running


class Heard:
    """A listener and what it asked for."""

    def __init__(self) -> None:
        self.pool = ExecutorPool(1, lost_after_beats=2)
        self.pool.own([0])
        self.announced = Announced()
        self.memory = Memory(1, 10)
        self.lost: list[tuple[str, LoseAttempt]] = []
        self.stopped: list[StopAttempt] = []
        self.caught_up = True
        self.listener = Listener(
            "o-1",
            self.pool,
            self.announced,
            self.memory,
            lambda task_id, command: self.lost.append((task_id, command)),
            self.stopped.append,
            lambda _task_id: self.caught_up,
        )

    def raw(self, value: bytes | None, **options: bool) -> None:
        self.listener.apply(InMemoryRecord("executors", 0, 0, None, value), **options)

    def executor(self, *, history: bool = False, **fields: Any) -> None:
        known = {"executor_id": "ex-1", "incarnation": "a", "status": "ready", "at": datetime.now(UTC), "kinds": ()}
        self.raw(msgspec.json.encode(ExecutorHeartbeat(**{**known, **fields})), history=history)

    def beat(self, instance: str = "o-1") -> None:
        self.raw(msgspec.json.encode(OrchestratorHeartbeat(instance, (), datetime.now(UTC))))

    def offered(self, tenant_id: str) -> tuple[frozenset[str], frozenset[str]]:
        offer = self.announced.of(tenant_id)
        return offer.kinds, offer.queues

    @property
    def known(self) -> list[str]:
        return [standing.offer.executor_id for standing in self.pool.standings()]


def with_running_attempt() -> Heard:
    heard = Heard()
    heard.executor()
    heard.memory.put(running().state)
    heard.pool.lease("ex-1", "a", ("task-1", 1))
    return heard


def test_records_that_cannot_be_read_are_skipped() -> None:
    heard = Heard()
    for value in (None, b"", b"\xff", b"[]", b'{"type": "unknown"}', b"[" * 100_000):
        heard.raw(value)
    heard.executor()
    assert heard.known == ["ex-1"]


def test_beats_of_other_orchestrators_do_not_count_silence() -> None:
    heard = with_running_attempt()
    for _ in range(5):
        heard.beat("o-2")
    assert heard.lost == []
    heard.beat()
    heard.beat()
    assert heard.lost == [("task-1", LoseAttempt(1, "executor ex-1 was not heard of any more"))]


def test_an_executor_that_stops_loses_what_it_left() -> None:
    heard = with_running_attempt()
    heard.executor(status="stopped", incarnation="older")
    assert heard.lost == []
    heard.executor(status="stopped")
    assert heard.lost == [("task-1", LoseAttempt(1, "executor ex-1 stopped"))]
    assert heard.known == []


def test_old_signs_of_life_do_not_bring_the_dead_back() -> None:
    heard = Heard()
    heard.executor(history=True, at=datetime.now(UTC) - timedelta(seconds=60))
    assert heard.known == []
    heard.executor(history=True)
    assert heard.known == ["ex-1"]


def test_what_an_executor_announced_lately_stays_known_while_it_is_away() -> None:
    heard = Heard()
    minutes = timedelta(minutes=1)
    heard.executor(history=True, at=datetime.now(UTC) - 59 * minutes, kinds=("special",), queues=("night",))
    heard.executor(executor_id="ex-2", history=True, at=datetime.now(UTC) - 61 * minutes, kinds=("old",))
    heard.executor(executor_id="ex-3", kinds=("echo",), status="stopped")
    assert heard.known == []
    assert heard.offered("default") == (
        frozenset({"special", "echo"}),
        frozenset({"night", "default"}),
    )


def test_an_executor_that_announces_something_else_is_no_longer_known_for_the_old() -> None:
    heard = Heard()
    heard.executor(kinds=("a",), queues=("x",))
    heard.executor(kinds=("b",), queues=("y",))
    assert heard.offered("default") == (frozenset({"b"}), frozenset({"y"}))


def test_what_a_tenants_agent_offers_is_known_to_its_tenant_alone() -> None:
    heard = Heard()
    heard.executor(kinds=("echo",), queues=("default",))
    heard.executor(executor_id="acme:a", tenant_id="acme", kinds=("secret-kind",), queues=("edge",))
    heard.executor(executor_id="b", tenant_id="default", kinds=("own",), queues=("own",))
    assert heard.offered("acme") == (frozenset({"echo", "secret-kind"}), frozenset({"default", "edge"}))
    assert heard.offered("default") == (frozenset({"echo", "own"}), frozenset({"default", "own"}))
    assert heard.offered("red") == (frozenset({"echo"}), frozenset({"default"}))
    heard.executor(executor_id="acme:a", tenant_id="acme", kinds=("other",), queues=())
    heard.executor(executor_id="acme:b", tenant_id="acme", kinds=("more",), queues=())
    assert heard.offered("acme") == (frozenset({"echo", "other", "more"}), frozenset({"default"}))
    heard.executor(kinds=("echo", "new"), queues=("default",))
    assert heard.offered("acme")[0] == frozenset({"echo", "new", "other", "more"})
    assert heard.offered("default")[0] == frozenset({"echo", "new", "own"})


def test_a_draining_executor_keeps_its_attempts_and_gets_no_more() -> None:
    heard = with_running_attempt()
    heard.executor(status="draining", live=(LiveAttempt("task-1", 1),))
    [standing] = heard.pool.standings()
    assert not standing.offer.ready
    assert standing.leases == {("task-1", 1)}


def test_a_burst_of_heartbeats_without_an_attempt_counts_once() -> None:
    heard = with_running_attempt()
    for _ in range(10):
        heard.executor()
    assert heard.lost == []


def test_an_attempt_that_shows_up_again_is_trusted_anew() -> None:
    heard = with_running_attempt()
    for live in ((), (), (LiveAttempt("task-1", 1),), (), ()):
        heard.beat("o-1")
        heard.executor(live=live)
    assert heard.lost == []


def test_while_commands_wait_nobody_is_lost_or_stopped_for_what_was_not_read() -> None:
    heard = with_running_attempt()
    heard.caught_up = False
    for _ in range(5):
        heard.beat()
        heard.executor(live=(LiveAttempt("other", 3),))
    assert (heard.lost, heard.stopped) == ([], [])


def test_an_attempt_of_a_task_that_nobody_here_knows_is_left_alone() -> None:
    heard = Heard()
    for _ in range(5):
        heard.beat()
        heard.executor(live=(LiveAttempt("foreign", 1),))
    assert heard.stopped == []


def test_a_superseded_attempt_that_still_runs_is_stopped_where_it_runs() -> None:
    heard = Heard()
    task = running()
    task.when(LoseAttempt(1, "silent"))
    task.when(FIRE, after_s=5)
    task.when(AssignAttempt("ex-2", "b"))
    heard.memory.put(task.state)
    for _ in range(3):
        assert heard.stopped == []
        heard.beat()
        heard.executor(live=(LiveAttempt("task-1", 1),))
        heard.executor(executor_id="ex-2", incarnation="b", live=(LiveAttempt("task-1", 2),))
    [stop] = heard.stopped
    assert (stop.task_id, stop.attempt, stop.executor_id, stop.incarnation) == ("task-1", 1, "ex-1", "a")
