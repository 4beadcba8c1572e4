"""Facts of a goal. They stand in the goal's stream, among the events of the run that pursues it.

``plan_version`` numbers plans from 1 (``version`` is the envelope's), ``index`` a plan's steps from 0. Long texts and
results are cut: the whole stands in the task of the step, or of the call.
"""

from typing import Any, Literal

from msgspec import Struct

from taskloom.domain.goals.plans import PlannedBy, PlannedStep
from taskloom.domain.values import Usage
from taskloom.domain.workflow.event_base import StepEvent
from taskloom.domain.workflow.values import Ref


class GoalEvent(StepEvent, frozen=True):
    """Base of all events of a goal."""


class CheckedCall(Struct, frozen=True, omit_defaults=True):
    """A call that a model asked for; ``refused`` says why it is not made, and is empty for one that is."""

    id: str
    server: str
    tool: str
    args: dict[str, Any] = {}
    refused: str = ""


class MadeCall(Struct, frozen=True, omit_defaults=True):
    """A call and how it ended. One that was refused has failed as well."""

    id: str
    server: str
    tool: str
    args: dict[str, Any] = {}
    status: Literal["success", "failed"] = "success"
    result: Any = None
    error: str = ""
    duration_ms: int = 0


class StepFault(Struct, frozen=True, omit_defaults=True):
    """Why a step failed. ``uncertain``: nobody knows whether it did its work, and it is not done again by itself."""

    type: str
    message: str
    uncertain: bool = False


class GoalPlanned(GoalEvent, frozen=True, tag="taskloom.goal.planned.v1"):
    """``reason`` says why there is a new plan, or what was repaired in it; ``usage`` is that of the proposal."""

    plan_version: int
    steps: tuple[PlannedStep, ...]
    by: PlannedBy = "model"
    reason: str = ""
    model: str = ""
    usage: Usage = Usage()


class GoalStepStarted(GoalEvent, frozen=True, tag="taskloom.goal.step-started.v1"):
    plan_version: int
    index: int
    step_id: str


class GoalCallsChecked(GoalEvent, frozen=True, tag="taskloom.goal.calls-checked.v1"):
    """What a model's turn asked for, before any of it is done. Without calls the turn was the last, and ``text`` is its
    answer; ``error`` says that there was no turn. ``usage`` is that of the turn."""

    plan_version: int
    index: int
    round: int
    calls: tuple[CheckedCall, ...] = ()
    text: str = ""
    model: str = ""
    usage: Usage = Usage()
    error: StepFault | None = None


class GoalCallsEnded(GoalEvent, frozen=True, tag="taskloom.goal.calls-ended.v1"):
    """The calls of a round have ended; the model sees these results in its next turn."""

    plan_version: int
    index: int
    round: int
    calls: tuple[MadeCall, ...] = ()
    error: StepFault | None = None


class GoalStepEnded(GoalEvent, frozen=True, tag="taskloom.goal.step-ended.v1"):
    """``calls`` are all that the step made, ``usage`` all that it used. Later steps can refer to its ``result``, or to
    the large one that is ``stored``."""

    plan_version: int
    index: int
    step_id: str
    status: Literal["completed", "failed", "skipped"] = "completed"
    text: str = ""
    calls: tuple[MadeCall, ...] = ()
    usage: Usage = Usage()
    model: str = ""
    error: StepFault | None = None
    result: Any = None
    stored: Ref | None = None


class GoalSummarized(GoalEvent, frozen=True, tag="taskloom.goal.summarized.v1"):
    """``text`` stands for all that the context held so far. Tokens are estimated: UTF-8 bytes by four."""

    text: str
    tokens_before: int = 0
    tokens_after: int = 0
    usage: Usage = Usage()


class GoalSettled(GoalEvent, frozen=True, tag="taskloom.goal.settled.v1"):
    """``text`` is the answer of an achieved goal, ``usage`` that of the report it is in."""

    achieved: bool
    reason: str = ""
    text: str = ""
    usage: Usage = Usage()


AnyGoalEvent = (
    GoalPlanned | GoalStepStarted | GoalCallsChecked | GoalCallsEnded | GoalStepEnded | GoalSummarized | GoalSettled
)
