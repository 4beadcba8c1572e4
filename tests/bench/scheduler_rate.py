"""How fast tasks are paired with executors while many wait, and what a waiting one costs.

``python -m tests.bench.scheduler_rate [waiting]``; also part of ``make bench``. In memory, one process, no I/O. Each
measured task goes the way that the orchestrator sends it: seen ready, paired, seen assigned, seen completed. For each
shape of work two schedulers take turns within one run: with the empty one no more wait than are paired next, with the
other one so many more stay behind. So what else the machine does meets both, and ``percent`` compares like with like:
it is the median over the turns. Rates are tasks a second of CPU time, the best of the turns.
"""

import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct, structs

from services.orchestrator.memory import Memory
from taskloom.domain.envelope import EventMeta
from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.match import ExecutorOffer
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.decide import decide
from taskloom.domain.task.evolve import evolve
from taskloom.domain.task.state import LiveAttempt, TaskState
from taskloom.domain.values import Concurrency, TaskSpec
from taskloom.wire.recorded import GENESIS, seal

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 500
TURNS = 15
TURN = 2_500
PLAIN = TaskSpec(kind="echo")
PER_KEY = BATCH // 100
LINES = ("a", "b", "c", "d")

SpecOf = Callable[[int], TaskSpec]


class Shape(Struct):
    """``spec_of`` makes the tasks that are measured and, where ``behind`` makes no others, those that wait. ``holding``
    makes ``holders`` tasks that run elsewhere all the time, beside both schedulers."""

    name: str
    spec_of: SpecOf
    behind: SpecOf | None = None
    executors: int = 1
    holding: SpecOf = lambda number: PLAIN
    holders: int = 0


def make_states(spec_of: SpecOf, start: int = 0) -> Iterator[TaskState]:
    for number in count(start):
        at = START + timedelta(milliseconds=number)
        yield TaskState(f"task-{number:012}", 1, b"", spec_of(number), "", at, at, queued_at=at)


def scheduler(executors: int = 1, slots: int = BATCH) -> Scheduler:
    pool = ExecutorPool(partitions=1)
    pool.own([0])
    serves: dict[str, Any] = {
        "kinds": frozenset({"echo"}),
        "queues": frozenset({"default"}),
        "capabilities": frozenset(LINES),
    }
    for number in range(executors):
        pool.hear(ExecutorOffer(f"ex-{number}", "a", **serves, slots=slots))
    return Scheduler(pool)


