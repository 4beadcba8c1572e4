"""The agent's side of secrets over its link: asked until it is answered, handed on once, kept nowhere."""

import asyncio

import msgspec
import pytest

from services.executor.link.secrets import AT_ONCE, Asks
from taskloom.domain.task.directives import RunAttempt
from taskloom.kinds.api import TaskError
from taskloom.wire import link as wire

ORDER = RunAttempt("t", 2, "agent1", "i", "shell")


class Room:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.asks = Asks(self.sent.append)

    async def ask(self, *names: str) -> "asyncio.Task[dict[str, str]]":
        asking = asyncio.create_task(self.asks.find(ORDER, set(names)))
        await asyncio.sleep(0)
        return asking


def read(frame: bytes) -> wire.Ask:
    asked = wire.decode_up(frame)
    assert isinstance(asked, wire.Ask)
    return asked


async def test_an_answer_goes_to_whom_it_is_for_and_is_forgotten() -> None:
    room = Room()
    first, second = await room.ask("star"), await room.ask("moon", "sun")
    assert [read(frame) for frame in room.sent] == [wire.Ask(1, "t", 2, ["star"]), wire.Ask(2, "t", 2, ["moon", "sun"])]
    room.asks.told(wire.Told(2, {"moon": "m", "sun": "s"}))
    room.asks.told(wire.Told(2, {"moon": "again", "sun": "again"}))
    room.asks.told(wire.Told(99, {"moon": "nobody asked"}))
    assert await second == {"moon": "m", "sun": "s"}
    assert [read(frame).seq for frame in room.asks.unanswered()] == [1]
    room.asks.told(wire.Told(1, {"star": "x"}))
    assert await first == {"star": "x"}
    assert room.asks.unanswered() == []


async def test_a_question_without_an_answer_is_asked_again_and_a_cancelled_one_is_not() -> None:
    room = Room()
    first, second = await room.ask("star"), await room.ask("moon")
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert room.asks.unanswered() == room.sent[:1]
    room.asks.told(wire.Told(2, {"moon": "too late"}))
    room.asks.told(wire.Told(1, {"star": "x"}))
    assert await first == {"star": "x"}


@pytest.mark.parametrize(
    ("problem", "retryable"), [("secret_refused", False), ("secret_missing", False), ("secret_unavailable", True)]
)
async def test_a_no_fails_the_attempt_with_what_was_said(problem: wire.Problem, retryable: bool) -> None:
    room = Room()
    asking = await room.ask("star")
    room.asks.told(wire.Told(1, problem=problem, message="so it is"))
    with pytest.raises(TaskError, match="so it is") as failed:
        await asking
    assert (failed.value.type, failed.value.retryable, failed.value.fault) == (problem, retryable, retryable)


async def test_half_an_answer_is_none() -> None:
    room = Room()
    asking = await room.ask("star", "moon")
    room.asks.told(wire.Told(1, {"star": "x"}))
    with pytest.raises(TaskError, match="did not tell all"):
        await asking


async def test_so_many_are_under_way_and_the_end_of_the_link_ends_all() -> None:
    room = Room()
    asking = [await room.ask(f"s{n}") for n in range(AT_ONCE + 5)]
    assert len(room.sent) == AT_ONCE
    room.asks.end()
    ended = await asyncio.gather(*asking, return_exceptions=True)
    assert [each.type for each in ended if isinstance(each, TaskError)] == ["secret_unavailable"] * len(asking)


def test_an_answer_shows_no_secret_where_it_is_printed() -> None:
    told = wire.Told(1, {"star": "tall-ships"})
    assert "tall-ships" not in repr(told) + str(told) + f"{told!s}"
    assert msgspec.json.decode(wire.encode(told))["values"] == {"star": "tall-ships"}
