"""Workflows of all kinds of steps, sent through both doors while things die, and what must be true of them then."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import httpx

from taskloom.domain.task.events import AttemptAssigned, AttemptDeclined, AttemptLost, TaskCompleted
from taskloom.domain.workflow.events import StepCompensated
from taskloom.testing.eventually import eventually
from taskloom.wire.recorded import unseal
from tests.chaos.workload import RETRY, Workload, check_history, stored_histories

Json = dict[str, Any]

STEPS: Final = {
    "completed": (
        *("first", "inner", "inner~one", "inner~two", "branch.yes", "last"),
        *("both.x", "both.y", "both.z"),
        *(f"each.{at}" for at in range(5)),
        *(f"turns.{turn}.turn" for turn in (1, 2, 3)),
    ),
    "failed": ("book", "fly", "pay", "book.undo.unbook", "fly.undo.unfly"),
}
"""Paths of the steps that become tasks, by how the run has to end: each of them once, and no other."""

NO_EFFECT: Final = frozenset({"inner", "pay"})
"""Steps that leave no file: a workflow of its own, and one that fails."""

EFFECTS_OF_A_RUN: Final = {end: sum(path not in NO_EFFECT for path in paths) for end, paths in STEPS.items()}


@dataclass
class Runs(Workload):
    """Two runs in three go through every kind of step, the third fails and undoes what it did."""

    step_s: float = 0.05

    def body(self, number: int) -> tuple[Json, str]:
        definition, end = (self._failing(), "failed") if number % 3 == 2 else (self._whole(), "completed")
        return {"kind": "workflow", "input": {"definition": definition, "variables": {"wanted": True}}}, end

    async def signal_all(self) -> None:
        """Sends each run that waits for it its signal, again and again until it is taken: before or after it waits."""
        async with httpx.AsyncClient(base_url=self.system.url, timeout=10) as client:
            signalled: set[str] = set()

            async def all_signalled() -> bool:
                waiting = [name for name, end in self.acknowledged.items() if end == "completed"]
                for run in (name for name in waiting if name not in signalled):
                    if await self._signalled(client, run):
                        signalled.add(run)
                return len(signalled) == len(waiting)

            await eventually(all_signalled, 120, 0.2)

    async def _signalled(self, client: httpx.AsyncClient, run: str) -> bool:
        try:
            answer = await client.post(f"/api/v1/tasks/{run}/signal", json={"name": "go"})
        except httpx.TransportError:
            return False
        # 409: it ended, since an earlier one whose answer was lost had been taken; check() looks at how.
        return answer.status_code in (202, 409)

    def effects(self) -> int:
        """Attempts that have done their work so far."""
        return sum(1 for _ in self.scratch.glob(f"*{self.by_run}-*"))

    def check(self) -> None:
        """Each run ended once and as it should, with each step once; no attempt's effect is there without its event,
        and of those that did not count the executor was lost."""
        histories = stored_histories(self.system.dsn, f"%{self.by_run}%")
        files: dict[str, set[int]] = defaultdict(set)
        for marker in self.scratch.glob(f"*{self.by_run}-*"):
            task_id, _, attempt = marker.name.rpartition(".")
            files[task_id].add(int(attempt))
        for run, end in self.acknowledged.items():
            check_history(run, histories[run], end)
            stored = {name.removeprefix(f"{run}~") for name in histories if name.startswith(f"{run}~")}
            assert stored == set(STEPS[end]), f"{run}: steps {sorted(stored ^ set(STEPS[end]))} are too many or missing"
            for path in STEPS[end]:
                step = f"{run}~{path}"
                check_history(step, histories[step], "failed" if path == "pay" else "completed")
                if path not in NO_EFFECT:
                    check_effects(step, histories[step], files[step])
            self._check_end(run, end, histories[run])

    def _check_end(self, run: str, end: str, bodies: list[bytes]) -> None:
        events = [unseal(body).event for body in bodies]
        if end == "failed":
            undone = [event.path for event in events if isinstance(event, StepCompensated)]
            assert sorted(undone) == ["book", "fly"], f"{run} undid {undone}"
            return
        completed = events[-1]
        assert isinstance(completed, TaskCompleted)
        results = completed.response["results"]
        assert results["each"]["count"] == len([each for each in results["each"]["results"] if each]) == 5
        assert results["turns"]["iterations"] == 3
        assert results["branch"]["condition_result"] is True
        assert completed.response["variables"]["last"] == f"{run}~last", "the last step's variables went in last"

    def _task(self, step_id: str, *needs: str, **fields: Any) -> Json:
        return {"step_type": "task", "id": step_id, "depends_on": needs, "task_template": self._template(), **fields}

    def _template(self) -> Json:
        arguments = {"directory": str(self.scratch), "seconds": self.step_s}
        return {"kind": "python", "input": {"function": "effects:apply", "kwargs": arguments}, "retry": RETRY}

    def _whole(self) -> Json:
        condition = {"field": "wanted", "operator": "equals", "value": True, "source": "variables"}
        inner = {"name": "inner", "steps": [self._task("one"), self._task("two", "one")]}
        steps = [
            self._task("first"),
            {"step_type": "wait", "id": "rest", "depends_on": ["first"], "wait_seconds": 0.5},
            {"step_type": "signal", "id": "go", "depends_on": ["rest"], "signal": "go"},
            {"step_type": "parallel", "id": "both", "depends_on": ["first"]}
            | {"sub_steps": [self._task(name) for name in "xyz"]},
            {"step_type": "map", "id": "each", "depends_on": ["first"], "items": list(range(5)), "max_parallel": 3}
            | {"task_template": self._template()},
            {"step_type": "loop", "id": "turns", "depends_on": ["both"], "max_iterations": 3}
            | {"loop_steps": [self._task("turn")]},
            {"step_type": "child", "id": "inner", "depends_on": ["each"], "definition": inner},
            {"step_type": "conditional", "id": "branch", "depends_on": ["turns"], "condition": condition}
            | {"true_steps": [self._task("yes")], "false_steps": [self._task("no")]},
            self._task("last", "go", "inner", "branch"),
        ]
        return {"name": "whole", "steps": steps}

    def _failing(self) -> Json:
        refused = {"kind": "echo", "input": {"fail_times": 1}, "retry": {"max_attempts": 1}}
        steps = [
            self._task("book", compensation=[self._task("unbook")]),
            self._task("fly", "book", compensation=[self._task("unfly")]),
            {"step_type": "task", "id": "pay", "depends_on": ["fly"], "task_template": refused},
        ]
        return {"name": "failing", "steps": steps, "on_failure": "compensate"}


def check_effects(task_id: str, bodies: list[bytes], ran: set[int]) -> None:
    """The attempt that completed did its work; others did only if they were given up, and never unassigned."""
    assigned, given_up, counted = set(), set(), 0
    for event in (unseal(body).event for body in bodies):
        if isinstance(event, AttemptAssigned):
            assigned.add(event.attempt)
        elif isinstance(event, (AttemptLost, AttemptDeclined)):
            given_up.add(event.attempt)
        elif isinstance(event, TaskCompleted):
            counted = event.attempt
    assert counted in ran, f"{task_id}: attempt {counted} completed, but {sorted(ran)} ran"
    assert ran - given_up == {counted}, f"{task_id}: {sorted(ran)} ran, {sorted(given_up)} were given up"
    assert ran <= assigned, f"{task_id}: {sorted(ran - assigned)} ran without being assigned"


async def until_effects(runs: Runs, count: int, timeout_s: float = 120.0) -> None:
    """Returns when so many effects are there."""
    await eventually(partial(_reached, runs, count), timeout_s, 0.02)


def _reached(runs: Runs, count: int) -> bool:
    return runs.effects() >= count


async def send_and_signal(runs: Runs, count: int) -> None:
    """Sends so many runs through both doors, and each its signal."""
    await runs.send(count)
    assert len(runs.acknowledged) == count
    await runs.signal_all()


def effects_of(count: int) -> int:
    """Effects of the first ``count`` runs when nothing is lost."""
    return sum(EFFECTS_OF_A_RUN["failed" if number % 3 == 2 else "completed"] for number in range(count))


async def gathered(sending: "asyncio.Task[None]", timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        await sending
