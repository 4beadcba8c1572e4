from datetime import timedelta

from taskloom.domain.goals import progress
from taskloom.domain.goals.events import StepFault
from taskloom.domain.goals.inputs import GoalInput
from taskloom.domain.goals.plans import PlannedStep
from taskloom.domain.goals.state import Failure, GoalState
from taskloom.domain.goals.texts import cut, cut_value, tokens_of
from taskloom.domain.values import Budget, Usage
from taskloom.testing.clock import START

PLAN = (PlannedStep("step-1", "look"), PlannedStep("step-2", "write", estimated_ms=5_000))
STATE = GoalState(GoalInput("x"), version=1, steps=PLAN, plans_made=1)


def _with(**fields: object) -> GoalState:
    return GoalState(GoalInput("x", budget=Budget(tokens=100)), version=1, steps=PLAN, plans_made=1, **fields)  # type: ignore[arg-type]


def test_progress_goes_on_while_steps_are_left() -> None:
    assert progress.evaluate_progress(STATE) == progress.Progress(True, "More steps to execute")
    assert progress.evaluate_progress(_with(index=2)) == progress.Progress(False, "All steps completed")
    assert progress.evaluate_progress(_with(settled=False)) == progress.Progress(False, "Task failed")
    assert not progress.evaluate_progress(_with(steps_begun=50)).should_continue
    assert "100 of 100 tokens" in progress.evaluate_progress(_with(used=Usage(60, 40))).reason


def test_a_failure_is_planned_around_three_times_unless_nobody_knows_what_happened() -> None:
    failed = Failure(PLAN[0], StepFault("tool_failed", "no"))
    assert progress.evaluate_progress(_with(failure=failed)).should_continue
    last = GoalState(GoalInput("x"), version=3, steps=PLAN, plans_made=3, failure=failed)
    assert progress.evaluate_progress(last) == progress.Progress(False, "Maximum retry count exceeded")
    unsure = Failure(PLAN[0], StepFault("lost", "gone", uncertain=True))
    assert progress.evaluate_progress(_with(failure=unsure)) == progress.Progress(False, "Task failed")


def test_the_next_action_is_the_next_step() -> None:
    assert progress.select_next_action(STATE) == progress.Action("llm-reasoning", "step-1", "look")
    assert progress.select_next_action(_with(index=2)) is None


def test_a_tool_is_tried_three_times() -> None:
    verdicts = [progress.handle_tool_failure("t", "tool_failed", attempt) for attempt in (1, 2, 3)]
    assert [(one.should_retry, one.delay_s) for one in verdicts] == [(True, 2.0), (True, 4.0), (False, 0.0)]
    assert not progress.handle_tool_failure("t", "lost", 1, idempotent=False).should_retry
    assert progress.handle_tool_failure("t", "lost", 1).should_retry
    assert not progress.handle_tool_failure("t", "invalid_arguments", 1).should_retry


def test_the_rest_of_a_plan_is_estimated_by_its_steps() -> None:
    assert progress.estimate_completion(STATE, START) == START + timedelta(seconds=35)
    assert progress.estimate_completion(_with(index=1), START) == START + timedelta(seconds=5)


def test_a_context_is_summed_up_over_its_share_of_the_window() -> None:
    assert not progress.should_summarize(80_000, 100_000)
    assert progress.should_summarize(80_001, 100_000)


def test_a_goal_is_told_of_in_one_line() -> None:
    assert progress.task_summary(_with(index=1), "running") == "running, 50 %, step 2/2: write"


def test_tokens_are_bytes_by_four() -> None:
    assert [tokens_of(text) for text in ("", "a", "abcd", "abcde", "ü" * 4)] == [0, 1, 1, 2, 2]
    assert tokens_of({"a": 1}) == 2


def test_what_is_cut_says_so() -> None:
    assert cut("short") == "short"
    assert cut("ü" * 100, 21).startswith("ü" * 10 + "\n[cut: 21 of 200 bytes")
    assert cut_value({"a": 1}, 10) == {"a": 1}
    assert cut_value({"a": "x" * 50}, 10).startswith('{"a":"xxxx')
