"""What is added up, and how two sums become one. All whole numbers, so that no order of adding changes a digit."""

from typing import Final

from msgspec import Struct


class HourKey(Struct, frozen=True, order=True, array_like=True):
    """``hour`` counts hours since 1970 in UTC. ``executor_id`` is empty for what no executor had a hand in."""

    tenant_id: str
    hour: int
    kind: str
    executor_id: str


class Hour(Struct):
    """What happened within an hour. Durations are in microseconds.

    Tasks: how those ended that ended; ``timed`` completed ones ran for ``duration_us`` from their first start.
    ``sla_met`` ended by their deadline, ``sla_violated`` were open when it passed. Attempts: how they ended, with the
    run time of the completed ones; ``waits`` is what attempts that started had waited in their queue.
    Resources: of the ``measured`` attempts that were sampled, what they used together and at the highest.
    Workflows: ``runs`` that started, with the steps of their plans.
    """

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    timed: int = 0
    duration_us: int = 0
    duration_max_us: int = 0
    duration_min_us: int | None = None
    sla_met: int = 0
    sla_violated: int = 0
    attempts_completed: int = 0
    attempts_failed: int = 0
    attempts_timed_out: int = 0
    attempts_lost: int = 0
    attempts_cancelled: int = 0
    attempts_timed: int = 0
    attempts_us: int = 0
    attempts_max_us: int = 0
    waits: int = 0
    wait_us: int = 0
    wait_max_us: int = 0
    measured: int = 0
    measured_us: int = 0
    samples: int = 0
    cpu_us: int = 0
    cpu_peak_milli: int = 0
    memory_kb: int = 0
    memory_peak_kb: int = 0
    runs: int = 0
    run_steps: int = 0

    @property
    def ended(self) -> int:
        return self.completed + self.failed + self.cancelled + self.timed_out

    @property
    def attempts(self) -> int:
        return (
            self.attempts_completed
            + self.attempts_failed
            + self.attempts_timed_out
            + self.attempts_lost
            + self.attempts_cancelled
        )


FIELDS: Final[tuple[str, ...]] = Hour.__struct_fields__
LARGEST: Final = frozenset({"duration_max_us", "attempts_max_us", "wait_max_us", "cpu_peak_milli", "memory_peak_kb"})
SMALLEST: Final = frozenset({"duration_min_us"})


def add(into: Hour, other: Hour) -> None:
    """``into`` becomes the sum of both."""
    for name in FIELDS:
        mine, others = getattr(into, name), getattr(other, name)
        if name in LARGEST:
            setattr(into, name, max(mine, others))
        elif name in SMALLEST:
            setattr(into, name, others if mine is None else mine if others is None else min(mine, others))
        else:
            setattr(into, name, mine + others)


class SecondKey(Struct, frozen=True, order=True, array_like=True):
    """``second`` counts seconds since 1970."""

    tenant_id: str
    second: int


class Second(Struct):
    """What happened within a second. ``running`` is how many tasks more were running at its end than at its beginning.
    ``failed`` tasks are those that timed out too; ``timed`` and ``duration_us`` are of completed ones."""

    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed: int = 0
    duration_us: int = 0
    sla_violated: int = 0


SECOND_FIELDS: Final[tuple[str, ...]] = Second.__struct_fields__
