"""Runs a workflow in a test without a server: the real engine in memory, tasks called here, and a clock that jumps.

::

    assert run(checkout, order) == Receipt(ok=True)

    held = LocalRun(checkout, order, instead={"shop.charge": lambda order: Receipt(ok=True)})
    held.signal("paid", {"amount": 3})
    assert held.result == …
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from taskloom.app.context import LocalContext, LocalSyncContext
from taskloom.app.tasks import Task
from taskloom.app.workflows import Workflow
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import ErrorInfo, Retry
from taskloom.domain.workflow import happenings as h
from taskloom.domain.workflow.advance import advance, start
from taskloom.domain.workflow.definition import WaitStep
from taskloom.domain.workflow.evolve import evolve_run, open_run
from taskloom.domain.workflow.results import run_result
from taskloom.domain.workflow.state import ENDED, next_due
from taskloom.domain.workflow.wanted import EndRun, SubmitChild, wanted
from taskloom.errors import TaskloomError
from taskloom.kinds.api import TaskError

R = TypeVar("R")
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
Instead = Mapping[str, Callable[..., Any]]


class RunEnded(TaskloomError):
    """The run ended, but not well; ``error`` says why."""

    def __init__(self, outcome: str, error: ErrorInfo | None) -> None:
        super().__init__(f"the run {outcome}" + (f": {error.type}: {error.message}" if error else ""))
        self.outcome = outcome
        self.error = error


class StillWaiting(TaskloomError):
    """The run has not ended: it waits for a signal, an approval or a condition."""


class LocalRun(Generic[R]):
    """Goes on until the run has ended or waits for something that only the test can bring.

    ``calls`` lists the tasks in their order, each as (path of the step, kind, input). ``instead`` has functions, by
    kind, that are called in place of tasks. Waits take no time: ``now`` jumps to their end, unless something waits for
    the test at the same time.
    """

    def __init__(self, workflow: Workflow[R], /, *args: Any, instead: Instead | None = None, **kwargs: Any) -> None:
        self._workflow = workflow
        run_input = workflow.submission(*args, **kwargs)["input"]
        self._engine = _Engine(run_input, workflow.tasks, dict(instead or {}), "run")
        self._engine.go()

    @property
    def calls(self) -> list[tuple[str, str, dict[str, Any]]]:
        return self._engine.calls

    @property
    def now(self) -> datetime:
        return self._engine.now

    def signal(self, name: str, payload: Any = None) -> None:
        self._engine.happen(h.Signal(name, payload))

    def decide(self, step: str, approved: bool, by: str = "", comment: str = "") -> None:
        """Decides on the approval that waits at the step."""
        self._engine.happen(h.Decide(step, approved, by, comment))

    def set_variables(self, **values: Any) -> None:
        self._engine.happen(h.PatchVariables(values))

    def cancel(self, reason: str = "") -> None:
        self._engine.happen(h.Cancel(reason))

    def pass_time(self, seconds: float) -> None:
        """Lets time pass while the run waits, for instance so that a limit is over."""
        self._engine.now += timedelta(seconds=seconds)
        self._engine.happen(h.TimerDue())

    @property
    def result(self) -> R:
        """What the workflow returned, in the type that its function declares.

        Raises:
            RunEnded: it failed or was cancelled.
            StillWaiting: it has not ended.
        """
        return self._workflow.read(self._engine.result())


def run(workflow: Workflow[R], /, *args: Any, **kwargs: Any) -> R:
    """The result of a run that needs nobody.

    Raises:
        RunEnded: it failed.
        StillWaiting: it waits for something; use ``LocalRun``.
    """
    return LocalRun(workflow, *args, **kwargs).result


class _Engine:
    def __init__(self, run_input: dict[str, Any], tasks: Mapping[str, Task[Any]], instead: Instead, name: str) -> None:
        self._tasks, self._instead, self._name = tasks, instead, name
        self._state = open_run(run_input)
        self._queue: list[SubmitChild] = []
        self._end: EndRun | None = None
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.now = START
        self._take(start(self._state, self.now))

    def go(self) -> None:
        while self._state.status not in ENDED:
            due = next_due(self._state)
            if self._queue:
                child = self._queue.pop(0)
                self._take(advance(self._state, self._run(child), self.now))
            elif due is not None and (due <= self.now or not self._waits_for_somebody()):
                self.now = max(self.now, due)
                self._take(advance(self._state, h.TimerDue(), self.now))
            else:
                return

    def _waits_for_somebody(self) -> bool:
        waiting = [node.plan.step for node in self._state.nodes.values() if node.status == "waiting"]
        return any(not isinstance(step, WaitStep) or step.wait_condition is not None for step in waiting)

    def happen(self, happening: h.Happening) -> None:
        self._take(advance(self._state, happening, self.now))
        self.go()

    def result(self) -> Any:
        if self._end is None:
            waiting = [path for path, node in sorted(self._state.nodes.items()) if node.status == "waiting"]
            raise StillWaiting(f"the run waits at {', '.join(waiting)}")
        if self._end.outcome != "completed":
            raise RunEnded(self._end.outcome, self._end.error)
        return run_result(self._state)

    def _take(self, decision: Any) -> None:
        if isinstance(decision, Refusal):
            raise ValueError(decision.message)
        for event in decision:
            self._state = evolve_run(self._state, event)
            deed = wanted(event)
            if isinstance(deed, SubmitChild):
                self._queue.append(deed)
            elif isinstance(deed, EndRun):
                self._end = deed

    def _run(self, child: SubmitChild) -> h.ChildEnded:
        try:
            result = self._workflow(child) if child.command.kind == "workflow" else self._task(child)
        except TaskError as error:
            told = ErrorInfo(error.type, error.message, error.retryable, error.details)
            return h.ChildEnded(child.path, "failed", error=told)
        except RunEnded as ended:
            return h.ChildEnded(child.path, "failed", error=ended.error)
        return h.ChildEnded(child.path, "completed", result)

    def _workflow(self, child: SubmitChild) -> Any:
        engine = _Engine(child.command.input, self._tasks, self._instead, f"{self._name}~{child.path}")
        engine.go()
        self.calls += [(f"{child.path}~{path}", kind, given) for path, kind, given in engine.calls]
        return engine.result()

    def _task(self, child: SubmitChild) -> Any:
        command = child.command
        self.calls.append((child.path, command.kind, command.input))
        task, attempts = self._tasks[command.kind], (command.retry or Retry()).max_attempts
        for attempt in range(1, attempts + 1):
            try:
                return self._attempt(task, command, f"{self._name}~{child.path}", attempt)
            except TaskError as error:
                if attempt == attempts or not error.retryable:
                    raise
            except Exception as error:
                if attempt == attempts:
                    raise TaskError(type(error).__name__, str(error)) from error
        raise AssertionError("unreachable")

    def _attempt(self, task: Task[Any], command: SubmitTask, task_id: str, attempt: int) -> Any:
        local = LocalContext if task.is_async else LocalSyncContext
        arguments = task.arguments(command.input, None)
        call: Callable[..., Any] = task.function
        if command.kind in self._instead:
            call = self._instead[command.kind]
            if task.signature.context is not None:
                del arguments[task.signature.context[0]]
        elif task.signature.context is not None:
            arguments[task.signature.context[0]] = local(task_id, attempt, task.name)
        result = call(**arguments)
        return task.dumped(asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result)


async def _awaited(result: Any) -> Any:
    return await result
