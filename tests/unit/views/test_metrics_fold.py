"""Sums of the metrics against a recount from the whole histories, by other code."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.envelope import Recorded
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.values import ErrorInfo, OutputSummary, ResourceUse
from taskloom.testing.histories import FIRST_CHANGE, START, STEPS, TaskLife, varied_submission
from taskloom.views.attempts.fold import attempts
from taskloom.views.metrics.fold import Tally
from taskloom.views.metrics.sums import FIELDS, Hour, HourKey, add
from taskloom.views.task_executions.fold import fold
from taskloom.views.task_executions.row import Row

lives = st.lists(
    st.tuples(st.integers(0, 100), st.lists(st.integers(0, 200), max_size=30), st.integers(0, 7_000)), max_size=6
)


def tally_of(histories: Sequence[Sequence[Recorded]]) -> tuple[Tally, list[Row]]:
    tally, rows = Tally(), []
    for history in histories:
        row: Row | None = None
        for recorded in history:
            before, row = row, fold(row, recorded)
            tally.count(before, recorded, row)
        if row is not None:
            rows.append(row)
    return tally, rows


def whole(tally: Tally) -> Hour:
    found = Hour()
    for hour in tally.hours.values():
        add(found, hour)
    return found


def hour_of(at: datetime) -> int:
    return int(at.timestamp()) // 3600


def life_of(number: int, submission: int, steps: list[int], later_s: int) -> TaskLife:
    life = TaskLife(f"task-{number}", varied_submission(submission), at=START + timedelta(seconds=later_s))
    for step in steps:
        if step % STEPS < FIRST_CHANGE:  # What a retry adds is told below.
            life.step(step)
    return life


@given(lives)
def test_sums_are_what_a_recount_of_the_histories_gives(chosen: list[tuple[int, list[int], int]]) -> None:
    histories = [life_of(number, *choice).recorded for number, choice in enumerate(chosen)]
    tally, rows = tally_of(histories)
    ended = [row for row in rows if row.completed_at is not None]
    tries = [tried for history in histories for tried in attempts(history) if tried.executor_id]
    over = [tried for tried in tries if tried.completed_at is not None and tried.status != "declined"]

    by_hour: Counter[tuple[int, str]] = Counter()
    for row in ended:
        assert row.completed_at is not None
        by_hour[hour_of(row.completed_at), row.status] += 1
    names = {"completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED", "timed_out": "TIMEOUT"}
    counted = Counter(
        {(key.hour, word): 0 for key in tally.hours for word in names.values()},
    )
    for key, hour in tally.hours.items():
        for name, word in names.items():
            counted[key.hour, word] += getattr(hour, name)
    assert +counted == +by_hour

    total = whole(tally)
    done = [row for row in ended if row.status == "COMPLETED" and row.started_at is not None]
    took = [(row.completed_at - row.started_at) // timedelta(microseconds=1) for row in done]  # type: ignore[operator]
    assert (total.timed, total.duration_us, total.duration_max_us) == (len(took), sum(took), max(took, default=0))
    assert total.duration_min_us == min(took, default=None)
    statuses = Counter(tried.status for tried in over)
    assert (
        total.attempts_completed,
        total.attempts_failed,
        total.attempts_timed_out,
        total.attempts_lost,
        total.attempts_cancelled,
    ) == tuple(statuses[word] for word in ("completed", "failed", "timeout", "lost", "cancelled"))
    assert total.waits == sum(tried.started_at is not None for tried in tries)
    assert total.sla_met + total.sla_violated == sum(
        row.deadline is not None and (row.completed_at is not None or row.overdue) for row in rows
    )
    assert sum(second.running for second in tally.seconds.values()) == sum(row.status == "RUNNING" for row in rows)
    assert sum(second.completed for second in tally.seconds.values()) == total.completed
    assert sum(second.failed for second in tally.seconds.values()) == total.failed + total.timed_out


@given(lives)
def test_order_of_tasks_and_of_batches_changes_nothing(chosen: list[tuple[int, list[int], int]]) -> None:
    histories = [life_of(number, *choice).recorded for number, choice in enumerate(chosen[:3])]
    first, _ = tally_of(histories)
    for order in permutations(histories):
        assert tally_of(order)[0] == first
    in_batches = Tally()
    for history in histories:
        for key, hour in tally_of([history])[0].hours.items():
            add(in_batches.hours.setdefault(key, Hour()), hour)
    assert in_batches.hours == first.hours


def test_an_end_that_a_retry_took_back_counts_beside_the_one_that_followed() -> None:
    life = TaskLife("t", c.SubmitTask(kind="echo")).start()
    life.fail(retryable=False).do(c.RetryTask(), after_s=600).start().complete()
    tally, [row] = tally_of([life.recorded])
    total = whole(tally)
    assert (total.failed, total.completed, total.attempts_failed, total.attempts_completed) == (1, 1, 1, 1)
    assert total.duration_us < 600_000_000
    assert row.status == "COMPLETED"


def test_attempts_are_counted_for_the_executor_that_held_them_and_the_end_for_the_last() -> None:
    life = TaskLife("t", c.SubmitTask(kind="echo")).start("a").do(c.LoseAttempt(1, "silent")).wait_for_timer()
    life.start("b").do(c.ReportCompleted(2, "b", resources=ResourceUse(50.0, 2.0, 0.25, 3)), after_s=2.0)

    tally, _ = tally_of([life.recorded])

    lost, done = tally.hours[HourKey("default", hour_of(START), "echo", "a")], None
    done = tally.hours[HourKey("default", hour_of(START), "echo", "b")]
    assert (lost.attempts_lost, lost.ended, lost.attempts_us) == (1, 0, 0)
    assert (done.attempts_completed, done.completed, done.attempts_us, done.duration_us > 2_000_000) == (
        1, 1, 2_000_000, True,
    )  # fmt: skip
    assert (done.measured, done.measured_us, done.samples, done.cpu_us) == (1, 2_000_000, 3, 250_000)
    assert (done.cpu_peak_milli, done.memory_kb, done.memory_peak_kb) == (50_000, 2_048, 2_048)


def test_deadline_is_violated_once_whether_the_timer_or_the_end_comes_first() -> None:
    def submitted() -> TaskLife:
        return TaskLife("t", c.SubmitTask(kind="echo", deadline=START + timedelta(seconds=10))).start()

    in_time, late = submitted().complete(), submitted().do(c.FireTimers(), after_s=20)
    assert any(isinstance(recorded.event, e.TaskOverdue) for recorded in late.recorded)
    unnoticed = submitted().do(c.ReportCompleted(1, "e1"), after_s=20)

    def sla(life: TaskLife) -> tuple[int, int]:
        total = whole(tally_of([life.recorded])[0])
        return total.sla_met, total.sla_violated

    assert sla(in_time) == (1, 0)
    assert sla(late) == (0, 1)
    assert sla(late.complete()) == (0, 1)
    assert sla(unnoticed) == (0, 1)


def test_run_time_of_an_attempt_begins_with_its_own_start() -> None:
    life = TaskLife("t", c.SubmitTask(kind="echo")).start("a")
    life.do(c.ReportFailed(1, "a", ErrorInfo("E", "broken", retryable=True)), after_s=100).wait_for_timer()
    life.start("a").do(c.ReportCompleted(2, "a"), after_s=3.0)
    total = whole(tally_of([life.recorded])[0])
    assert (total.attempts_us, total.attempts_max_us, total.attempts_timed) == (3_000_000, 3_000_000, 1)
    assert total.duration_us > 100_000_000


def test_measurements_that_cannot_be_are_cut_and_poison_nothing() -> None:
    life = TaskLife("t", c.SubmitTask(kind="echo")).start()
    life.do(c.ReportCompleted(1, "e1", output=OutputSummary(), resources=ResourceUse(1e308, 1e308, 1e308, 1)))
    total = whole(tally_of([life.recorded])[0])
    assert max(getattr(total, name) or 0 for name in FIELDS) <= 10**12
