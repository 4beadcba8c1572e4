from datetime import timedelta

import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.state import MAX_IGNORED_REPORTS
from taskloom.domain.values import ErrorInfo, OutputSummary, ResourceUse, Usage, backoff
from taskloom.testing.clock import START
from taskloom.testing.given import given
from tests.unit.domain.task.lives import (
    ASSIGN,
    BOOM,
    ENDED,
    EX,
    FIRE,
    INC,
    assigned,
    completed,
    failed,
    in_state,
    ready,
    retrying,
    running,
    started,
    submit,
)


def test_a_ready_task_is_assigned_under_the_next_attempt_number() -> None:
    task = ready()
    task.when(ASSIGN).then(e.AttemptAssigned(1, EX, INC))
    assert (task.state.word, task.state.attempts) == ("assigned", 1)


@pytest.mark.parametrize(
    "word", ["scheduled", "assigned", "running", "retrying", "pausing", "paused", "cancelling", *ENDED]
)
def test_only_a_ready_task_can_be_assigned(word: str) -> None:
    in_state(word).when(ASSIGN).then_refused("conflict", f"task task-1 is {word}, not ready")


def test_a_started_attempt_runs() -> None:
    task = assigned()
    task.when(c.ReportStarted(1, EX, pid=42), after_s=1).then(e.AttemptStarted(1, EX, 42))
    assert task.state.word == "running"
    assert task.state.live is not None
    assert task.state.live.started_at == START + timedelta(seconds=1)


def test_a_repeated_start_changes_nothing() -> None:
    running().when(started()).then_nothing()


def test_a_completed_attempt_completes_the_task_with_all_it_said() -> None:
    said = {
        "result": "42",
        "response": {"answer": 42},
        "exit_code": 0,
        "output": OutputSummary(3, 3, 120),
        "resources": ResourceUse(12.5, 30.0, 0.4, 9),
        "usage": Usage(1, 2, 0.25, "m", "p"),
    }
    task = running()
    task.when(completed(**said)).then(e.TaskCompleted(1, **said))  # type: ignore[arg-type]
    assert task.state.word == "completed"
    assert task.state.live is None


@pytest.mark.parametrize(
    "report",
    [
        completed(),
        failed(),
        c.ReportHeartbeat(1, EX),
        c.ReportOutputStarted(1, EX),
        c.ReportTimedOut(1, EX, "start_to_close", 300),
    ],
)
def test_a_report_of_a_running_attempt_implies_a_start_that_was_not_heard_of(report: c.Report) -> None:
    [first, *rest] = assigned().when(report).events
    assert first == e.AttemptStarted(1, EX)
    assert rest


def test_a_heartbeat_carries_progress() -> None:
    task = running()
    task.when(c.ReportHeartbeat(1, EX, 0.5, "half", {"rows": 7}), after_s=2).then(
        e.AttemptHeartbeat(1, 0.5, "half", {"rows": 7})
    )
    assert task.state.live is not None
    assert task.state.live.heard_at == START + timedelta(seconds=2)


def test_the_first_output_is_an_event() -> None:
    running().when(c.ReportOutputStarted(1, EX, "stderr")).then(e.OutputStarted(1, "stderr"))


# Retries.


def test_a_failed_attempt_is_tried_again_after_a_pause() -> None:
    task = running(retry={"jitter": 0, "initial_s": 3})
    task.when(failed()).then(
        e.AttemptFailed(1, BOOM), e.RetryScheduled(2, START + timedelta(seconds=3), 3.0, "ValueError")
    )
    assert task.state.word == "retrying"
    task.when(FIRE, after_s=2.9).then_nothing()
    task.when(FIRE, after_s=0.1).then(e.TaskQueued("retry"))
    task.when(ASSIGN).then(e.AttemptAssigned(2, EX, INC))


def test_pauses_between_attempts_grow_and_are_capped() -> None:
    task = running(retry={"max_attempts": 10, "initial_s": 1, "factor": 3, "max_s": 20, "jitter": 0})
    pauses = []
    for attempt in range(1, 6):
        scheduled = task.when(failed(attempt)).events[-1]
        assert isinstance(scheduled, e.RetryScheduled)
        pauses.append(scheduled.delay_s)
        task.when(FIRE, after_s=scheduled.delay_s)
        task.when(ASSIGN)
        task.when(started(attempt + 1))
    assert pauses == [1, 3, 9, 20, 20]


