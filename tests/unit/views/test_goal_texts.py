import pytest

from taskloom.domain.event import Event
from taskloom.domain.goals import events as g
from taskloom.domain.goals.plans import PlannedStep
from taskloom.views.timelines.texts import text_of

_CALL = g.CheckedCall("c1", "files", "read")
_CASES = [
    (g.GoalPlanned("p", 1, (PlannedStep("step-1"),)), "Plan 1 has 1 step, by model"),
    (g.GoalPlanned("p", 2, (PlannedStep("a"), PlannedStep("b")), "rules", "a failed"), "2 steps, by rules: a failed"),
    (g.GoalStepStarted("p", 1, 0, "step-1"), "Step 1 of plan 1 (step-1) began"),
    (g.GoalCallsChecked("p", 1, 0, 1, (_CALL,)), "calls files/read"),
    (g.GoalCallsChecked("p", 1, 0, 1, (g.CheckedCall("c", "s", "rm", {}, "no"),)), "refused: s/rm"),
    (g.GoalCallsChecked("p", 1, 0, 2), "calls no more tools"),
    (g.GoalCallsChecked("p", 1, 0, 2, error=g.StepFault("timeout", "too slow")), "No turn of the model: too slow"),
    (g.GoalCallsEnded("p", 1, 0, 1, (g.MadeCall("c", "s", "t"),)), "1 of 1 calls succeeded"),
    (g.GoalStepEnded("p", 1, 1, "step-2", "failed", error=g.StepFault("x", "broke")), "Step 2 of plan 1 failed: broke"),
    (g.GoalSummarized("p", "short", 900, 20), "about 900 tokens became 20"),
    (g.GoalSettled("p", True), "The goal was achieved"),
    (g.GoalSettled("p", False, "no steps left"), "The goal was not achieved: no steps left"),
]


@pytest.mark.parametrize(("event", "words"), _CASES)
def test_the_events_of_a_goal_are_told_in_words(event: Event, words: str) -> None:
    assert words in text_of(event)  # type: ignore[arg-type]
