import json
from datetime import UTC, datetime
from functools import partial

import pytest

from services.gateway.feed import Position
from services.gateway.frames import SSE_NAMES, Kept, SseFraming, Wanted, WsFraming, type_of
from services.gateway.ids import derived_id, new_task_id
from services.gateway.problems import BadRequest
from services.gateway.streaming import read_resume_id, resume_position
from taskloom.domain.ids import is_valid_id
from taskloom.views.outputs.query import Chunk
from taskloom.views.timelines.stream import StreamEvent

NOW = datetime(2026, 11, 21, tzinfo=UTC)


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
    frame = SseFraming().event(event, "4-9")
    name, kind, data, *rest = frame.decode("ascii").split("\n")
    assert (name, kind, rest) == ("id: 4-9", "event: PROGRESS", ["", ""])
    assert json.loads(data.removeprefix("data: "))["message"] == event.message


def test_control_frames_carry_their_extras() -> None:
    event = StreamEvent("t", "WORKFLOW_CANCELLED", NOW, 4, "Cancelled", payload={"was_paused": True, "attempt": 1})
    frame = SseFraming().event(event, "4-0").decode()
    assert "event: workflow.cancelled\n" in frame
    assert json.loads(frame.split("data: ")[1])["was_paused"] is True


def test_output_that_is_no_text_is_base64() -> None:
    frame = SseFraming().chunk("t", Chunk(3, 1, "stdout", NOW, False, b"\xff\x00"), "2-3").decode()
    data = json.loads(frame.split("data: ")[1])
    assert (data["base64"], data["stream"], data["seq"]) == ("/wA=", "stdout", 3)


def test_types_are_known_in_both_spellings() -> None:
    for inner, shown in SSE_NAMES.items():
        assert inner in Wanted(shown)
        assert inner in Wanted(f"PROGRESS, {inner} ,")
        assert "WORKFLOW_STARTED" not in Wanted(shown)
    assert "WORKFLOW_STARTED" in Wanted(" , ")
    assert type_of(Chunk(1, 1, "message", NOW, True, b"x")) in Wanted("thread.message.delta")
    assert type_of(Chunk(1, 1, "stdout", NOW, True, b"x")) in Wanted("output")


def test_an_event_is_encoded_once_and_each_stream_has_its_own_id() -> None:
    framing = WsFraming()
    first = json.loads(framing.event(StreamEvent("t", "PROGRESS", NOW, 4, "once"), "4-9"))
    second = json.loads(framing.event(StreamEvent("t", "PROGRESS", NOW, 4, "kept"), "at-7"))
    assert (first.pop("stream_id"), second.pop("stream_id")) == ("4-9", "at-7")
    assert first == second
    assert (first["type"], first["message"]) == ("PROGRESS", "once")


def test_what_is_kept_is_bounded_by_its_bytes() -> None:
    kept = Kept(most_bytes=100)
    for number in range(50):
        kept.get((number,), partial(dict, n=number, text="x" * 20))
    assert kept.get((49,), lambda: {"n": "made anew"}).startswith(b'{"n":49')
    assert kept.get((0,), lambda: {"n": "made anew"}) == b'{"n":"made anew"'
