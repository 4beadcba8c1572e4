import time

import pytest

from services.gateway.wait import Recent, until_visible


def test_what_was_accepted_is_expected_until_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = Recent(keep_s=30.0)
    recent.add("red", "t", 3)
    assert recent.expected_version("red", "t") == 3
    assert recent.expected_version("blue", "t") == 0
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert recent.expected_version("red", "t") == 0


def test_memory_of_what_was_accepted_is_bounded() -> None:
    recent = Recent(capacity=2)
    for name in ("a", "b", "c"):
        recent.add("red", name)
    assert [recent.expected_version("red", name) for name in ("a", "b", "c")] == [0, 1, 1]


async def test_a_read_waits_until_the_version_is_there() -> None:
    answers = iter([None, 1, 1, 2])

    async def look() -> int | None:
        return next(answers)

    assert await until_visible(look, lambda version: version, 2, within_s=5.0) == 2


async def test_a_read_gives_up_with_what_there_is() -> None:
    async def look() -> int | None:
        return 1

    assert await until_visible(look, lambda version: version, 2, within_s=0.02) == 1


async def test_a_read_of_something_else_does_not_wait() -> None:
    looks = []

    async def look() -> int | None:
        looks.append(1)
        return None

    assert await until_visible(look, lambda version: version, 0, within_s=5.0) is None
    assert len(looks) == 1
