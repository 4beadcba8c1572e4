from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from taskloom.domain.task import events as e
from taskloom.wire import recorded as recorded_module
from taskloom.wire.errors import WireError
from taskloom.wire.recorded import GENESIS, EventMeta, Recorded, chain_fault, link, seal, unseal
from taskloom.wire.upcast import upcast
from tests.unit.domain.task.strategies import errors, json_values, objects, outputs, resources, texts, usages

AT = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
events = st.one_of(
    st.builds(e.AttemptHeartbeat, st.integers(1, 99), st.none() | st.floats(0, 1), texts, objects),
    st.builds(e.AttemptFailed, st.integers(1, 99), errors, st.none() | st.integers(0, 255), outputs, resources, usages),
    st.builds(e.TaskCompleted, st.integers(1, 99), texts, json_values, st.none() | st.integers(0, 255), outputs),
    st.builds(e.RetryScheduled, st.integers(1, 99), st.datetimes(timezones=st.just(UTC)), st.floats(0, 1e6), texts),
    st.just(e.TaskQueued()),
)


def chain(count: int) -> list[Recorded]:
    history, digest = [], GENESIS
    for version in range(1, count + 1):
        sealed = seal(e.TaskQueued(), EventMeta("t", version, AT, "default"), digest)
        digest = sealed.digest
        history.append(sealed)
    return history


@given(events, texts, texts)
def test_what_is_sealed_comes_back(event: e.TaskEvent, command_id: str, actor: str) -> None:
    sealed = seal(event, EventMeta("t", 7, AT, "acme", command_id, actor), b"\x01" * 32)
    assert unseal(sealed.body) == sealed
    assert link(sealed.body, b"\x01" * 32) == sealed.digest


def test_the_stored_json_is_flat_and_carries_the_public_name() -> None:
    assert msgspec.json.decode(chain(1)[0].body).keys() == {"task_id", "version", "at", "tenant_id", "type", "hash"}
    assert chain(1)[0].type == "taskloom.task.queued.v1"


def test_an_intact_chain_has_no_fault() -> None:
    bodies = [recorded.body for recorded in chain(5)]
    assert chain_fault(bodies) is None
    assert chain_fault(bodies[3:], chain(5)[2].digest, 4) is None
    assert chain_fault([]) is None


@given(st.integers(0, 4), st.data())
def test_any_changed_byte_is_found(place: int, data: st.DataObject) -> None:
    bodies = [recorded.body for recorded in chain(5)]
    body = bodies[place]
    at, bit = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(0, 7))
    changed = body[:at] + bytes([body[at] ^ (1 << bit)]) + body[at + 1 :]
    in_hash = at >= len(body) - 66
    assume(not (in_hash and changed.lower() == body.lower()))  # the same digest, written in capitals
    bodies[place] = changed
    assert chain_fault(bodies) is not None


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([0, 2], "event 2 is missing: version 3 stands in its place"),
        ([1, 0], "event 1 is missing: version 2 stands in its place"),
        ([0, 0], "event 2 is missing: version 1 stands in its place"),
        ([1], "event 1 is missing: version 2 stands in its place"),
    ],
)
def test_a_missing_or_moved_event_is_named(order: list[int], said: str) -> None:
    history = chain(3)
    assert chain_fault([history[index].body for index in order]) == said


def test_an_event_that_was_sealed_again_after_a_change_breaks_the_next_one() -> None:
    history = chain(3)
    forged = seal(e.TaskQueued("retry"), history[1].meta, history[0].digest)
    assert chain_fault([history[0].body, forged.body, history[2].body]) == (
        "event 3 does not match its hash: it or the one before it was changed"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"task_id":"t"}',
        chain(1)[0].body[:-1],
        chain(1)[0].body.replace(b"queued", b"qqqqqq"),
        b"[" * 99_999,
    ],
    ids=["nothing", "empty", "binary", "no hash", "cut off", "unknown type", "deep"],
)
def test_bytes_that_are_no_event_are_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="not an event"):
        unseal(body)


def test_older_forms_are_brought_up_to_date_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    old = chain(1)[0].body.replace(b"taskloom.task.queued.v1", b"taskloom.task.lined-up.v0")
    steps = {
        "taskloom.task.lined-up.v0": lambda data: {**data, "type": "taskloom.task.lined-up.v1", "reason": "retry"},
        "taskloom.task.lined-up.v1": lambda data: {**data, "type": "taskloom.task.queued.v1"},
    }
    monkeypatch.setattr(recorded_module, "upcast", lambda data: upcast(data, steps))
    found = unseal(old)
    assert (found.event, found.body, found.version) == (e.TaskQueued("retry"), old, 1)
