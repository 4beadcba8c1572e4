"""Output that memory has no room for: it waits on disk, in order, up to a bound, and comes back when there is room."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.executor.link.spill import Spill
from services.executor.outbox import Outbox
from taskloom.bus.publish import OutRecord
from taskloom.testing.eventually import eventually


def record(number: int, size: int = 1000) -> OutRecord:
    return OutRecord("outputs", 0, b"t", f"{number:04}".encode() + b"x" * (size - 4), [("ce_id", b"t/1")])


class Gate:
    """Takes nothing until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.taken: list[OutRecord] = []

    async def publish(self, records: Sequence[OutRecord]) -> None:
        await self.opened.wait()
        self.taken += records


def test_records_come_back_in_their_order_and_as_they_were(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path), 10_000)
    for number in range(3):
        spill.push(record(number))
    assert spill.pop() == record(0)
    spill.push(record(3))
    assert [spill.pop() for _ in range(3)] == [record(1), record(2), record(3)]
    assert len(spill) == 0
    with pytest.raises(IndexError):
        spill.pop()


def test_it_is_full_at_its_bound_and_leaves_no_file_behind(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path), 2_500)
    for number in range(3):
        assert not spill.is_full
        spill.push(record(number))
    assert spill.is_full
    assert list(tmp_path.iterdir()) == []
    spill.pop()
    assert [spill.is_full] == [False]
    spill.close()
    assert len(spill) == 0


def fills(outbox: Outbox, number: int, acknowledged: list[int]) -> bool:
    outbox.put(record(number), lambda: acknowledged.append(number))
    return outbox.is_full


async def test_an_outbox_spills_what_memory_has_no_room_for_and_holds_writers_back_only_then(tmp_path: Path) -> None:
    gate = Gate()
    acknowledged: list[int] = []
    spill = Spill(str(tmp_path), 20_000)
    outbox = Outbox(gate, name="outputs", max_records=100, max_bytes=3_000, overflow=spill, batch_bytes=2_000)
    running = asyncio.create_task(outbox.run())
    put = next(number for number in range(100) if fills(outbox, number, acknowledged)) + 1
    assert put > 20
    assert len(outbox) == put
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.opened.set()
    await waiting
    await eventually(lambda: len(outbox) == 0)
    assert acknowledged == list(range(put))
    assert gate.taken == [record(number) for number in range(put)]
    outbox.close()
    await running
