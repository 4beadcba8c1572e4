"""The row's fold against what the orchestrator remembers, over histories that ``decide`` makes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.evolve import fold as evolve_all
from taskloom.domain.values import OUTPUT_SEQ_SPAN, ErrorInfo, OutputSummary, Retry
from taskloom.replay.as_of import up_to
from taskloom.testing.given import GivenTask
from taskloom.testing.given import given as given_task
from taskloom.testing.histories import TaskLife, varied_submission
from taskloom.views.task_executions.fold import _CHANGES, OutOfSequence, fold, fold_all
from taskloom.views.task_executions.row import STATUSES, Row

choices = st.lists(st.integers(0, 200), max_size=40)


def life_of(submission: int, steps: list[int]) -> TaskLife:
    life = TaskLife("task-1", varied_submission(submission))
    for step in steps:
        life.step(step)
    return life


@given(st.integers(0, 100), choices)
def test_row_says_at_every_version_what_the_orchestrator_remembers(submission: int, steps: list[int]) -> None:
    life = life_of(submission, steps)
    row: Row | None = None
    for count, recorded in enumerate(life.recorded, start=1):
        row = fold(row, recorded)
        state = evolve_all(life.recorded[:count])
        assert state is not None
        assert (row.state, row.phase, row.version) == (state.word, state.phase, state.version)
        assert (row.attempt, row.failures, row.overdue) == (state.attempts, state.failures, state.overdue)
        assert row.status == STATUSES[state.word]
        assert row.is_paused == (state.pause is not None and not state.ended)
        assert row.ended == state.ended
        assert (row.created_at, row.updated_at) == (state.submitted_at, state.changed_at)


@given(st.integers(0, 100), choices)
def test_any_prefix_is_the_row_as_of_its_version_and_time(submission: int, steps: list[int]) -> None:
    life = life_of(submission, steps)
    for count, recorded in enumerate(life.recorded, start=1):
        expected = fold_all(life.recorded[:count])
        assert fold_all(up_to(life.recorded, recorded.version)) == expected
        at_its_time = fold_all(up_to(life.recorded, recorded.meta.at))
        assert at_its_time is not None
        assert at_its_time.version >= count


@given(st.integers(0, 100), choices)
def test_folding_changes_no_row_that_it_was_given(submission: int, steps: list[int]) -> None:
    row: Row | None = None
    for recorded in life_of(submission, steps).recorded:
        before = msgspec.json.encode(row)
        given_row, row = row, fold(row, recorded)
        assert msgspec.json.encode(given_row) == before


def test_every_event_type_but_the_first_has_a_change() -> None:
    assert set(_CHANGES) | {e.TaskSubmitted} == set(e.TaskEvent.__args__)


def test_event_that_does_not_follow_is_refused() -> None:
    life = TaskLife().start()
    first = fold(None, life.recorded[0])
    with pytest.raises(OutOfSequence, match="event 3 cannot follow version 1"):
        fold(first, life.recorded[2])
    with pytest.raises(OutOfSequence, match="begins with TaskSubmitted"):
        fold(None, life.recorded[1])


def test_completed_task_shows_result_usage_output_and_times() -> None:
    life = TaskLife().start().complete("done", {"n": 1}, OutputSummary(3, 3, 30))
    row = fold_all(life.recorded)
    assert row is not None
    assert (row.status, row.result, row.response, row.exit_code) == ("COMPLETED", "done", {"n": 1}, 0)
    assert (row.total_tokens, row.cost_usd, row.model_used, row.progress) == (8, 0.001, "taskloom-offline", 1.0)
    assert (row.output_last_seq, row.output_ends, row.output_bytes) == (3, (3,), 30)
    assert row.queued_at is not None
    assert row.started_at is not None
    assert row.created_at <= row.queued_at < row.started_at < life.now == row.completed_at
    assert row.failed_at is None


def test_output_and_usage_are_summed_over_attempts() -> None:
    life = TaskLife(submit=c.SubmitTask(kind="echo", retry=Retry(max_attempts=2))).start()
    life.do(c.ReportFailed(1, "e1", ErrorInfo("ValueError", "broken"), 1, OutputSummary(2, 2, 20))).wait_for_timer()
    row = fold_all(life.start().complete(output=OutputSummary(OUTPUT_SEQ_SPAN + 1, 1, 5)).recorded)
    assert row is not None
    assert row.output_ends == (2, OUTPUT_SEQ_SPAN + 1)
    assert (row.output_chunks, row.output_bytes, row.attempts, row.error) == (3, 25, 2, "")


def test_pause_is_told_until_resumed_and_hides_no_end() -> None:
    life = TaskLife().do(c.PauseTask("lunch"))
    paused = fold_all(life.recorded)
    assert paused is not None
    assert (paused.state, paused.status, paused.pause_reason, paused.paused_by) == ("paused", "PAUSED", "lunch", "ada")
    resumed = fold_all(life.do(c.ResumeTask()).recorded)
    assert resumed is not None
    assert (resumed.is_paused, resumed.paused_at, resumed.pause_reason, resumed.paused_by) == (False, None, "", "")


def test_cancel_of_a_paused_task_tells_that_it_was_paused() -> None:
    row = fold_all(TaskLife().do(c.PauseTask()).do(c.CancelTask("enough")).recorded)
    assert row is not None
    assert (row.status, row.is_cancelled, row.was_paused, row.is_paused) == ("CANCELLED", True, True, False)
    assert (row.cancel_reason, row.cancelled_by, row.failed_at) == ("enough", "ada", row.completed_at)


def test_nul_characters_are_shown_as_replacement_characters() -> None:
    row = fold_all(TaskLife(submit=c.SubmitTask(query="a\x00b", metadata={"k\x00": ["\x00"]})).recorded)
    assert row is not None
    assert (row.query, row.metadata) == ("a\ufffdb", {"k\ufffd": ["\ufffd"]})


def test_the_row_of_a_workflow_counts_its_top_level_steps() -> None:
    steps = [
        {"step_type": "task", "id": "a", "task_template": {"kind": "echo"}},
        {"step_type": "map", "id": "m", "items": [1], "task_template": {"kind": "echo"}, "depends_on": ["a"]},
        {"step_type": "task", "id": "z", "task_template": {"kind": "echo"}, "depends_on": ["m"]},
    ]
    run = given_task(c.SubmitTask(kind="workflow", input={"definition": {"name": "w", "steps": steps}}))
    seen = []
    for command in (None, c.NoteChild("a", "completed"), c.NoteChild("m.0", "failed", error=ErrorInfo("x", "y"))):
        if command is not None:
            run.when(command)
        row = fold_all(run.history)
        assert row is not None
        seen.append((row.steps_total, row.steps_ended, row.steps_failed, row.current_step, row.progress))
    assert seen == [(3, 0, 0, "a", 0.0), (3, 1, 0, "m", 0.33), (3, 3, 1, "", 0.33)]


def _workflow(*steps: dict[str, Any], **definition: Any) -> GivenTask:
    body = {"definition": {"name": "w", "steps": list(steps), **definition}}
    return given_task(c.SubmitTask(kind="workflow", input=body))


def _step(name: str, **fields: Any) -> dict[str, Any]:
    return {"step_type": "task", "id": name, "task_template": {"kind": "echo"}, **fields}


def _progress(run: GivenTask, *paths: str) -> list[float | None]:
    """After each of these steps has completed."""
    seen = []
    for path in paths:
        run.when(c.NoteChild(path, "completed"))
        row = fold_all(run.history)
        assert row is not None
        seen.append(row.progress)
    return seen


def test_items_rounds_and_steps_within_a_step_count_in_whole_percents_that_are_never_rounded_up() -> None:
    wide = {"step_type": "map", "id": "m", "items": [1, 2, 3], "task_template": {"kind": "echo"}}
    assert _progress(_workflow(wide, _step("z")), "m.0", "m.1", "m.2", "z") == [0.16, 0.33, 0.5, 1.0]
    both = {"step_type": "parallel", "id": "p", "sub_steps": [_step("x"), _step("y")]}
    assert _progress(_workflow(both, _step("z")), "p.x", "z", "p.y") == [0.25, 0.75, 1.0]
    taken = {"step_type": "conditional", "id": "c", "condition": True, "true_steps": [_step("x"), _step("y")]}
    assert _progress(_workflow(taken), "c.x", "c.y") == [0.5, 1.0]
    loop = {"step_type": "loop", "id": "l", "max_iterations": 4, "loop_steps": [_step("x"), _step("y")]}
    rounds = [path for n in (1, 2) for path in (f"l.{n}.x", f"l.{n}.y")]
    assert _progress(_workflow(loop), *rounds) == [0.0, 0.25, 0.25, 0.5]


def test_a_run_that_goes_on_counts_what_is_done_and_what_runs() -> None:
    wide = {"step_type": "map", "id": "m", "items": [1, 2], "task_template": {"kind": "echo"}}
    run = _workflow(_step("a", on_failure="continue"), _step("b"), wide, _step("z", depends_on=["m"]))
    run.when(c.NoteChild("a", "failed"))
    run.when(c.NoteChild("b", "completed"))
    run.when(c.NoteChild("m.0", "completed"))
    run.when(c.NoteChild("m.1", "failed"))
    failed = fold_all(run.history)
    assert failed is not None
    assert (failed.state, failed.steps_ended, failed.steps_failed, failed.steps_running) == ("failed", 4, 2, 0)
    run.when(c.RetryTask())
    row = fold_all(run.history)
    assert row is not None
    assert (row.state, row.steps_ended, row.steps_completed, row.steps_failed) == ("running", 2, 1, 1)
    assert (row.steps_running, row.steps_parts, row.progress) == (1, {"m": [1, 2]}, 0.37)
    run.when(c.NoteChild("m.1", "completed", restart=1))
    run.when(c.NoteChild("z", "completed", restart=1))
    done = fold_all(run.history)
    assert done is not None
    assert (done.state, done.steps_completed, done.steps_running, done.steps_parts) == ("completed", 3, 0, {})
    run.check_replay()


def test_what_failed_and_what_was_skipped_for_it_is_no_progress() -> None:
    run = _workflow(_step("a"), _step("b", depends_on=["a"]), _step("c", depends_on=["b"]))
    run.when(c.NoteChild("a", "completed"))
    run.when(c.NoteChild("b", "failed"))
    row = fold_all(run.history)
    assert row is not None
    assert (row.state, row.progress, row.steps_ended, row.steps_running) == ("failed", 0.33, 3, 0)