def test_the_pause_before_a_retry_has_the_jitter_of_the_policy() -> None:
    task = retrying()
    scheduled = task.events[-1]
    assert isinstance(scheduled, e.RetryScheduled)
    assert scheduled.delay_s == round(backoff(1, task.state.spec.retry, key=task.task_id), 3)
    assert 0.8 <= scheduled.delay_s < 1


def test_an_error_that_says_so_is_not_tried_again() -> None:
    error = ErrorInfo("ValueError", "boom", retryable=False)
    running().when(failed(error=error)).then(e.AttemptFailed(1, error), e.TaskFailed(error, 1))


def test_an_error_that_the_policy_names_is_not_tried_again() -> None:
    task = running(retry={"non_retryable": ["ValueError"]})
    task.when(failed()).then(e.AttemptFailed(1, BOOM), e.TaskFailed(BOOM, 1))


def test_the_last_attempt_that_fails_fails_the_task() -> None:
    task = running(retry={"max_attempts": 2})
    task.when(failed())
    task.when(FIRE, after_s=10)
    task.when(ASSIGN)
    task.when(failed(2)).then(e.AttemptStarted(2, EX), e.AttemptFailed(2, BOOM), e.TaskFailed(BOOM, 2))
    assert task.state.word == "failed"


def test_a_task_with_one_attempt_is_not_tried_again() -> None:
    running(retry={"max_attempts": 1}).when(failed()).then_types(e.AttemptFailed, e.TaskFailed)


def test_an_error_is_forgotten_once_a_later_attempt_completes() -> None:
    task = retrying()
    task.when(FIRE, after_s=1)
    task.when(ASSIGN)
    task.when(completed(2))
    assert task.state.error is None


# Declined and lost.


def test_a_declined_attempt_goes_back_to_its_queue() -> None:
    task = assigned()
    task.when(c.ReportDeclined(1, EX, "draining")).then(e.AttemptDeclined(1, EX, "draining"), e.TaskQueued("declined"))
    assert task.state.dispatchable


def test_a_declined_attempt_does_not_use_up_the_retry_policy() -> None:
    task = assigned(retry={"max_attempts": 2, "jitter": 0})
    for attempt in range(1, 5):
        task.when(c.ReportDeclined(attempt, EX))
        task.when(ASSIGN)
    task.when(failed(5)).then_types(e.AttemptStarted, e.AttemptFailed, e.RetryScheduled)
    assert (task.state.attempts, task.state.failures) == (5, 1)


def test_a_task_whose_executors_are_lost_again_and_again_is_quarantined_until_it_is_retried() -> None:
    task = running(retry={"max_attempts": 100, "max_lost": 3, "initial_s": 0})
    for attempt in (1, 2):
        task.when(c.LoseAttempt(attempt, "gone"))
        task.when(FIRE, after_s=1)
        task.when(ASSIGN)
    message = "3 executors in a row were lost while they ran it; the last: gone"
    task.when(c.LoseAttempt(3, "gone")).then(
        e.AttemptLost(3, EX, "gone"), e.TaskFailed(ErrorInfo("quarantined", message, retryable=False, fault=True), 3)
    )
    task.when(c.RetryTask())
    assert (task.state.phase, task.state.losses) == ("ready", 0)


def test_an_attempt_that_ends_otherwise_ends_the_row_of_lost_ones() -> None:
    task = running(retry={"max_attempts": 100, "max_lost": 2, "initial_s": 0})
    task.when(c.LoseAttempt(1, "gone"))
    task.when(FIRE, after_s=1)
    task.when(ASSIGN)
    task.when(c.ReportFailed(2, EX, BOOM))
    task.when(FIRE, after_s=1)
    task.when(ASSIGN)
    task.when(c.LoseAttempt(3, "gone")).then_types(e.AttemptLost, e.RetryScheduled)


def test_a_lost_attempt_is_tried_again_by_the_policy() -> None:
    task = running(retry={"max_attempts": 2})
    task.when(c.LoseAttempt(1, "gone")).then_types(e.AttemptLost, e.RetryScheduled)
    task.when(FIRE, after_s=5)
    task.when(ASSIGN)
    task.when(c.LoseAttempt(2, "gone too")).then(
        e.AttemptLost(2, EX, "gone too"), e.TaskFailed(ErrorInfo("lost", "gone too", fault=True), 2)
    )


