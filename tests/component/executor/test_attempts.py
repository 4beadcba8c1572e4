"""All attempts of an executor over an in-memory Kafka: what is taken, declined, held, stopped and reported."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from services.executor.attempt import Tools
from services.executor.attempts import Attempts
from services.executor.kinds.calling import Threads
from services.executor.kinds.echo import Echo
from services.executor.kinds.python import Python
from services.executor.kinds.query import Query
from services.executor.kinds.sleep import Sleep
from services.executor.models.offline import Offline
from services.executor.outbox import Outbox
from services.executor.processes import Guardian
from services.executor.reports import Reporter
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord
from taskloom.domain.task.directives import PauseAttempt, RecallAttempt, ResumeAttempt, RunAttempt, StopAttempt
from taskloom.kinds import Context, Handler, Outcome, TaskError, function
from taskloom.store.errors import ClaimMissing, StoreUnavailable
from taskloom.testing.eventually import eventually
from taskloom.wire.claims import claim, claimed_digest
from taskloom.wire.commands import decode_command


class Kafka:
    def __init__(self) -> None:
        self.away = False
        self.calls: list[list[OutRecord]] = []

    async def publish(self, records: Sequence[OutRecord]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise BusUnavailable
        self.calls.append(list(records))


class Store:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.stored: list[bytes] = []
        self.away = 0

    async def put(self, value: bytes) -> str:
        if self.away:
            self.away -= 1
            raise StoreUnavailable
        self.stored.append(value)
        return "0" * 64

    async def resolve(self, value: Any) -> Any:
        digest = claimed_digest(value) or ""
        if digest not in self.values:
            raise ClaimMissing(digest)
        return self.values[digest]


class Gate(Handler):
    """Runs until the test opens it; ignores a cancel as often as it is told to."""

    kind = "gate"

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.ignores = 0
        self.error: BaseException | None = None
        self.outcome = Outcome("opened")

    async def run(self, ctx: Context) -> Outcome:
        while True:
            try:
                await self.opened.wait()
                break
            except asyncio.CancelledError:
                if self.ignores <= 0:
                    raise
                self.ignores -= 1
        await ctx.checkpoint("gate")
        if self.error is not None:
            raise self.error
        return self.outcome


class Beating(Handler):
    """Says that it lives, or only writes, for as long as the test likes."""

    kind = "beating"

    async def run(self, ctx: Context) -> Outcome:
        while ctx.input["for"]:
            ctx.input["for"] -= 1
            await ctx.write(".") if ctx.input.get("writes") else await ctx.heartbeat(0.5)
            await asyncio.sleep(0.02)
        if ctx.input.get("then_silent"):
            await asyncio.sleep(60)
        return Outcome("beaten")


class Room:
    def __init__(self, *, slots: int = 2, prefetch: int = 1) -> None:
        self.kafka, self.store, self.gate = Kafka(), Store(), Gate()
        self.reports = Outbox(self.kafka, name="reports", max_records=1000, max_bytes=10**8)
        self.outputs = Outbox(self.kafka, name="outputs", max_records=1000, max_bytes=10**8)
        reporter = Reporter(self.reports, topic="commands", partitions=4, executor_id="x")
        tools = Tools(reporter, self.outputs, "outputs", 4, Guardian(), 0.05)
        handlers: list[Handler] = [self.gate, Beating(), Echo(), Sleep(), Query(Offline()), Python(Threads(2), ())]
        self.refuses = ""
        self.attempts = Attempts(
            *(tools, {handler.kind: handler for handler in handlers}, self.store),
            slots=slots,
            prefetch=prefetch,
            refuses=lambda: self.refuses,
        )
        self.senders = [asyncio.create_task(box.run()) for box in (self.reports, self.outputs)]

    async def close(self) -> None:
        """Returns when all attempts have ended and all is sent."""
        self.kafka.away = False
        self.gate.opened.set()
        for box in (self.reports, self.outputs):
            box.close()
        await asyncio.wait_for(asyncio.gather(*self.senders), 10)

    def order(self, task_id: str, kind: str = "gate", given: dict[str, Any] | None = None, **fields: Any) -> RunAttempt:
        order = RunAttempt(task_id, fields.pop("attempt", 1), "x", "i", kind, given or {}, **fields)
        self.attempts.handle(order)
        return order

    def stop(self, task_id: str, grace_s: float = 0.05) -> None:
        self.attempts.handle(StopAttempt(task_id, 1, "x", "i", grace_s))

    def pause(self, task_id: str) -> None:
        self.attempts.handle(PauseAttempt(task_id, 1, "x", "i"))

    def resume(self, task_id: str) -> None:
        self.attempts.handle(ResumeAttempt(task_id, 1, "x", "i"))

    def told(self, task_id: str) -> list[Any]:
        """Reports of a task that Kafka has."""
        envelopes = [
            decode_command(record.key, record.value, record.headers, fallback_id="none")
            for call in self.kafka.calls
            for record in call
            if record.topic == "commands" and record.key == task_id.encode()
        ]
        return [envelope.command for envelope in envelopes]

    def names(self, task_id: str) -> list[str]:
        return [type(report).__name__.removeprefix("Report") for report in self.told(task_id)]

    async def until(self, task_id: str, name: str, timeout_s: float = 60) -> Any:
        """The first report of that name."""
        await eventually(lambda: name in self.names(task_id), timeout_s, 0.005)
        return next(report for report in self.told(task_id) if type(report).__name__ == f"Report{name}")


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    made = Room()
    yield made
    await made.close()


async def test_start_and_end_of_a_fast_task_travel_in_one_call(room: Room) -> None:
    room.order("t", "echo", {"a": 1})
    done = await room.until("t", "Completed")
    assert (done.result, done.response) == ('{"a":1}', {"a": 1})
    assert [len(call) for call in room.kafka.calls] == [2]


async def test_an_echo_fails_as_often_as_it_is_asked_to(room: Room) -> None:
    room.order("t", "echo", {"fail_times": 1})
    assert (await room.until("t", "Failed")).error.retryable
    room.order("t", "echo", {"fail_times": 1}, attempt=2)
    await room.until("t", "Completed")


async def test_while_new_work_is_refused_what_runs_and_what_waits_goes_on(room: Room) -> None:
    for name in ("runs", "runs-too", "waits"):
        room.order(name)
    room.refuses = "draining"
    room.order("new")
    room.order("runs")  # a repeat of what is here is no new work
    assert (await room.until("new", "Declined")).reason == "draining"
    room.refuses = ""
    room.gate.opened.set()
    for name in ("runs", "runs-too", "waits"):
        await room.until(name, "Completed")
    room.order("later")
    await room.until("later", "Completed")


async def test_what_is_over_the_slots_waits_and_what_is_over_the_prefetch_is_declined(room: Room) -> None:
    for task_id in ("a", "b", "c", "d"):
        room.order(task_id)
    assert (await room.until("d", "Declined")).reason == "full"
    assert len(room.attempts.running) == 2
    assert {live.task_id for live in room.attempts.live()} == {"a", "b", "c"}
    assert room.names("c") == []
    room.gate.opened.set()
    await room.until("c", "Completed")


async def test_an_assignment_that_comes_twice_is_run_once(room: Room) -> None:
    room.order("t")
    room.order("t")
    room.gate.opened.set()
    await room.until("t", "Completed")
    room.order("t")
    room.order("other", "echo")
    await room.until("other", "Completed")
    assert room.names("t") == ["Started", "Completed"]


async def test_an_unknown_kind_fails_for_good_and_names_the_known_ones(room: Room) -> None:
    room.order("t", "teleport")
    error = (await room.until("t", "Failed")).error
    assert (error.type, error.retryable) == ("unknown_kind", False)
    assert "echo" in error.message


async def test_any_exception_becomes_a_retryable_error_with_its_traceback(room: Room) -> None:
    room.gate.error = KeyError("missing")
    room.order("t")
    room.gate.opened.set()
    error = (await room.until("t", "Failed")).error
    assert (error.type, error.retryable) == ("KeyError", True)
    assert "KeyError: 'missing'" in error.details["traceback"]


async def test_a_task_error_keeps_its_type_and_a_result_that_is_not_json_is_said(room: Room) -> None:
    room.gate.error = TaskError("quota", "no more", retryable=False, details={"left": 0})
    room.order("a")
    room.gate.opened.set()
    error = (await room.until("a", "Failed")).error
    assert (error.type, error.message, error.retryable, error.details) == ("quota", "no more", False, {"left": 0})
    room.gate.error, room.gate.outcome = None, Outcome(response=object())
    room.order("b")
    assert (await room.until("b", "Failed")).error.type == "result_not_json"


async def test_an_attempt_over_its_time_is_stopped_and_reported_as_timed_out(room: Room) -> None:
    room.order("t", start_to_close_s=0.05)
    late = await room.until("t", "TimedOut")
    assert (late.timeout, late.limit_s) == ("start_to_close", 0.05)
    assert not room.attempts.running


async def test_a_handler_that_ignores_its_cancel_is_only_reported_once_it_has_ended(room: Room) -> None:
    room.gate.ignores = 1
    room.order("t")
    await room.until("t", "Started")
    room.stop("t")
    await room.until("t", "StopSignalled")
    await room.until("t", "Stopped")
    assert room.names("t") == ["Started", "StopSignalled", "StopSignalled", "Stopped"]
    assert [report.stage for report in room.told("t")[1:3]] == ["signalled", "escalated"]


async def test_a_silent_attempt_times_out_by_its_heartbeat_limit(room: Room) -> None:
    room.order("t", "beating", {"for": 3, "then_silent": True}, heartbeat_s=0.15)
    late = await room.until("t", "TimedOut")
    assert (late.timeout, late.limit_s) == ("heartbeat", 0.15)


@pytest.mark.parametrize("writes", [True, False])
async def test_heartbeats_and_output_keep_an_attempt_alive_and_are_reported_sparingly(room: Room, writes: bool) -> None:
    room.order("t", "beating", {"for": 25, "writes": writes}, heartbeat_s=0.15)
    await room.until("t", "Completed")
    beats = room.names("t").count("Heartbeat")
    assert 1 <= beats <= 13


async def test_a_pause_holds_at_the_checkpoint_and_held_time_does_not_count(room: Room) -> None:
    room.order("t", start_to_close_s=0.4)
    await room.until("t", "Started")
    room.pause("t")
    room.gate.opened.set()
    assert (await room.until("t", "Paused")).checkpoint == "gate"
    key = ("t", 1)
    await eventually(lambda: _held_s(room, key) > 0.5, interval_s=0.01)
    assert key in room.attempts.running
    room.resume("t")
    await room.until("t", "Completed")


def _held_s(room: Room, key: tuple[str, int]) -> float:
    since = room.attempts.running[key]._held_since
    return 0.0 if since is None else asyncio.get_running_loop().time() - since


async def test_a_pause_takes_effect_in_the_middle_of_a_sleep_and_the_rest_is_slept_later(room: Room) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    room.order("t", "sleep", {"seconds": 1.0})
    await room.until("t", "Started")
    room.pause("t")
    await room.until("t", "Paused")
    paused_at = loop.time()
    room.resume("t")
    await room.until("t", "Completed")
    assert paused_at - began < 0.9
    assert loop.time() - began >= 0.99


async def test_a_paused_task_can_be_cancelled(room: Room) -> None:
    room.order("t", "sleep", {"seconds": 60})
    await room.until("t", "Started")
    room.pause("t")
    await room.until("t", "Paused")
    room.stop("t")
    await room.until("t", "Stopped")


async def test_a_waiting_attempt_is_handed_back_on_pause_and_confirmed_on_cancel(room: Room) -> None:
    for task_id in ("a", "b", "c"):
        room.order(task_id)
    room.pause("c")
    assert (await room.until("c", "Declined")).reason == "paused"
    room.order("d")
    room.stop("d")
    await room.until("d", "Stopped")
    assert room.names("d") == ["Stopped"]
    assert room.attempts.waiting == 0


async def test_only_an_attempt_that_has_not_started_is_recalled(room: Room) -> None:
    for task_id in ("a", "b", "c"):
        room.order(task_id)
    for task_id in ("a", "c", "ghost"):
        room.attempts.handle(RecallAttempt(task_id, 1, "ex", "inc"))
    assert (await room.until("c", "Declined")).reason == "recalled"
    assert len(room.attempts.running) == 2
    room.gate.opened.set()
    await room.until("a", "Completed")
    assert "Declined" not in room.names("a") + room.names("ghost")


async def test_a_cancel_of_an_attempt_that_is_not_here_is_confirmed(room: Room) -> None:
    room.stop("ghost")
    assert (await room.until("ghost", "Stopped")).attempt == 1


async def test_a_thread_is_waited_for_before_its_end_is_confirmed(room: Room) -> None:
    let_go = threading.Event()

    @function(name="tests.component:hold")
    def hold() -> str:
        let_go.wait(10)
        return "done"

    room.order("t", "python", {"function": "tests.component:hold"})
    await room.until("t", "Started")
    room.stop("t", grace_s=0.05)
    await eventually(lambda: room.names("t").count("StopSignalled") == 2)
    assert "Stopped" not in room.names("t")
    assert ("t", 1) in room.attempts.running
    let_go.set()
    await room.until("t", "Stopped")


async def test_reports_are_kept_while_kafka_is_away_and_the_attempt_stays_alive_until_its_end_is_known(
    room: Room,
) -> None:
    room.kafka.away = True
    for number in range(50):
        room.order(f"t{number}", "echo", {"n": number})
    assert len(room.reports) == 100
    assert len(room.attempts.live()) == 50
    room.kafka.away = False
    await eventually(lambda: all(room.names(f"t{number}") == ["Started", "Completed"] for number in range(50)))
    assert room.attempts.live() == ()


async def test_draining_hands_back_what_waits_and_lets_what_runs_finish(room: Room) -> None:
    for task_id in ("a", "b", "c"):
        room.order(task_id)
    draining = asyncio.create_task(room.attempts.drain(5))
    assert (await room.until("c", "Declined")).reason == "draining"
    room.order("d")
    assert (await room.until("d", "Declined")).reason == "draining"
    room.gate.opened.set()
    await asyncio.wait_for(draining, 60)
    await room.until("a", "Completed")
    await room.until("b", "Completed")


async def test_what_does_not_finish_in_the_drain_is_stopped_and_fails_retryably(room: Room) -> None:
    room.order("t")
    await asyncio.wait_for(room.attempts.drain(0.05), 60)
    error = (await room.until("t", "Failed")).error
    assert (error.type, error.retryable) == ("executor_stopped", True)


async def test_a_thread_that_never_ends_does_not_hold_the_drain_and_is_reported(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.executor.attempts.END_S", 0.2)
    let_go = threading.Event()

    @function(name="tests.component:stuck")
    def stuck() -> None:
        let_go.wait(30)

    room.order("t", "python", {"function": "tests.component:stuck"})
    await room.until("t", "Started")
    await asyncio.wait_for(room.attempts.drain(0.05), 60)
    assert (await room.until("t", "Failed")).error.type == "executor_stopped"
    let_go.set()
    await asyncio.sleep(0)
    assert room.names("t").count("Failed") == 1


async def test_a_claimed_input_is_followed_and_a_missing_one_fails_for_good(room: Room) -> None:
    room.store.values["a" * 64] = {"big": "value"}
    room.order("t", "echo", claim("a" * 64, 100_000))
    assert (await room.until("t", "Completed")).response == {"big": "value"}
    room.order("u", "echo", claim("b" * 64, 100_000))
    error = (await room.until("u", "Failed")).error
    assert (error.type, error.retryable) == ("claim_lost", False)


async def test_a_large_result_becomes_a_claim_even_when_the_store_was_away(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.executor.claims.RETRY_S", 0.01)
    room.store.away = 2
    room.order("t", "echo", {"big": "x" * 100_000})
    done = await room.until("t", "Completed")
    assert claimed_digest(done.response) == "0" * 64
    assert done.result.startswith('{"$claim"')
    assert b"x" * 100_000 in room.store.stored[0]


async def test_a_result_over_sixteen_mebibytes_fails_with_a_clear_error(room: Room) -> None:
    room.gate.outcome = Outcome(response="x" * (17 * 1024 * 1024))
    room.gate.opened.set()
    room.order("t")
    error = (await room.until("t", "Failed")).error
    assert (error.type, error.retryable) == ("result_too_large", False)
    assert "16777216" in error.message


async def test_a_large_error_is_cut_to_size(room: Room) -> None:
    room.gate.error = TaskError("large", "m" * 100_000, details={"x": "y" * 100_000})
    room.gate.opened.set()
    room.order("t")
    error = (await room.until("t", "Failed")).error
    assert len(error.message) == 4_000
    assert "left_out" in error.details


async def test_the_offline_assistant_streams_its_answer_and_says_what_it_is(room: Room) -> None:
    room.order("t", "query", query="What is the weather like in the mountains today? " * 5)
    done = await room.until("t", "Completed")
    assert "offline" in done.result
    assert (done.usage.model, done.usage.input_tokens) == ("taskloom-offline", 45)
    chunks = [record for call in room.kafka.calls for record in call if record.topic == "outputs"]
    assert len(chunks) == done.output.chunks >= 3
