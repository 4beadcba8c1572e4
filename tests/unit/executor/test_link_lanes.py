"""How what is published over a link is cut into pushes."""

import pytest

from services.executor.link.lanes import LEAST_PART_BYTES, Lane, in_parts
from taskloom.bus.publish import OutRecord
from taskloom.wire import link as wire

KIB = 1024


def records(*sizes: int) -> list[OutRecord]:
    return [OutRecord("t", 0, str(n).encode(), b"x" * size, []) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([0, 0, 0], [3]),
        ([100] * 500, [500]),
        ([64 * KIB] * 32, [8, 8, 8, 8]),
        ([64 * KIB] * 33, [9, 9, 9, 6]),
        ([3_000 * KIB, 10, 10], [1, 2]),
        ([10, 3_000 * KIB, 10], [2, 1]),
        ([LEAST_PART_BYTES, 1], [1, 1]),
    ],
)
def test_it_is_cut_in_order_into_four_parts_at_most_and_small_ones_stay_whole(
    sizes: list[int], parts: list[int]
) -> None:
    given = records(*sizes)
    made = in_parts(given)
    assert [len(part) for part in made] == parts
    assert [record for part in made for record in part] == given
    assert len(made) <= wire.PUSHES_AT_ONCE


async def test_a_lane_hands_all_parts_on_at_once() -> None:
    pushed: list[tuple[wire.Lane, list[int]]] = []

    async def push(lane: wire.Lane, parts: list[list[OutRecord]]) -> None:
        pushed.append((lane, [len(part) for part in parts]))

    await Lane("outputs", push).publish(records(*[64 * KIB] * 32))
    assert pushed == [("outputs", [8, 8, 8, 8])]
