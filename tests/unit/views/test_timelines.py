from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.values import Retry
from taskloom.testing.histories import TaskLife, varied_submission
from taskloom.views.timelines.entries import FULL_ONLY, timeline
from taskloom.views.timelines.stream import after_end, last_retry, stream_event, stream_events
from taskloom.views.timelines.texts import _TEXTS

lives = st.builds(
    lambda submission, steps: [
        life := TaskLife("task-1", varied_submission(submission)),
        *(life.step(step) for step in steps),
    ][0],
    st.integers(0, 100),
    st.lists(st.integers(0, 200), max_size=40),
)


@given(lives)
def test_stream_events_are_numbered_from_one_without_a_gap(life: TaskLife) -> None:
    events = stream_events(life.recorded)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(event.message for event in events)


@given(lives)
def test_stored_event_up_to_the_end_is_one_stream_event_with_its_version_as_seq(life: TaskLife) -> None:
    last = last_retry(life.recorded)
    for place, (recorded, event) in enumerate(zip(life.recorded, stream_events(life.recorded), strict=False)):
        assert event == stream_event(recorded)
        assert event.seq == recorded.version
        if place > last and after_end(recorded):
            break


@given(lives)
def test_stream_ends_exactly_when_the_task_did(life: TaskLife) -> None:
    ends = [event for event in stream_events(life.recorded) if event.type == "STREAM_END"]
    assert life.state is not None
    assert len(ends) == (1 if life.state.ended else 0)


@given(lives)
def test_summary_is_the_full_timeline_without_its_details(life: TaskLife) -> None:
    full, summary = timeline(life.recorded, "full"), timeline(life.recorded)
    kept = [(entry.id, entry.type, entry.message) for entry in full.entries if entry.type not in FULL_ONLY]
    assert [(entry.id, entry.type, entry.message) for entry in summary.entries] == kept
    assert len({entry.id for entry in full.entries}) == len(full.entries)
    assert {entry.version for entry in full.entries} == {recorded.version for recorded in life.recorded}
    assert summary.stats == {"total": len(kept), "mode": "summary"}


def test_every_event_type_has_a_text() -> None:
    assert set(_TEXTS) == set(e.TaskEvent.__args__)


def test_answer_of_a_query_comes_before_the_completion_and_the_end() -> None:
    events = stream_events(TaskLife().start().complete("the answer").recorded)
    assert [event.type for event in events[-3:]] == ["LLM_OUTPUT", "WORKFLOW_COMPLETED", "STREAM_END"]
    assert events[-3].message == "the answer"
    assert events[-3].payload is not None
    assert events[-3].payload["result"] == "the answer"


def test_task_without_a_model_completes_with_one_event_and_the_end() -> None:
    life = TaskLife().start().do(c.ReportCompleted(1, "e1", "text"))
    assert [event.type for event in stream_events(life.recorded)][-2:] == ["WORKFLOW_COMPLETED", "STREAM_END"]


def test_late_report_after_the_end_keeps_the_numbers_rising() -> None:
    life = TaskLife().start().complete().do(c.ReportCompleted(1, "e9", "late"))
    events = stream_events(life.recorded)
    assert [event.type for event in events[-2:]] == ["STREAM_END", "REPORT_IGNORED"]
    assert events[-1].seq == events[-2].seq + 1


def test_control_events_have_the_names_of_the_contract() -> None:
    life = TaskLife().start().do(c.PauseTask()).do(c.ReportPaused(1, "e1", "half")).do(c.ResumeTask())
    life.do(c.CancelTask("enough")).do(c.ReportStopped(1, "e1"))
    types = [event.type for event in stream_events(life.recorded)]
    assert types[4:] == [
        "WORKFLOW_PAUSING",
        "WORKFLOW_PAUSED",
        "WORKFLOW_RESUMED",
        "WORKFLOW_CANCELLING",
        "WORKFLOW_CANCELLED",
        "STREAM_END",
    ]


def test_summary_line_of_an_attempt_tells_its_duration() -> None:
    entries = timeline(TaskLife().start().complete().recorded).entries
    assert [entry.type for entry in entries] == ["WF_STARTED", "ACT_COMPLETED", "WF_COMPLETED"]
    assert entries[1].message == "Attempt 1 on executor e1 completed after 0.500 s"


def test_failure_texts_are_cut_unless_payloads_are_asked_for() -> None:
    life = TaskLife(submit=c.SubmitTask(kind="echo", retry=Retry(max_attempts=1))).start().fail("x" * 500)
    assert max(len(entry.message) for entry in timeline(life.recorded).entries) == 200
    whole = timeline(life.recorded, include_payloads=True).entries
    assert max(len(entry.message) for entry in whole) > 500
    assert all(entry.payload is not None for entry in whole)
