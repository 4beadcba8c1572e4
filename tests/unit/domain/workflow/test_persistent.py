"""The frozen queue and timers against a list and a dict."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.workflow.persistent import EMPTY_QUEUE, NO_TIMERS
from taskloom.testing.clock import START

entries = st.sampled_from("abcdef")


@given(st.lists(st.tuples(st.booleans(), entries)))
def test_the_queue_does_what_a_list_does(moves: list[tuple[bool, str]]) -> None:
    queue, model = EMPTY_QUEUE, list[str]()
    for push, entry in moves:
        before = queue
        queue = queue.push(entry) if push else queue.remove(entry)
        if push and entry not in model:
            model.append(entry)
        elif not push and entry in model:
            model.remove(entry)
        assert queue.head == (model[0] if model else None)
        assert len(queue) == len(model)
        assert [queue.by_place[at] for at in sorted(queue.by_place)] == model
        assert (entry in queue) == (entry in model)
        assert before is queue or before != queue


@given(st.lists(st.tuples(st.booleans(), entries, st.integers(0, 5))))
def test_the_first_timer_is_the_earliest_and_of_equal_ones_the_oldest(moves: list[tuple[bool, str, int]]) -> None:
    timers, model = NO_TIMERS, dict[str, tuple[int, int]]()
    for turn, (put, path, second) in enumerate(moves):
        timers = timers.set(path, START + timedelta(seconds=second)) if put else timers.clear(path)
        if put:
            model[path] = (second, turn)
        else:
            model.pop(path, None)
        first = min(model, key=lambda one: model[one], default=None)
        assert (timers.first.path if timers.first else None) == first


def test_a_deep_heap_is_no_trouble() -> None:
    timers = NO_TIMERS
    for second in range(100_000, 0, -1):
        timers = timers.set(str(second), START + timedelta(seconds=second))
    for second in range(1, 100_001):
        assert timers.first is not None
        assert timers.first.path == str(second)
        timers = timers.clear(str(second))
    assert timers.first is None
