"""A task's state as its stream tells it."""

import pytest

from taskloom.client import Followed, StreamItem


def event(kind: str, message: str = "", at_s: int = 0, **payload: object) -> StreamItem:
    data = {"type": kind, "message": message, "timestamp": f"2026-01-01T00:00:{at_s:02d}Z", "payload": payload}
    return StreamItem("1-0", kind, data)


def output(text: str) -> StreamItem:
    return StreamItem("1-1", "output", {"type": "output", "stream": "stdout", "text": text, "message": text})


def after(*items: StreamItem) -> Followed:
    followed = Followed()
    for item in items:
        followed.take(item)
    return followed


BEGUN = (
    event("WORKFLOW_STARTED", "Starting up", 1),
    event("TASK_QUEUED"),
    event("ATTEMPT_ASSIGNED", attempt=1),
    event("AGENT_STARTED", attempt=1),
)


def test_failed_attempt_is_shown_retrying_and_then_with_its_next_number() -> None:
    retrying = after(*BEGUN, event("ERROR_OCCURRED", attempt=1), event("ERROR_RECOVERY", next_attempt=2))
    again = after(*BEGUN, event("ERROR_RECOVERY"), event("TASK_QUEUED"), event("AGENT_STARTED", attempt=2))

    assert (retrying.state, retrying.attempt) == ("retrying", 1)
    assert (again.state, again.attempt) == ("running", 2)


@pytest.mark.parametrize("end", ["WORKFLOW_COMPLETED", "LLM_OUTPUT"])
def test_completed_task_has_all_its_progress(end: str) -> None:
    followed = after(*BEGUN, event("PROGRESS", progress=0.25), event(end, at_s=5))

    assert (followed.state, followed.ended, followed.progress) == ("completed", True, 1.0)
    assert followed.began_at is not None
    assert followed.changed_at is not None
    assert (followed.changed_at - followed.began_at).total_seconds() == 4


def test_cancelling_stays_on_top_of_what_its_attempt_does() -> None:
    followed = after(*BEGUN[:3], event("WORKFLOW_CANCELLING"), event("AGENT_STARTED", attempt=1))

    assert followed.state == "cancelling"


def test_resumed_task_is_what_it_was() -> None:
    paused = (event("WORKFLOW_PAUSING"), event("WORKFLOW_PAUSED"))

    assert after(*BEGUN, *paused).state == "paused"
    assert after(*BEGUN, *paused, event("WORKFLOW_RESUMED")).state == "running"
    assert after(*BEGUN[:2], *paused, event("WORKFLOW_RESUMED")).state == "ready"


def test_late_report_of_an_older_attempt_does_not_turn_back_the_number() -> None:
    assert after(*BEGUN, event("AGENT_STARTED", attempt=2), event("REPORT_IGNORED", attempt=1)).attempt == 2


def test_last_line_is_the_last_one_with_text() -> None:
    assert after(*BEGUN, output("one\ntwo\n")).last_line == "two"
    assert after(*BEGUN, output("one\ntwo\n"), output("\n")).last_line == "two"


def test_only_changes_of_state_are_told() -> None:
    followed = Followed()

    assert [followed.take(item) for item in (*BEGUN, output("x"), event("PROGRESS"))] == [
        True,
        False,
        True,
        True,
        False,
        False,
    ]
