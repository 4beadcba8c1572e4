import json
from datetime import UTC, datetime

import pytest

from services.gateway.feed import Position
from services.gateway.frames import Wanted, chunk_frame, event_frame
from services.gateway.ids import derived_id, new_task_id
from services.gateway.problems import BadRequest
from services.gateway.streaming import read_resume_id, resume_position
from taskloom.domain.ids import is_valid_id
from taskloom.views.outputs.query import Chunk
from taskloom.views.timelines.stream import StreamEvent

NOW = datetime(2026, 11, 21, tzinfo=UTC)
EVERYTHING = Wanted("")


def test_made_ids_are_ids_and_rise_with_time() -> None:
    ids = [new_task_id() for _ in range(100)]
    assert ids == sorted(set(ids))
    assert all(is_valid_id(each) for each in ids)


def test_derived_ids_depend_on_each_part_and_on_where_it_ends() -> None:
    assert derived_id("task", "red", "k") == derived_id("task", "red", "k")
    assert derived_id("task", "red", "k") != derived_id("task", "re", "dk")
    assert is_valid_id(derived_id("task", "red", "any text\n at all"))


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("12-7", Position(12, 7)),
        ("12", Position(12, 0)),
        ("0-0", Position()),
        ("12-x", None),
        ("-7", None),
        ("x", None),
        ("١-٢", None),
        ("9" * 40, Position(2**62, 0)),
    ],
)
def test_resume_ids(text: str, position: Position | None) -> None:
    assert read_resume_id(text) == position


def test_the_header_wins_and_a_wrong_one_is_ignored() -> None:
    assert resume_position("5-1", "3-0") == Position(5, 1)
    assert resume_position("nonsense", "3-0") == Position(3, 0)
    assert resume_position("", "") == Position()
    with pytest.raises(BadRequest):
        resume_position("5-1", "nonsense")


def test_frames_are_ascii_and_of_four_lines() -> None:
    event = StreamEvent("t", "PROGRESS", NOW, 4, "line\u2028separator \u0085 and\nfeed", payload={"progress": 0.5})
    frame = event_frame(event, 9, EVERYTHING)
    name, kind, data, *rest = frame.decode("ascii").split("\n")
    assert (name, kind, rest) == ("id: 4-9", "event: PROGRESS", ["", ""])
    assert json.loads(data.removeprefix("data: "))["message"] == event.message


def test_control_frames_carry_their_extras() -> None:
    event = StreamEvent("t", "WORKFLOW_CANCELLED", NOW, 4, "Cancelled", payload={"was_paused": True, "attempt": 1})
    frame = event_frame(event, 0, EVERYTHING).decode()
    assert "event: workflow.cancelled\n" in frame
    assert json.loads(frame.split("data: ")[1])["was_paused"] is True


def test_output_that_is_no_text_is_base64() -> None:
    frame = chunk_frame("t", Chunk(3, 1, "stdout", NOW, False, b"\xff\x00"), 2, EVERYTHING).decode()
    data = json.loads(frame.split("data: ")[1])
    assert (data["base64"], data["stream"], data["seq"]) == ("/wA=", "stdout", 3)


def test_unwanted_types_give_no_frame() -> None:
    assert event_frame(StreamEvent("t", "PROGRESS", NOW, 4), 0, Wanted("workflow.paused")) == b""
    assert chunk_frame("t", Chunk(1, 1, "stdout", NOW, True, b"x"), 1, Wanted("done")) == b""
    assert chunk_frame("t", Chunk(1, 1, "message", NOW, True, b"x"), 1, Wanted("thread.message.delta")) != b""
