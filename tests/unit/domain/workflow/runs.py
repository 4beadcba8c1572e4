"""A workflow run in memory, where a test plays the executor, the clock and the people.

Every event is encoded and read back before it is folded, and ``replayed`` folds the whole history anew, so that each
test that ends with it also proves that the events can be stored and that replay gives the live state.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from taskloom.domain.refusals import Refusal
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow import events as e
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.advance import Start, advance, restart, start
from taskloom.domain.workflow.dump import dump_run, load_run
from taskloom.domain.workflow.evolve import evolve_run, fold_run, open_run
from taskloom.domain.workflow.results import run_result
from taskloom.domain.workflow.state import ENDED, RunState, next_due
from taskloom.domain.workflow.wanted import CancelChild, EndRun, RetryChild, SubmitChild, wanted
from taskloom.testing.clock import START

BOOM = ErrorInfo("ValueError", "boom")
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(e.AnyWorkflowEvent)

Answer = Callable[[str, Any], Any]


def task(step_id: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    template = {"kind": "echo", "input": fields.pop("input", {})}
    return {"id": step_id, "step_type": "task", "task_template": template, "depends_on": list(depends_on), **fields}


def step(step_id: str, step_type: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "step_type": step_type, **fields}


def loaded(run_input: Any, state: RunState) -> RunState:
    """The state once it was stored in a snapshot and read again."""
    return load_run(run_input, msgspec.json.decode(msgspec.json.encode(dump_run(state))))


class Run:
    def __init__(self, *steps: dict[str, Any], checkpoint: Any = None, **definition: Any) -> None:
        self._begin({"definition": {"name": "w", "steps": list(steps), **definition}, "checkpoint": checkpoint})

    def _begin(self, run_input: dict[str, Any]) -> None:
        self.input = run_input
        self.now = START
        self.state: RunState = open_run(self.input)
        self.history: list[e.WorkflowEvent] = []
        self.decisions: list[tuple[int, h.Happening, datetime]] = []
        """Happenings, each with the number of events before it and the time."""
        self.live: list[str] = []
        self.inputs: dict[str, Any] = {}
        self.lives: dict[str, int] = {}
        """Of each child the retries of the run before its submission."""
        self.cancelled: list[str] = []
        self.end: EndRun | None = None
        self._take(start(self.state, self.now))

    def _take(self, events: list[e.WorkflowEvent]) -> list[e.WorkflowEvent]:
        for event in events:
            stored = _decoder.decode(msgspec.json.encode(event))
            assert stored == event
            self.state = evolve_run(self.state, stored)
            self.history.append(stored)
            deed = wanted(stored)
            if isinstance(deed, SubmitChild):
                assert deed.path not in self.live, "a child may be submitted only once"
                self.live.append(deed.path)
                self.inputs[deed.path] = deed.command.input
                self.lives[deed.path] = deed.restart
            elif isinstance(deed, RetryChild):
                assert deed.restart == self.lives[deed.path], "it goes on under the id that it has"
                self.live.append(deed.path)
            elif isinstance(deed, CancelChild):
                self.cancelled.append(deed.path)
            elif isinstance(deed, EndRun):
                assert self.end is None, "a run ends once"
                self.end = deed
        return events

    def when(self, happening: h.Happening) -> list[e.WorkflowEvent]:
        """What a happening leads to; a refusal fails the test."""
        decision = advance(self.state, happening, self.now)
        assert not isinstance(decision, Refusal), decision
        self.decisions.append((len(self.history), happening, self.now))
        return self._take(decision)

    def retry(self, begin: Start = "failed") -> list[e.WorkflowEvent]:
        """The run had ended badly and goes on; what was still under way is given up."""
        self.live, self.end = [], None
        decision = restart(self.state, begin, self.now)
        assert not isinstance(decision, Refusal), decision
        return self._take(decision)

    def ended(self, path: str, outcome: Any, result: Any = None, error: ErrorInfo | None = None) -> h.ChildEnded:
        """The end of the child of the step."""
        return h.ChildEnded(path, outcome, result, error, self.lives[path])

    def refused(self, happening: h.Happening) -> Refusal:
        decision = advance(self.state, happening, self.now)
        assert isinstance(decision, Refusal), decision
        return decision

    def complete(self, path: str, result: Any = None) -> list[e.WorkflowEvent]:
        self.live.remove(path)
        return self.when(self.ended(path, "completed", result))

    def fail(self, path: str, error: ErrorInfo = BOOM) -> list[e.WorkflowEvent]:
        self.live.remove(path)
        return self.when(self.ended(path, "failed", error=error))

    def child_cancelled(self, path: str) -> list[e.WorkflowEvent]:
        self.live.remove(path)
        return self.when(self.ended(path, "cancelled"))

    def pass_time(self, seconds: float) -> list[e.WorkflowEvent]:
        self.now += timedelta(seconds=seconds)
        return self.when(h.TimerDue())

    def due(self) -> datetime | None:
        return next_due(self.state)

    def finish(self, answer: Answer = lambda _path, _input: None) -> "Run":
        """Lets all children complete, the oldest first, and all timers pass, until nothing more happens."""
        while self.state.status not in ENDED:
            if self.live:
                path = self.live[0]
                self.complete(path, answer(path, self.inputs[path]))
                continue
            due = self.due()
            assert due is not None, f"the run is stuck: {dict(self.state.nodes)}"
            self.now = max(self.now, due)
            self.when(h.TimerDue())
        return self.replayed()

    def replayed(self) -> "Run":
        assert fold_run(open_run(self.input), self.history) == self.state
        assert loaded(self.input, self.state) == self.state
        return self

    def of(self, kind: type[e.WorkflowEvent]) -> list[Any]:
        return [event for event in self.history if isinstance(event, kind)]

    @property
    def scheduled(self) -> list[str]:
        return [event.path for event in self.of(e.StepScheduled)]

    @property
    def result(self) -> Any:
        return run_result(self.state)

    @property
    def status_word(self) -> str:
        """As ``state.status``, which type checkers take for what it last was."""
        return self.state.status

    def status(self, path: str) -> str:
        node = self.state.nodes.get(path)
        return "none" if node is None else node.status
