"""How fast tasks are paired with executors, and what a waiting one costs: ``python -m tests.bench.scheduler_rate``.

In memory, one process, no I/O. Each measured task goes the way that the orchestrator sends it: seen ready, paired, seen
assigned, seen completed. ``empty``: no more wait than are paired next; ``waiting``: so many more stay in line behind
(or, for ``held``, beside) them. Prints JSON lines; rates are tasks a second
of CPU time (what else the machine does disturbs them less), the best of several runs.
"""

import gc
import inspect
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from msgspec import structs

from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.match import ExecutorOffer
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task.state import LiveAttempt, TaskState
from taskloom.domain.values import Concurrency, TaskSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 500
RUNS = 5
PLAIN = TaskSpec(kind="echo")
LINES = ("a", "b", "c", "d")
_takes_time = "now" in inspect.signature(Scheduler.assign).parameters
"""So that the same script measures the scheduler of an older commit."""


def make_states(spec_of: Callable[[int], TaskSpec], start: int = 0) -> Iterator[TaskState]:
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


def cycle(it: Scheduler, states: dict[str, TaskState], fresh: Iterator[TaskState], tasks: int) -> float:
    """Seconds that ``tasks`` tasks take, in batches; as many come as leave."""
    spent = 0.0
    for _ in range(tasks // BATCH):
        batch = [next(fresh) for _ in range(BATCH)]
        states.update((state.task_id, state) for state in batch)
        now = batch[-1].changed_at
        begun = time.process_time()
        for state in batch:
            it.observe(state)
        made = it.assign(BATCH, now) if _takes_time else it.assign(BATCH)  # type: ignore[call-arg, unused-ignore]
        spent += time.process_time() - begun
        assert len(made) == BATCH, f"only {len(made)} were paired"
        live = []
        for each in made:
            attempt = LiveAttempt(1, each.executor_id, each.incarnation, now)
            live.append(structs.replace(states.pop(each.task_id), phase="assigned", live=attempt, attempts=1))
        done = [structs.replace(state, phase="completed", live=None) for state in live]
        begun = time.process_time()
        for state in live:
            it.observe(state)
        for state in done:
            it.observe(state)
        spent += time.process_time() - begun
    return spent


def one_kind(_number: int) -> TaskSpec:
    return PLAIN


def measure(
    name: str,
    waiting: int,
    spec_of: Callable[[int], TaskSpec] = one_kind,
    held: Callable[[int], TaskSpec] | None = None,
    executors: int = 1,
    tasks: int = 20_000,
) -> dict[str, Any]:
    """``waiting`` tasks stay in line; of the kind ``held`` makes where it is given, else of the measured kind."""
    best, bytes_each = float("inf"), 0.0
    for run in range(RUNS):
        it, states = scheduler(executors), {}
        behind = make_states(held or spec_of, start=10**9 if held is None else 0)
        kept = [next(behind) for _ in range(waiting)]
        if run == 0 and waiting:
            bytes_each = memory_each(executors, kept)
        fresh = make_states(spec_of, start=10**6)
        for state in kept:
            states[state.task_id] = state
            it.observe(state)
        gc.collect()
        gc.freeze()
        best = min(best, cycle(it, states, fresh, tasks))
        gc.unfreeze()
    return {
        "case": name,
        "waiting": waiting,
        "tasks_per_s": round(tasks / best),
        "bytes_per_waiting": round(bytes_each),
    }


def memory_each(executors: int, states: list[TaskState]) -> float:
    """Bytes that the scheduler holds for one waiting task, without the task's state."""
    it = scheduler(executors)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for state in states:
        it.observe(state)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(states)


def tenants(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", tenant_id=f"tenant-{number % 1000}")


def keyed(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", concurrency=Concurrency("one", 1))


def elsewhere(number: int) -> TaskSpec:
    return TaskSpec(kind="shell")


def lines(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", capabilities=(LINES[number % 4],), tenant_id=f"tenant-{number % 2}")


def priorities(number: int) -> TaskSpec:
    return TaskSpec(kind="echo", priority=1 + number % 5)


def main(waiting: int) -> None:
    cases: list[tuple[Any, ...]] = [
        ("one line, one executor", 0),
        ("one line, one executor", waiting),
        ("one line, eight executors", 0, one_kind, None, 8),
        ("beside a line that nobody serves", waiting, one_kind, elsewhere),
        ("beside tasks of one full key", waiting, one_kind, keyed),
        ("1,000 tenants", 0, tenants),
        ("1,000 tenants", waiting, tenants),
        ("five priorities", 0, priorities),
        ("five priorities", waiting, priorities),
        ("four lines of two tenants", 0, lines),
        ("four lines of two tenants", waiting, lines),
    ]
    for case in cases:
        print(json.dumps(measure(*case)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
