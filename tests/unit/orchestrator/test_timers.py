from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.timers import Timers
from taskloom.testing.clock import START


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_due_tasks_come_earliest_first_and_once() -> None:
    timers = Timers()
    for name, seconds in [("b", 2), ("a", 1), ("c", 3)]:
        timers.set(name, at(seconds))
    assert timers.take_due(at(2), 10) == ["a", "b"]
    assert timers.take_due(at(2), 10) == []
    assert len(timers) == 1


def test_a_round_takes_a_bounded_number() -> None:
    timers = Timers()
    for number in range(5):
        timers.set(f"t{number}", at(number))
    assert len(timers.take_due(at(9), 3)) == 3
    assert len(timers.take_due(at(9), 3)) == 2


def test_a_time_that_was_replaced_or_taken_back_does_not_fire() -> None:
    timers = Timers()
    timers.set("moved", at(1))
    timers.set("moved", at(5))
    timers.set("gone", at(1))
    timers.set("gone", None)
    timers.set("never", None)
    assert timers.take_due(at(4), 10) == []
    assert timers.seconds_to_next(at(4), 100) == 1
    assert timers.take_due(at(5), 10) == ["moved"]
    assert timers.seconds_to_next(at(4), 100) == 100


def test_the_wait_is_never_negative_nor_longer_than_wanted() -> None:
    timers = Timers()
    timers.set("t", at(10))
    assert timers.seconds_to_next(at(0), 3) == 3
    assert timers.seconds_to_next(at(20), 3) == 0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 50)), max_size=3_000), st.integers(0, 50))
def test_what_fires_is_what_was_set_last(changes: list[tuple[str, int | None]], now: int) -> None:
    timers, model = Timers(), dict[str, int | None]()
    for name, due in changes:
        timers.set(name, None if due is None else at(due))
        model[name] = due
    due_now = {name for name, due in model.items() if due is not None and due <= now}
    taken = timers.take_due(at(now), 10)
    assert set(taken) == due_now
    assert len(taken) == len(due_now)


def test_replaced_times_do_not_pile_up() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.set("t", at(number))
    assert len(timers._heap) < 2_000
