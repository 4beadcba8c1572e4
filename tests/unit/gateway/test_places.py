import secrets
from itertools import pairwise

import pytest

from services.gateway.places import KEY_BYTES, MARK, NotOpened, Places, StreamIds, at_positions

KEY = secrets.token_bytes(KEY_BYTES)
IDS = StreamIds(KEY, shards=2)


@pytest.mark.parametrize("places", [Places([0, 0], [0, 0]), Places([7, 2**62], [1, 0]), Places([2**63, 1], [0, 3])])
def test_an_id_leads_back_to_its_place_in_every_gateway_with_the_key(places: Places) -> None:
    assert StreamIds(KEY, shards=2).read("blue", f" {IDS.text('blue', places)} ") == places


def test_ids_tell_nothing_of_how_much_happened_not_even_whether_anything_did() -> None:
    ids = [IDS.text("blue", at_positions([position, position])) for position in (0, 1, 2**62) for _ in range(50)]
    assert len({len(each) for each in ids}) == 1
    assert len(set(ids)) == len(ids)
    # No byte stays, so no byte counts: of 96 random bits and what they seal, two ids share few by chance.
    same = [
        sum(a == b for a, b in zip(one[len(MARK) :], other[len(MARK) :], strict=True)) for one, other in pairwise(ids)
    ]
    assert max(same) < 16


def test_an_id_of_another_tenant_or_system_does_not_open() -> None:
    mine = IDS.text("blue", at_positions([1, 2]))
    for ids, tenant in (
        (IDS, "red"),
        (StreamIds(secrets.token_bytes(KEY_BYTES), 2), "blue"),
        (StreamIds(KEY, 4), "blue"),
    ):
        with pytest.raises(NotOpened):
            ids.read(tenant, mine)


def test_an_id_changed_in_any_place_does_not_open() -> None:
    mine = IDS.text("blue", at_positions([1, 2]))
    for place in range(len(MARK), len(mine)):
        other = "A" if mine[place] != "A" else "B"
        with pytest.raises(NotOpened):
            IDS.read("blue", mine[:place] + other + mine[place + 1 :])
    for text in (MARK, mine[:-1], mine + "A", f"{MARK}é", f"{MARK}%%%", MARK + "A" * 10_000):
        with pytest.raises(NotOpened):
            IDS.read("blue", text)


@pytest.mark.parametrize("text", ["", "5-1", "p0:1,p1:2", "7", "yesterday"])
def test_what_is_no_id_of_such_a_stream_is_none(text: str) -> None:
    assert IDS.read("blue", text) is None


def test_zero_is_the_very_beginning() -> None:
    assert IDS.read("blue", "0") == at_positions([0, 0])
