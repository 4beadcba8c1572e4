from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.task import commands as c
from taskloom.domain.values import Retry
from taskloom.testing.histories import TaskLife, varied_submission
from taskloom.views.attempts.fold import attempts


def test_attempt_that_waits_in_a_queue_is_listed_last() -> None:
    [waiting] = attempts(TaskLife().recorded)
    assert (waiting.attempt, waiting.status, waiting.executor_id) == (1, "queued", "")


def test_failed_attempt_keeps_its_error_and_the_next_one_completes() -> None:
    life = TaskLife(submit=c.SubmitTask(kind="echo", retry=Retry(max_attempts=2)))
    life.start().fail("no luck").wait_for_timer().start().complete()
    first, second = attempts(life.recorded)
    assert (first.status, first.exit_code, first.error and first.error.message) == ("failed", 1, "no luck")
    assert (second.attempt, second.status, second.exit_code, second.error) == (2, "completed", 0, None)
    assert second.queued_at is not None
    assert first.completed_at is not None
    assert first.completed_at < second.queued_at
    assert second.completed_at == life.now


def test_lost_declined_and_cancelled_attempts_are_told_apart() -> None:
    life = TaskLife().do(c.AssignAttempt("e1", "i")).do(c.ReportDeclined(1, "e1", "full"))
    life.start("e2").do(c.LoseAttempt(2, "silent")).wait_for_timer()
    life.start().do(c.CancelTask()).do(c.ReportStopped(3, "e1", -15))
    assert [tried.status for tried in attempts(life.recorded)] == ["declined", "lost", "cancelled"]


def test_task_cancelled_in_its_queue_has_no_attempt() -> None:
    assert attempts(TaskLife().do(c.CancelTask()).recorded) == []


@given(st.integers(0, 100), st.lists(st.integers(0, 200), max_size=40))
def test_attempts_are_numbered_from_one_and_only_the_last_may_be_open(submission: int, steps: list[int]) -> None:
    life = TaskLife("task-1", varied_submission(submission))
    for step in steps:
        life.step(step)
    tried = attempts(life.recorded)
    assert [one.attempt for one in tried] == list(range(1, len(tried) + 1))
    assert all(one.completed_at is not None for one in tried[:-1])
    assert life.state is not None
    assert (life.state.live is not None) == bool(tried and tried[-1].status in ("starting", "running"))
    if life.state.ended:
        assert all(one.completed_at is not None for one in tried)
