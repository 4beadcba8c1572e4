from typing import Any

import pytest

from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo, Usage
from taskloom.testing.given import GivenTask, given
from tests.unit.domain.task.lives import ASSIGN, BOOM, EX, FIRE, submit


def failing(budget: dict[str, Any], **usage: Any) -> GivenTask:
    """A task whose first attempt used so much and failed."""
    task = given(submit(budget=budget, retry={"initial_s": 0}), ASSIGN)
    task.when(c.ReportFailed(1, EX, BOOM, usage=Usage(**usage)))
    return task


@pytest.mark.parametrize(
    ("budget", "usage", "words"),
    [
        ({"tokens": 100}, {"input_tokens": 60, "output_tokens": 40}, "100 of 100 tokens"),
        ({"cost_usd": 0.5}, {"cost_usd": 0.75}, "0.75 of 0.5 USD"),
    ],
)
def test_a_used_up_budget_ends_the_task_instead_of_a_retry(
    budget: dict[str, Any], usage: dict[str, Any], words: str
) -> None:
    state = failing(budget, **usage).state
    assert state.phase == "failed"
    assert state.error is not None
    assert (state.error.type, state.error.retryable) == ("budget_exceeded", False)
    assert words in state.error.message
    assert state.error.details == {"error": "ValueError", "message": "boom"}


def test_what_attempts_used_adds_up() -> None:
    task = failing({"tokens": 100}, input_tokens=60)
    assert task.state.word == "retrying"
    for command in (FIRE, ASSIGN, c.ReportFailed(2, EX, BOOM, usage=Usage(output_tokens=60))):
        task.when(command)
    assert (task.state.phase, task.state.tokens) == ("failed", 120)


def test_without_a_budget_nothing_is_held_back() -> None:
    task = given(submit(retry={"initial_s": 0}), ASSIGN)
    task.when(c.ReportFailed(1, EX, BOOM, usage=Usage(input_tokens=10**9)))
    assert task.state.phase == "retrying"


def test_a_failure_that_ends_the_task_anyway_keeps_its_own_error() -> None:
    task = given(submit(budget={"tokens": 1}, retry={"max_attempts": 1}), ASSIGN)
    task.when(c.ReportFailed(1, EX, ErrorInfo("Odd", "odd"), usage=Usage(input_tokens=5)))
    assert task.state.error == ErrorInfo("Odd", "odd")
