"""What is shown of a workflow's steps: rows of steps and of their tasks as one page."""

from typing import Any

import msgspec

from services.gateway.workflows import steps_seen
from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow.wanted import child_id
from taskloom.testing.histories import TaskLife
from taskloom.views.steps.fold import fold_all as fold_steps
from taskloom.views.steps.query import StepPage, StepTask, page_of
from taskloom.views.steps.shape import Shape
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.row import Row
from tests.unit.domain.workflow.runs import step, task

BOOM = ErrorInfo("ValueError", "boom")


class Seen:
    """A run and the tasks that its steps have."""

    def __init__(self, *steps: dict[str, Any]) -> None:
        body = {"kind": "workflow", "input": {"definition": {"name": "w", "steps": list(steps)}}}
        self.life = TaskLife("r", msgspec.convert(body, c.SubmitTask))
        self.tasks: dict[str, str] = {}

    def ends(self, path: str, outcome: Any = "completed", restart: int = 0) -> None:
        self.tasks[child_id("r", path, restart)] = outcome
        self.life.do(c.NoteChild(path, outcome, error=BOOM if outcome == "failed" else None, restart=restart))

    def runs(self, path: str, restart: int = 0) -> None:
        self.tasks[child_id("r", path, restart)] = "running"

    @property
    def row(self) -> Row:
        row = fold_all(self.life.recorded)
        assert row is not None
        return row

    def page(self, after: str = "", limit: int = 100) -> StepPage:
        rows = fold_steps(self.life.recorded, Shape(self.row.input)).rows
        tasks = [StepTask(name, "echo", state, 1) for name, state in sorted(self.tasks.items())]
        return page_of(self.row, list(rows.values()), tasks, after=after, limit=limit)

    def words(self) -> dict[str, str]:
        return {each.path: each.status for each in self.page().steps}


def test_steps_within_finished_steps_and_their_tasks_are_shown() -> None:
    run = Seen(step("both", "parallel", sub_steps=[task("a"), task("b")]), task("after", "both"))
    run.ends("both.a")
    run.ends("both.b")
    run.runs("after")
    assert run.words() == {"both": "completed", "both.a": "completed", "both.b": "completed", "after": "running"}
    [_, _, _, inner] = run.page().steps
    assert (inner.path, inner.parent, inner.task_id, inner.kind) == ("both.b", "both", "r~both.b", "task")


def test_items_rounds_and_what_is_around_them_are_named() -> None:
    items = step("m", "map", items=[1, 2], map_steps=[task("x")])
    loop = step("17", "loop", max_iterations=2, loop_steps=[task("3")])
    run = Seen(items, loop)
    run.ends("m.0.x")
    run.ends("17.1.3")
    seen = {each.path: each for each in steps_seen(run.row, run.page()).steps}
    assert (seen["m.0"].kind, seen["m.0"].parent, seen["m.0"].index) == ("item", "m", 0)
    assert (seen["m.0.x"].kind, seen["m.0.x"].parent) == ("task", "m.0")
    assert (seen["17.1.3"].kind, seen["17.1.3"].parent, seen["17.1.3"].iteration) == ("task", "17", 1)


def test_only_the_branch_that_was_taken_is_shown() -> None:
    gate = step("gate", "conditional", condition=False, true_steps=[task("yes")], false_steps=[task("no")])
    run = Seen(gate)
    run.ends("gate.no")
    assert run.words() == {"gate": "completed", "gate.no": "completed"}


def test_after_a_retry_the_steps_are_as_they_stand_now() -> None:
    wait = step("w", "wait", wait_seconds=60)
    both = step("p", "parallel", sub_steps=[task("x"), task("y")])
    run = Seen(task("a"), both, task("b", "a"), task("c", "b"), wait)
    run.ends("a")
    run.ends("p.x")
    run.ends("p.y", "failed")
    run.ends("b", "failed")
    run.life.do(c.FireTimers(), after_s=61)
    assert run.words() == {
        "a": "completed",
        "b": "failed",
        "c": "skipped",
        "p": "failed",
        "p.x": "completed",
        "p.y": "failed",
        "w": "completed",
    }
    run.life.do(c.RetryTask())
    assert run.words() == {"a": "completed", "p": "running", "p.x": "completed", "w": "completed"}
    run.runs("b", restart=1)
    run.ends("p.y", restart=1)
    words = run.words()
    assert (words["b"], words["p"], words["p.y"]) == ("running", "completed", "completed")


def test_a_run_from_its_start_shows_nothing_of_the_life_before() -> None:
    run = Seen(task("a"), task("b", "a"))
    run.ends("a")
    run.ends("b", "failed")
    run.life.do(c.RetryTask(start="start"))
    run.runs("a", restart=1)
    assert run.words() == {"a": "running"}


def test_pages_neither_skip_nor_repeat() -> None:
    run = Seen(
        step("m", "map", items=list(range(30)), task_template={"kind": "echo"}), step("w", "wait", wait_seconds=9)
    )
    for at in range(30):
        run.runs(f"m.{at}")
    found, after = [], ""
    while True:
        page = run.page(after, 7)
        found += [each.path for each in page.steps]
        assert len(page.steps) <= 7
        if not page.next:
            break
        after = page.next
    assert found == sorted(["m", "w", *(f"m.{at}" for at in range(30))])
