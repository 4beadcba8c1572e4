from datetime import timedelta

import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.directives import StopAttempt
from taskloom.domain.task.state import EXECUTOR_REPORT_SLACK_S, STOP_SLACK_S, next_due
from taskloom.domain.values import OutputSummary
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask
from tests.unit.domain.task.lives import ASSIGN, EX, FIRE, INC, assigned, in_state, ready, running

SLACK = EXECUTOR_REPORT_SLACK_S
CLOSE = {"start_to_close_s": 60}
BEAT = {"heartbeat_s": 10, "start_to_close_s": 3600}


def test_a_task_that_nobody_takes_in_time_is_timed_out() -> None:
    task = ready(timeouts={"schedule_to_start_s": 30})
    assert next_due(task.state) == START + timedelta(seconds=30)
    task.when(FIRE, after_s=29.9).then_nothing()
    task.when(FIRE, after_s=0.1).then(e.TaskTimedOut("schedule_to_start", 30.0))
    assert task.state.word == "timed_out"


def test_an_assigned_attempt_that_does_not_start_in_time_is_ended_first() -> None:
    task = assigned(timeouts={"schedule_to_start_s": 30})
    task.when(FIRE, after_s=30).then(
        e.AttemptTimedOut(1, "schedule_to_start", 30.0), e.TaskTimedOut("schedule_to_start", 30.0, 1)
    )


def test_once_started_the_wait_in_the_queue_is_over() -> None:
    running(timeouts={"schedule_to_start_s": 30}).when(FIRE, after_s=31).then_nothing()


def test_the_executor_has_some_time_to_report_its_own_time_out() -> None:
    task = running(timeouts=CLOSE)
    task.when(FIRE, after_s=60 + SLACK - 0.1).then_nothing()
    task.when(c.ReportTimedOut(1, EX, "start_to_close", 60, OutputSummary(2, 2, 9))).then_types(
        e.AttemptTimedOut, e.RetryScheduled
    )
    ended = task.events[-2]
    assert isinstance(ended, e.AttemptTimedOut)
    assert (ended.confirmed, ended.output) == (True, OutputSummary(2, 2, 9))


def test_an_attempt_over_its_limit_is_cut_off_and_its_executor_told_to_stop_it() -> None:
    task = running(timeouts=CLOSE)
    outcome = task.when(FIRE, after_s=60 + SLACK)
    outcome.then_types(e.AttemptTimedOut, e.RetryScheduled)
    outcome.then_directs(StopAttempt("task-1", 1, EX, INC, 5.0, "start_to_close limit passed"))
    assert outcome.events[0] == e.AttemptTimedOut(1, "start_to_close", 60.0)


def test_a_confirmed_time_out_needs_no_stop() -> None:
    running().when(c.ReportTimedOut(1, EX, "start_to_close", 300)).then_directs()


def test_the_last_attempt_that_times_out_times_the_task_out() -> None:
    task = running(timeouts=CLOSE, retry={"max_attempts": 1})
    task.when(FIRE, after_s=70).then(
        e.AttemptTimedOut(1, "start_to_close", 60.0), e.TaskTimedOut("start_to_close", 60.0, 1)
    )


def test_a_policy_can_name_time_outs_as_not_to_be_tried_again() -> None:
    running(timeouts=CLOSE, retry={"non_retryable": ["timeout"]}).when(FIRE, after_s=70).then_types(
        e.AttemptTimedOut, e.TaskTimedOut
    )


def test_a_handler_that_falls_silent_is_cut_off() -> None:
    task = running(timeouts=BEAT)
    task.when(c.ReportHeartbeat(1, EX), after_s=9)
    task.when(FIRE, after_s=10 + SLACK - 0.1).then_nothing()
    [ended, _] = task.when(FIRE, after_s=0.1).events
    assert ended == e.AttemptTimedOut(1, "heartbeat", 10.0)


def test_the_first_heartbeat_is_due_from_the_start_on() -> None:
    running(timeouts=BEAT).when(FIRE, after_s=10 + SLACK).then_types(e.AttemptTimedOut, e.RetryScheduled)


def test_the_total_limit_ends_the_task_whatever_it_does() -> None:
    task = running(timeouts={"total_s": 100, "start_to_close_s": 3600})
    task.when(FIRE, after_s=99.9).then_nothing()
    task.when(FIRE, after_s=0.1).then(e.AttemptTimedOut(1, "total", 100.0), e.TaskTimedOut("total", 100.0, 1))


def test_the_total_limit_wins_over_the_limits_of_an_attempt() -> None:
    task = running(timeouts={"total_s": 60, "start_to_close_s": 50})
    task.when(FIRE, after_s=60).then_types(e.AttemptTimedOut, e.TaskTimedOut)


def test_the_total_limit_ends_a_task_that_waits_for_its_retry() -> None:
    in_state("retrying").when(FIRE, after_s=0).then_nothing()
    task = running(timeouts={"total_s": 60}, retry={"initial_s": 300, "max_s": 300})
    task.when(c.LoseAttempt(1, "gone"))
    task.when(FIRE, after_s=60).then(e.TaskTimedOut("total", 60.0, 1))


