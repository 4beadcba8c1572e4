"""Schedules over any pattern of waking up: every due time has exactly one fact."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.entities.commands import FireSchedule, NoteRun, SaveSchedule, ScheduleSpec, TriggerSchedule
from taskloom.domain.entities.due import Timing, due_times
from taskloom.domain.entities.entity import Entity, decide, evolve, next_due
from taskloom.domain.entities.events import RunBuffered, RunsSkipped, RunTriggered
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.entities.schedules import Schedule
from taskloom.domain.envelope import EventMeta
from taskloom.domain.ids import is_valid_id
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.testing.clock import START
from taskloom.wire.recorded import GENESIS, seal

ID = entity_id("schedule", "default", "s")
TASK = {"kind": "echo", "input": {}}


class Life:
    """One schedule; ``facts`` are the events that stand for due times."""

    def __init__(self, **fields: Any) -> None:
        self.state: Entity | None = None
        self.facts: list[Any] = []
        timing = fields.pop("timing", Timing(interval_s=60))
        self.do(SaveSchedule(ScheduleSpec("s", timing, TASK, **fields)), START)

    @property
    def schedule(self) -> Schedule:
        assert self.state is not None
        assert isinstance(self.state.value, Schedule)
        return self.state.value

    def do(self, command: Any, now: datetime) -> None:
        decision = decide(self.state, command, now, Caller(ID, "default", actor="ann"))
        assert not isinstance(decision, Refusal), decision
        for event in decision:
            version = 1 if self.state is None else self.state.version + 1
            meta = EventMeta(ID, version, now, "default", "", "ann")
            recorded = seal(event, meta, GENESIS if self.state is None else self.state.digest)
            self.state = evolve(self.state, recorded)
            if isinstance(event, RunTriggered | RunBuffered | RunsSkipped):
                self.facts.append(event)

    def fire(self, now: datetime) -> None:
        """As the orchestrator does: again while its timer is due."""
        while self.state is not None and (due := next_due(self.state)) is not None and due <= now:
            self.do(FireSchedule(), now)


def stood_for(facts: list[Any], timing: Timing) -> list[datetime]:
    """The due times that the facts stand for, one by one."""
    found: list[datetime] = []
    for fact in facts:
        if isinstance(fact, RunsSkipped):
            if fact.count == 1:
                found.append(fact.first_due_at)
                continue
            between = due_times_until(timing, fact.first_due_at - timedelta(microseconds=1), fact.last_due_at)
            found += between[: fact.count]
        elif not isinstance(fact, RunTriggered) or fact.cause != "buffered":
            found.append(fact.due_at)
    return found


def due_times_until(timing: Timing, after: datetime, last: datetime) -> list[datetime]:
    found = []
    for due in due_times(timing, after):
        if due > last:
            break
        found.append(due)
    return found


@given(
    st.lists(st.floats(1, 1000), min_size=1, max_size=20),
    st.sampled_from(["skip", "buffer_one", "allow", "cancel_other"]),
    st.sampled_from(["none", "last", "all", "window"]),
    st.lists(st.booleans(), min_size=20, max_size=20),
    st.sampled_from([0.0, 30.0]),
)
def test_every_due_time_has_exactly_one_fact_whenever_it_woke_up(
    waits: list[float], overlap: str, catch_up: str, ends: list[bool], jitter_s: float
) -> None:
    life = Life(overlap=overlap, catch_up=catch_up, timing=Timing(interval_s=60, jitter_s=jitter_s))
    now = START
    for wait, ended in zip(waits, ends, strict=False):
        now += timedelta(seconds=wait)
        life.fire(now)
        if ended:
            for run in life.schedule.open_runs:
                life.do(NoteRun(run, "completed"), now)
    due = due_times_until(life.schedule.spec.timing, START, now)
    if life.schedule.next_at is not None:
        due = [each for each in due if each < life.schedule.next_at]
    assert sorted(stood_for(life.facts, life.schedule.spec.timing)) == due
    triggered = [fact.run_id for fact in life.facts if isinstance(fact, RunTriggered)]
    assert len(set(triggered)) == len(triggered)
    assert life.schedule.total_runs == len(triggered)


def test_a_long_outage_with_catch_up_of_all_goes_on_in_bounded_steps() -> None:
    life = Life(overlap="allow", catch_up="all")
    now = START + timedelta(minutes=450)
    life.do(FireSchedule(), now)
    assert len(life.facts) == 100
    life.fire(now)
    assert len(life.facts) == 450
    assert all(isinstance(fact, RunTriggered) for fact in life.facts)


def test_runs_within_the_window_are_caught_up_and_older_ones_skipped() -> None:
    life = Life(overlap="allow", catch_up="window", catch_up_window_s=600)
    life.fire(START + timedelta(hours=2))
    kinds = [type(fact).__name__ for fact in life.facts]
    assert kinds == ["RunsSkipped", *["RunTriggered"] * 11]


def test_one_shot_runs_once_and_has_no_timer_after_it() -> None:
    life = Life(timing=Timing(at=START + timedelta(hours=1)))
    life.fire(START + timedelta(hours=1))
    assert [type(fact).__name__ for fact in life.facts] == ["RunTriggered"]
    assert life.state is not None
    assert next_due(life.state) is None


def run_id(name: str, tenant: str, due: datetime = START) -> str:
    schedule = entity_id("schedule", tenant, name)
    caller = Caller(schedule, tenant, actor="ann")
    save = SaveSchedule(ScheduleSpec("s", Timing(at=due + timedelta(days=1)), TASK))
    [saved] = as_list(decide(None, save, due, caller))
    state = evolve(None, seal(saved, EventMeta(schedule, 1, due, tenant, "", "ann"), GENESIS))
    [triggered] = as_list(decide(state, TriggerSchedule(), due, caller))
    return str(triggered.run_id)


def as_list(decision: Any) -> list[Any]:
    assert not isinstance(decision, Refusal), decision
    return list(decision)


def test_ids_of_runs_are_those_of_one_schedule_alone() -> None:
    long = "s" * 127
    names = ("s", "t", f"{long}1", f"{long}2", f"1{long}", f"2{long}")
    ids = [run_id(name, tenant) for name in names for tenant in ("default", "red", "blue")]
    assert len(set(ids)) == len(ids)
    assert all(is_valid_id(each) for each in ids)
    assert ids[0] == f"s-{START:%Y%m%dT%H%M%S}-manual-1"
    assert ids[1].startswith(f"{ids[0]}-")
