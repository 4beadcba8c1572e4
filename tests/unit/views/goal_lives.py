"""Histories of goals, made by hand: what their views have to show does not depend on how the engine got there."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.goals import events as g
from taskloom.domain.goals.plans import PlannedStep
from taskloom.domain.task import events as e
from taskloom.domain.values import TaskSpec, Usage
from taskloom.domain.workflow import events as w
from taskloom.testing.clock import START
from taskloom.wire.recorded import GENESIS, seal

TOOLS = {"files": {"tools": ["read"]}}
PLAN = (
    PlannedStep("step-1", "Read the log", "tool-call", "files", "read", {"path": "/log"}, estimated_ms=20_000),
    PlannedStep("step-2", "Group the errors"),
    PlannedStep("step-3", "Keep what was found", "checkpoint", estimated_ms=1_000),
)
ANSWER = {
    "text": "five errors",
    "model_used": "taskloom-offline",
    "provider": "offline",
    "usage": {"input_tokens": 10, "output_tokens": 4, "cost_usd": 0.25},
}


class GoalLife:
    """Events of a goal, one a second. ``recorded`` are those so far."""

    def __init__(
        self, task_id: str = "goal-1", tenant_id: str = "default", session_id: str = "s1", **spec: Any
    ) -> None:
        self.task_id, self.tenant_id = task_id, tenant_id
        self.recorded: list[Recorded] = []
        given = {"goal": "Find the errors", "tools": TOOLS, "model": {"model": "small-1"}, **spec.pop("input", {})}
        submitted = TaskSpec("goal", given, "", tenant_id, "ada", session_id, **spec)
        self.add(e.TaskSubmitted(submitted, "hash"), w.WorkflowStarted("goal", "1", 3))

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=len(self.recorded))

    @property
    def bodies(self) -> list[bytes]:
        return [recorded.body for recorded in self.recorded]

    def add(self, *events: e.TaskEvent) -> "GoalLife":
        for event in events:
            last = self.recorded[-1].digest if self.recorded else GENESIS
            meta = EventMeta(self.task_id, len(self.recorded) + 1, self.now, self.tenant_id)
            self.recorded.append(seal(event, meta, last))
        return self

    def asked(self, path: str, op: str, answer: dict[str, Any] | None = None) -> "GoalLife":
        """A call of a model, and its answer."""
        submission = {"kind": "llm", "input": {"op": op, "model": {"model": "small-1"}}}
        return self.add(w.StepScheduled(path, submission), w.StepCompleted(path, answer or ANSWER))

    def planned(self, version: int = 1, steps: Sequence[PlannedStep] = PLAN, **more: Any) -> "GoalLife":
        return self.add(g.GoalPlanned("plan", plan_version=version, steps=tuple(steps), **more))

    def began(self, index: int, version: int = 1) -> "GoalLife":
        return self.add(g.GoalStepStarted("begin", plan_version=version, index=index, step_id=f"step-{index + 1}"))

    def ended(self, index: int, version: int = 1, **more: Any) -> "GoalLife":
        step_id = f"step-{index + 1}"
        return self.add(g.GoalStepEnded("end", plan_version=version, index=index, step_id=step_id, **more))

    def read_the_log(self) -> "GoalLife":
        """The first step, with a call of its tool."""
        call = g.MadeCall("1", "files", "read", {"path": "/log"}, result={"lines": 3}, duration_ms=12)
        usage = Usage(3, 1, 0.5)
        return self.began(0).ended(0, text="3 lines", calls=(call,), usage=usage, result={"lines": 3})


def achieved(task_id: str = "goal-1", **given: Any) -> GoalLife:
    """A goal from its submission to its end: plan, tool, model, checkpoint."""
    life = GoalLife(task_id, **given).asked("propose", "plan").planned().read_the_log()
    life.began(1).asked("reason", "reason").ended(1, text="five errors", model="taskloom-offline")
    life.began(2).add(w.CheckpointSaved("save"), w.StepCompleted("save")).ended(2)
    life.add(g.GoalSettled("settle", achieved=True, reason="All steps completed"))
    return life.add(w.WorkflowCompleted({"text": "done"}), e.TaskCompleted(0, response={"text": "done"}))