class Side:
    """One scheduler, with its tasks."""

    def __init__(self, shape: Shape, waiting: int) -> None:
        self.it = scheduler(shape.executors)
        holding = make_states(shape.holding, start=2 * 10**6)
        self.states: dict[str, TaskState] = {}
        for state in (next(holding) for _ in range(shape.holders)):
            live = LiveAttempt(1, "elsewhere", "a", START)
            self.it.observe(structs.replace(state, phase="running", live=live, attempts=1))
        self.fresh = make_states(shape.spec_of, start=10**6)
        behind = make_states(shape.behind or shape.spec_of)
        for state in (next(behind) for _ in range(waiting)):
            self.states[state.task_id] = state
            self.it.observe(state)

    def turn(self) -> float:
        """Seconds of CPU that a turn's tasks take, in batches; as many come as leave."""
        return sum(self._batch() for _ in range(TURN // BATCH))

    def _batch(self) -> float:
        it, states = self.it, self.states
        batch = [next(self.fresh) for _ in range(BATCH)]
        states.update((state.task_id, state) for state in batch)
        now = batch[-1].changed_at
        begun = time.process_time()
        for state in batch:
            it.observe(state)
        made = it.assign(BATCH, now)
        spent = time.process_time() - begun
        live = []
        for each in made:
            attempt = LiveAttempt(1, each.executor_id, each.incarnation, now)
            live.append(structs.replace(states.pop(each.task_id), phase="assigned", live=attempt, attempts=1))
        done = [structs.replace(state, phase="completed", live=None) for state in live]
        assert len(made) == BATCH, f"only {len(made)} were paired"
        begun = time.process_time()
        for state in live:
            it.observe(state)
        for state in done:
            it.observe(state)
        return spent + time.process_time() - begun


def measure(shape: Shape, waiting: int) -> dict[str, Any]:
    empty, full = Side(shape, 0), Side(shape, waiting)
    gc.collect()
    gc.freeze()
    pairs = [(empty.turn(), full.turn()) for _ in range(TURNS)][1:]
    gc.unfreeze()
    return {
        "figure": f"dispatch with {waiting:,} waiting: {shape.name}",
        "percent": round(100 * statistics.median(one / other for one, other in pairs)),
        "tasks_per_s": round(TURN / min(other for _, other in pairs)),
        "empty_tasks_per_s": round(TURN / min(one for one, _ in pairs)),
        "bytes_per_waiting": round(bytes_each(shape, waiting)),
        "target": ">= 80 % of an empty queue's rate",
    }


def bytes_each(shape: Shape, waiting: int) -> float:
    """Bytes that the scheduler holds for one waiting task, without the task's state."""
    behind = make_states(shape.behind or shape.spec_of)
    states = [next(behind) for _ in range(waiting)]
    it = scheduler(shape.executors)

    def observe_all() -> None:
        for state in states:
            it.observe(state)

    return _traced(observe_all) / waiting


def whole_bytes_each(waiting: int) -> float:
    """Bytes that an orchestrator holds for one waiting task: its state as made from its events, and its place."""
    it, memory = scheduler(), Memory(partitions=1, ended_kept=100)

    def submit_all() -> None:
        for number in range(waiting):
            memory.put(_submitted(number))
            it.observe(memory.get(f"task-{number:012}"))  # type: ignore[arg-type]

    return _traced(submit_all) / waiting


def _submitted(number: int) -> TaskState:
    """A task as it comes in by Kafka, with an input of its own."""
    body = msgspec.json.encode({"kind": "echo", "input": {"value": number}, "name": f"number {number}"})
    command = msgspec.json.decode(body, type=SubmitTask)
    caller = Caller(f"task-{number:012}", "default", f"command-{number}", "bench")
    state: TaskState | None = None
    events = decide(None, command, START, caller)
    assert isinstance(events, list)
    for version, event in enumerate(events, start=1):
        meta = EventMeta(caller.task_id, version, START, caller.tenant_id, caller.command_id, caller.actor)
        state = evolve(state, seal(event, meta, GENESIS if state is None else state.digest))
    assert state is not None
    return state


def _traced(fill: Callable[[], None]) -> int:
    """Bytes that are held after ``fill`` and were not before."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    fill()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


def one_kind(_number: int) -> TaskSpec:
    return PLAIN


def five_priorities(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", priority=1 + number % 5)


def tenants(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", tenant_id=f"tenant-{number % 100}")


def mixed(number: int) -> TaskSpec:
    """Five priorities, ten tenants, every third with one of 50 keys that have room."""
    key = None if number % 3 else Concurrency(f"key-{number % 50}", BATCH)
    return TaskSpec(kind="echo", priority=1 + number % 5, tenant_id=f"tenant-{number % 10}", concurrency=key)


def of_1000_keys(number: int) -> TaskSpec:
    """The measured ones have one of 100 keys with room, those behind one of these or of 900 that are held."""
    key = number % (100 if number >= 10**6 else 1000)
    return TaskSpec(kind="echo", concurrency=Concurrency(f"key-{key}", PER_KEY))


def holding_keys(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", concurrency=Concurrency(f"key-{100 + number % 900}", PER_KEY))


def deadlines(number: int) -> TaskSpec:
    """None, in half an hour, in half a day, in a week."""
    seconds = (None, 1800, 43_200, 604_800)[number % 4]
    at = START + timedelta(milliseconds=number)
    return TaskSpec(kind="echo", deadline=None if seconds is None else at + timedelta(seconds=seconds))


def half_nowhere(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", capabilities=("unheard-of",)) if number % 2 and number < 10**6 else PLAIN


def four_lines(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", capabilities=(LINES[number % 4],), tenant_id=f"tenant-{number % 2}")


SHAPES = (
    Shape("one line", one_kind),
    Shape("one line, eight executors", one_kind, executors=8),
    Shape("five priorities", five_priorities),
    Shape("100 tenants", tenants),
    Shape("four lines of two tenants", four_lines),
    Shape("five priorities, ten tenants, 50 keys", mixed),
    Shape("1,000 keys, 900 of them held", of_1000_keys, holding=holding_keys, holders=900 * PER_KEY),
    Shape("mixed deadlines", deadlines),
    Shape("half need a capability that nobody has", one_kind, half_nowhere),
)


def measure_memory(waiting: int) -> dict[str, Any]:
    return {
        "figure": f"an orchestrator's memory for a waiting task, of {waiting:,}",
        "bytes": round(whole_bytes_each(waiting)),
        "target": "",
    }


def main(waiting: int) -> None:
    for shape in SHAPES:
        print(json.dumps(measure(shape, waiting)), flush=True)
    print(json.dumps(measure_memory(waiting)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
