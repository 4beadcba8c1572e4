"""Short names for the commands and pasts that most tests begin with."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask, given

EX, INC = "ex-1", "a"
BOOM = ErrorInfo("ValueError", "boom")
ASSIGN = c.AssignAttempt(EX, INC)
FIRE = c.FireTimers()


def submit(**fields: Any) -> c.SubmitTask:
    """A submission from the fields of its JSON; an ``echo`` task where they name no kind."""
    return msgspec.convert({"kind": "echo", **fields}, c.SubmitTask)


def started(attempt: int = 1) -> c.ReportStarted:
    return c.ReportStarted(attempt, EX)


def failed(attempt: int = 1, error: ErrorInfo = BOOM) -> c.ReportFailed:
    return c.ReportFailed(attempt, EX, error)


def completed(attempt: int = 1, **fields: Any) -> c.ReportCompleted:
    return c.ReportCompleted(attempt, EX, **fields)


def ready(**fields: Any) -> GivenTask:
    return given(submit(**fields))


def assigned(**fields: Any) -> GivenTask:
    return given(submit(**fields), ASSIGN)


def running(**fields: Any) -> GivenTask:
    return given(submit(**fields), ASSIGN, started())


def retrying(**fields: Any) -> GivenTask:
    return given(submit(**fields), ASSIGN, started(), failed())


def scheduled() -> GivenTask:
    return given(submit(run_at=START + timedelta(days=365)))


def in_state(word: str) -> GivenTask:
    """A task in the named fine state."""
    ways: dict[str, Callable[[], GivenTask]] = {
        "scheduled": scheduled,
        "ready": ready,
        "assigned": assigned,
        "running": running,
        "retrying": retrying,
        "pausing": lambda: _then(running(), c.PauseTask()),
        "paused": lambda: _then(ready(), c.PauseTask()),
        "cancelling": lambda: _then(running(), c.CancelTask()),
        "completed": lambda: _then(running(), completed()),
        "failed": lambda: _then(running(), failed(error=ErrorInfo("X", "x", retryable=False))),
        "cancelled": lambda: _then(ready(), c.CancelTask()),
        "timed_out": lambda: _then(ready(timeouts={"total_s": 5}), FIRE, after_s=5),
    }
    task = ways[word]()
    assert task.state.word == word
    return task


ENDED = ("completed", "failed", "cancelled", "timed_out")


def _then(task: GivenTask, command: c.TaskCommand, after_s: float = 0.0) -> GivenTask:
    assert task.when(command, after_s=after_s).events
    return task
