from taskloom.domain.task import commands as c
from taskloom.domain.task.directives import RunAttempt, StopAttempt
from taskloom.testing.given import GivenTask
from tests.unit.domain.task.lives import ASSIGN, EX, FIRE, INC, completed, in_state, ready, running, submit


def test_an_assignment_carries_all_that_the_executor_needs() -> None:
    task = GivenTask(tenant_id="acme")
    task.when(
        submit(
            kind="shell",
            input={"cmd": "true"},
            query="why",
            context={"a": 1},
            session_id="s-1",
            name="n",
            timeouts={"start_to_close_s": 7, "heartbeat_s": 3},
        ),
        traceparent="00-1-2-01",
    )
    task.when(ASSIGN).then_directs(
        RunAttempt(
            "task-1",
            1,
            EX,
            INC,
            "shell",
            {"cmd": "true"},
            "why",
            {"a": 1},
            "acme",
            "s-1",
            "n",
            7,
            3,
            False,
            "00-1-2-01",
        )
    )


def test_a_late_sign_of_life_makes_its_sender_stop_the_attempt() -> None:
    task = in_state("completed")
    task.when(c.ReportHeartbeat(1, "ex-9")).then_directs(
        StopAttempt("task-1", 1, "ex-9", "", 5.0, "the task is completed")
    )


def test_a_late_end_needs_no_stop() -> None:
    in_state("failed").when(completed()).then_directs()


def test_an_attempt_that_ended_by_itself_needs_no_stop() -> None:
    running().when(completed()).then_directs()


def test_waiting_tasks_have_nothing_to_tell_to_executors() -> None:
    task = ready()
    for command in (c.PauseTask(), c.ResumeTask(), FIRE, c.CancelTask()):
        task.when(command).then_directs()
