"""The tree of a workflow's run."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from taskloom.cli.run_tree import run_tree
from taskloom.client import Run, RunStep, Task

STEPS: list[dict[str, Any]] = [
    {"id": "build", "step_type": "task", "task_template": {"name": "Build it"}},
    {
        "id": "gate",
        "step_type": "conditional",
        "true_steps": [{"id": "deploy", "step_type": "task"}],
        "false_steps": [{"id": "mend", "step_type": "task"}],
    },
    {"id": "watch", "step_type": "loop", "loop_steps": [{"id": "look", "step_type": "task"}]},
]


def drawn(status: str, *steps: RunStep, given: Any = None) -> list[str]:
    task = Task(
        task_id="r",
        status="TASK_STATUS_RUNNING",
        state="running",
        kind="workflow",
        queue="default",
        priority=2,
        attempt=0,
        version=1,
        max_attempts=1,
        created_at=datetime.now(UTC),
        name="ship",
        input=given or {"definition": {"name": "ship", "steps": STEPS}},
    )
    out = Console(width=80, force_terminal=False)
    with out.capture() as captured:
        out.print(run_tree(task, Run(status, 50.0, {}, list(steps), {})))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_steps_that_have_not_begun_are_drawn_too() -> None:
    lines = drawn(
        "running", RunStep("build", "completed", "task", "r~build"), RunStep("gate", "running", "conditional")
    )

    assert lines == [
        "ship  running  50 %",
        "├── ✓ build  Build it",
        "├── ▶ gate  conditional",
        "│   ├── ○ deploy  (if so)",
        "│   └── ○ mend  (if not)",
        "└── ○ watch  loop",
        "    └── ○ look",
    ]


def test_a_loop_shows_the_round_that_runs_and_a_failure_its_reason() -> None:
    steps = [RunStep("watch", "running", "loop"), *(RunStep(f"watch.{n}.look", "running", "task") for n in (9, 10))]

    lines = drawn("running", RunStep("build", "failed", "task", "r~build", "no compiler\nat all"), *steps)

    assert lines[1] == "├── ✗ build  Build it  no compiler"
    assert lines[-2:] == ["└── ▶ watch  loop  (round 10)", "    └── ▶ look"]


def test_what_a_run_that_ended_left_out_is_marked_so() -> None:
    taken = [RunStep("gate", "completed", "conditional"), RunStep("gate.mend", "completed", "task")]

    lines = drawn("completed", RunStep("build", "completed", "task"), *taken)

    assert lines[3:5] == ["│   ├── – deploy  (if so)", "│   └── ✓ mend  (if not)"]


def test_the_run_of_a_stored_workflow_has_the_steps_that_it_was_pinned_to() -> None:
    pinned = {"ship": {"revision": 3, "definition": {"name": "ship", "steps": STEPS}}}
    stored = drawn("running", RunStep("build", "running", "task"), given={"workflow": "ship", "pinned": pinned})
    assert stored == drawn("running", RunStep("build", "running", "task"))
    assert len(drawn("running", given={"something": "else"})) == 1


def test_a_goal_shows_no_definition_and_its_steps_are_drawn_in_a_row() -> None:
    steps = RunStep("plans", "running", "loop"), RunStep("plans.1.work.1.stepping.one.do", "failed", "task", error="no")
    assert drawn("running", *steps, given={"goal": "find it"}) == [
        "ship  running  50 %",
        "├── ▶ plans",
        "└── ✗ plans.1.work.1.stepping.one.do  no",
    ]