def test_the_total_limit_of_a_delayed_task_counts_from_its_run_at() -> None:
    task = ready(run_at=START + timedelta(hours=1), timeouts={"total_s": 60})
    task.when(FIRE, after_s=3600).then(e.TaskQueued("run_at"))
    task.when(FIRE, after_s=59.9).then_nothing()
    task.when(FIRE, after_s=0.1).then(e.TaskTimedOut("total", 60.0))


# Time on hold does not count.


def test_time_on_hold_does_not_count_against_the_attempt() -> None:
    task = running(timeouts=CLOSE)
    task.when(c.PauseTask(), after_s=10)
    task.when(c.ReportPaused(1, EX, "row 7"))
    task.when(FIRE, after_s=1_000).then_nothing()
    task.when(c.ResumeTask())
    task.when(FIRE, after_s=50 + SLACK - 0.1).then_nothing()
    task.when(FIRE, after_s=0.1).then_types(e.AttemptTimedOut, e.RetryScheduled)


def test_two_holds_add_up() -> None:
    task = running(timeouts=CLOSE)
    for _ in range(2):
        task.when(c.PauseTask())
        task.when(c.ReportPaused(1, EX))
        task.when(c.ResumeTask(), after_s=100)
    assert task.state.live is not None
    assert task.state.live.paused_s == 200


def test_time_until_the_attempt_really_holds_does_count() -> None:
    task = running(timeouts=CLOSE)
    task.when(c.PauseTask())
    task.when(FIRE, after_s=60 + SLACK).then_types(e.AttemptTimedOut, e.RetryScheduled, e.TaskPaused)


def test_time_on_hold_does_not_count_against_the_wait_in_the_queue() -> None:
    task = ready(timeouts={"schedule_to_start_s": 30})
    task.when(c.PauseTask(), after_s=10)
    task.when(FIRE, after_s=1_000).then_nothing()
    task.when(c.ResumeTask())
    task.when(FIRE, after_s=19.9).then_nothing()
    task.when(FIRE, after_s=0.1).then(e.TaskTimedOut("schedule_to_start", 30.0))


def test_an_earlier_hold_does_not_lengthen_the_next_wait_in_the_queue() -> None:
    task = ready(timeouts={"schedule_to_start_s": 30}, retry={"jitter": 0})
    task.when(c.PauseTask())
    task.when(c.ResumeTask(), after_s=1_000)
    task.when(ASSIGN)
    task.when(c.LoseAttempt(1, "gone"))
    task.when(FIRE, after_s=1)
    assert next_due(task.state) == task.clock.now + timedelta(seconds=30)


def test_a_held_handler_need_not_give_signs_of_life_and_has_fresh_time_once_resumed() -> None:
    task = running(timeouts=BEAT)
    task.when(c.PauseTask())
    task.when(c.ReportPaused(1, EX))
    task.when(FIRE, after_s=1_000).then_nothing()
    task.when(c.ResumeTask())
    task.when(FIRE, after_s=10 + SLACK - 0.1).then_nothing()


def test_a_pause_that_was_taken_back_before_it_took_hold_gives_fresh_time_too() -> None:
    task = running(timeouts=BEAT)
    task.when(c.PauseTask())
    task.when(c.ResumeTask(), after_s=1_000)
    task.when(FIRE, after_s=1).then_nothing()


# Deadlines.


def test_a_task_past_its_deadline_is_said_to_be_overdue_once_and_goes_on() -> None:
    deadline = START + timedelta(seconds=20)
    task = running(deadline=deadline)
    task.when(FIRE, after_s=19).then_nothing()
    task.when(FIRE, after_s=1).then(e.TaskOverdue(deadline))
    task.when(FIRE, after_s=1).then_nothing()
    assert (task.state.word, task.state.overdue) == ("running", True)


def test_a_deadline_and_a_limit_that_pass_together_both_show() -> None:
    task = ready(deadline=START + timedelta(seconds=20), timeouts={"total_s": 30})
    task.when(FIRE, after_s=40).then_types(e.TaskOverdue, e.TaskTimedOut)


def test_an_ended_task_has_no_timers() -> None:
    task = running(deadline=START + timedelta(days=1), timeouts={"total_s": 100})
    task.when(c.ReportCompleted(1, EX))
    assert next_due(task.state) is None
    task.when(FIRE, after_s=1e6).then_nothing()


@pytest.mark.parametrize(
    ("task", "due_s"),
    [
        (running(timeouts=CLOSE), 60 + SLACK),
        (running(timeouts=BEAT), 10 + SLACK),
        (running(timeouts={"total_s": 5}), 5),
        (in_state("cancelling"), 5 + STOP_SLACK_S),
    ],
    ids=["start_to_close", "heartbeat", "total", "stop"],
)
def test_the_state_names_its_next_timer(task: GivenTask, due_s: float) -> None:
    assert next_due(task.state) == START + timedelta(seconds=due_s)


@pytest.mark.parametrize("word", ["ready", "paused"])
def test_a_task_that_nothing_presses_has_no_timer(word: str) -> None:
    assert next_due(in_state(word).state) is None