@pytest.mark.parametrize("attempt", [1, 3])
def test_the_loss_of_an_attempt_that_does_not_live_changes_nothing(attempt: int) -> None:
    task = retrying()
    task.when(FIRE, after_s=1)
    task.when(ASSIGN)
    task.when(c.LoseAttempt(attempt, "gone")).then_nothing()


# Fencing (I4).


def test_a_late_report_of_a_superseded_attempt_is_recorded_and_not_applied() -> None:
    task = running()
    task.when(c.LoseAttempt(1, "silent"))
    task.when(FIRE, after_s=1)
    task.when(ASSIGN)
    task.when(completed(result="late")).then(e.ReportIgnored(1, "ReportCompleted", EX, "attempt 2 took its place"))
    assert task.state.word == "assigned"
    assert task.state.live is not None
    assert task.state.live.number == 2


def test_a_report_of_another_executor_is_recorded_and_not_applied() -> None:
    task = running()
    task.when(c.ReportCompleted(1, "ex-2")).then_types(e.ReportIgnored)
    assert task.state.word == "running"


@pytest.mark.parametrize("word", ENDED[:2])
def test_a_late_report_to_an_ended_task_is_recorded_and_not_applied(word: str) -> None:
    task = in_state(word)
    task.when(completed(), command_id="late").then(e.ReportIgnored(1, "ReportCompleted", EX, f"the task is {word}"))
    assert task.state.word == word


def test_a_repeat_of_the_report_that_ended_the_attempt_changes_nothing() -> None:
    task = running()
    task.when(failed(), command_id="task-1/1/failed")
    task.when(failed(), command_id="task-1/1/failed").then_nothing()
    task.when(FIRE, after_s=1)
    task.when(ASSIGN)
    task.when(failed(), command_id="task-1/1/failed").then_nothing()


def test_a_repeat_of_the_report_that_ended_the_task_changes_nothing() -> None:
    task = running()
    task.when(completed(), command_id="task-1/1/completed")
    task.when(completed(), command_id="task-1/1/completed").then_nothing()


@pytest.mark.parametrize(
    "report",
    [
        c.ReportHeartbeat(1, EX, 0.5),
        c.ReportOutputStarted(1, EX),
        c.ReportStopSignalled(1, EX, "signalled", "SIGTERM", 3),
    ],
)
def test_a_repeated_report_of_a_live_attempt_changes_nothing(report: c.Report) -> None:
    task = running()
    task.when(c.CancelTask())
    assert task.when(report, command_id="r-1").events
    assert task.when(c.ReportHeartbeat(1, EX), command_id="r-2").events
    task.when(report, command_id="r-1").then_nothing()


def test_remembered_reports_are_bounded_and_end_with_the_attempt() -> None:
    task = running()
    for number in range(100):
        task.when(c.ReportHeartbeat(1, EX), command_id=f"h-{number}")
    assert task.state.live is not None
    assert len(task.state.live.reports) == 32
    task.when(failed(), command_id="f")
    task.when(FIRE, after_s=1)
    task.when(ASSIGN)
    assert task.state.live is not None
    assert task.state.live.reports == ()


def test_a_report_of_an_attempt_that_was_never_assigned_is_refused() -> None:
    running().when(completed(2)).then_refused("conflict", "attempt 2 was never assigned", field="attempt")


def test_ignored_reports_are_recorded_up_to_a_bound() -> None:
    task = in_state("completed")
    for number in range(MAX_IGNORED_REPORTS):
        task.when(c.ReportHeartbeat(1, EX), command_id=f"h-{number}").then_types(e.ReportIgnored)
    task.when(c.ReportHeartbeat(1, EX), command_id="one more").then_nothing()
    assert task.state.ignored == MAX_IGNORED_REPORTS


def test_a_late_confirmation_of_a_stop_is_not_worth_an_event() -> None:
    in_state("completed").when(c.ReportStopped(1, EX)).then_nothing()


@pytest.mark.parametrize("report", [c.ReportStopped(1, EX), c.ReportStopSignalled(1, EX, "signalled", "SIGTERM")])
def test_a_stop_that_nobody_asked_for_does_not_end_a_running_attempt(report: c.Report) -> None:
    running().when(report).then_nothing()


def test_a_report_with_the_number_of_no_attempt_yet_is_refused_on_a_fresh_task() -> None:
    given(submit()).when(started()).then_refused("conflict")
