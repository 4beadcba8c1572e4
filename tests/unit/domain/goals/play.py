"""A goal in memory, where a test plays the model and the tools."""

from collections.abc import Callable
from typing import Any

from taskloom.domain.goals import events as g
from taskloom.domain.goals.state import GoalState, evolve_goal
from taskloom.domain.goals.submitting import pinned_input
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import Budget, ErrorInfo
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.evolve import evolve_run, open_run
from taskloom.domain.workflow.state import ENDED
from tests.unit.domain.workflow.runs import Run, loaded

FILES = {"files": {"tools": ["read", "list"], "idempotent": ["list"]}}
USAGE = {"input_tokens": 10, "output_tokens": 5, "cost_usd": 0.001}

Model = Callable[[dict[str, Any]], Any]
Tool = Callable[[dict[str, Any]], Any]


def said(text: str = "done", **fields: Any) -> dict[str, Any]:
    """What a task of kind ``llm`` answers."""
    return {"text": text, "model_used": "test", "provider": "test", "usage": USAGE, **fields}


def steps(*wanted: dict[str, Any]) -> Model:
    """A model that proposes these steps, and says what it is asked in all else."""
    return lambda about: said(f"{about['op']} done", steps=list(wanted)) if about["op"] == "plan" else said(about["op"])


def reason(words: str = "think") -> dict[str, Any]:
    return {"description": words, "type": "llm-reasoning"}


def call(tool: str = "read", server: str = "files", **args: Any) -> dict[str, Any]:
    return {"description": f"call {tool}", "type": "tool-call", "server": server, "tool": tool, "args": args}


def open_step(words: str = "look around") -> dict[str, Any]:
    return {"description": words, "type": "tool-call"}


class GoalRun(Run):
    """``model`` and ``tool`` answer the tasks; an ErrorInfo that they give is a failure."""

    def __init__(
        self,
        goal: str = "find it",
        model: Model | None = None,
        tool: Tool = lambda _submission: "a result",
        budget: Budget | None = None,
        queue: str = "default",
        **fields: Any,
    ) -> None:
        self.model = model or steps(reason())
        self.tool = tool
        self.asked: list[dict[str, Any]] = []
        self.made: list[dict[str, Any]] = []
        self._begin(pinned_input(SubmitTask(kind="goal", query=goal, input=fields, budget=budget, queue=queue)))

    def submission(self, path: str) -> dict[str, Any]:
        found = [event for event in self.of(e.StepScheduled) if event.path == path]
        submission: dict[str, Any] = found[-1].submission
        return submission

    def play(self, most: int = 10_000) -> "GoalRun":
        """Answers what waits until the goal has ended, or waits for somebody."""
        for _ in range(most):
            due = self.due()
            if self.state.status in ENDED:
                break
            if due is not None and due <= self.now:
                self.when(h.TimerDue())
            elif self.live:
                self._answer(self.live[0])
            else:
                break
        self.replayed()
        return self

    def _answer(self, path: str) -> None:
        submission = self.submission(path)
        if submission["kind"] == "llm":
            self.asked.append(submission["input"])
            answer = self.model(submission["input"])
        else:
            self.made.append(submission)
            answer = self.tool(submission)
        if isinstance(answer, ErrorInfo):
            self.fail(path, answer)
        else:
            self.complete(path, answer)

    @property
    def goal(self) -> GoalState:
        assert self.state.goal is not None
        return self.state.goal

    @property
    def plans(self) -> list[g.GoalPlanned]:
        return self.of(g.GoalPlanned)

    @property
    def ops(self) -> list[str]:
        return [about["op"] for about in self.asked]

    def each_prefix(self) -> None:
        """Folding, and storing in between, gives the same at each point of the history."""
        state, goal = open_run(self.input), open_run(self.input).goal
        for event in self.history:
            state = evolve_run(state, event)
            if isinstance(event, g.GoalEvent) and goal is not None:
                goal = evolve_goal(goal, event)
            assert loaded(self.input, state) == state
            if not self.of(e.WorkflowRetried):
                assert state.goal == goal
