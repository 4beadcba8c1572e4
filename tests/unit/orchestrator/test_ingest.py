from typing import Any

import msgspec
import pytest

from services.orchestrator import ingest as ingest_module
from services.orchestrator.ingest import MAX_COMMAND_BYTES, MAX_REASON_CHARS, Ingest, Misplaced, Rejected
from taskloom.bus.publish import MAX_RECORD_BYTES
from taskloom.kinds.offers import Offer
from taskloom.kinds.schemas import Schemas
from taskloom.testing.clock import START
from taskloom.testing.memory import InMemoryRecord
from taskloom.wire.commands import Envelope
from taskloom.wire.messages import ExecutorHeartbeat
from taskloom.wire.topics import partition_of

SUBMIT = ("ce_type", b"taskloom.task.submit.v1")
REPLY_TO = ("ce_replyto", b"me")
GATEWAY = ("ce_source", b"/taskloom/gateway/1")


PLACE = partition_of("t", 4)


def offers(**fields: Any) -> Offer:
    return Offer(**{"kinds": frozenset({"special"}), "queues": frozenset({"night"}), **fields})


def read(value: bytes | None, *headers: tuple[str, Any], key: bytes | None = b"t", partition: int | None = None) -> Any:
    place = PLACE if partition is None else partition
    return Ingest(4, offers()).read(InMemoryRecord("commands", place, 7, key, value, headers), START)


def rejected(value: bytes | None, *headers: tuple[str, Any]) -> Rejected:
    found = read(value, *headers)
    assert isinstance(found, Rejected)
    msgspec.json.encode(found.letter)
    return found


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"", []),
        (b"\xff", [SUBMIT]),
        (b"{}", [("ce_type", None), ("other", None)]),
        (b'{"input":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}", [SUBMIT]),
        (b"[" * 100_000, [("content-type", b"application/cloudevents+json")]),
        (b'"\xff"', [("content-type", b"application/cloudevents+json")]),
    ],
    ids=["no header", "not text", "null headers", "deep", "deep envelope", "envelope not text"],
)
def test_a_record_that_cannot_be_read_becomes_a_letter_that_holds_it(value: bytes, headers: list[Any]) -> None:
    letter = rejected(value, *headers).letter
    assert (letter.topic, letter.offset, letter.key, letter.value) == ("commands", 7, "t", value)
    assert [name for name, _ in letter.headers] == [name for name, _ in headers]
    assert letter.reason


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b'{"kind": "nonsense"}', "kind"),
        (b'{"kind": "sleep", "input": {"seconds": -1}}', "input.seconds"),
        (b'{"kind": "shell", "input": {}}', "input.cmd"),
    ],
)
def test_a_command_that_can_be_read_is_answered(value: bytes, field: str) -> None:
    found = rejected(value, SUBMIT, REPLY_TO)
    assert found.letter.field == field
    assert (found.task_id, found.asked and found.asked.reply_to) == ("t", "me")


def test_a_kind_that_executors_announce_is_known_and_the_gateway_is_trusted() -> None:
    assert isinstance(read(b'{"kind": "special"}', SUBMIT), Envelope)
    assert isinstance(read(b'{"kind": "unheard-of"}', SUBMIT, GATEWAY), Envelope)


def test_a_command_of_another_partition_is_misplaced() -> None:
    assert isinstance(read(b'{"kind": "echo"}', SUBMIT, partition=PLACE ^ 1), Misplaced)


def test_a_command_that_only_compression_made_fit_is_refused_and_its_letter_fits() -> None:
    letter = rejected(b"x" * (MAX_COMMAND_BYTES + 1), SUBMIT).letter
    assert len(letter.value) == MAX_COMMAND_BYTES + 1
    huge = rejected(b"x" * (MAX_RECORD_BYTES + 1), SUBMIT).letter
    assert huge.value == b""
    assert "the value is not in this letter" in huge.reason


def test_a_reason_that_quotes_a_long_value_is_cut() -> None:
    letter = rejected(b'{"kind": "%s"}' % (b"x" * 100), ("ce_type", b"x" * 1_000)).letter
    assert len(letter.reason) <= MAX_REASON_CHARS


@pytest.mark.parametrize("broken", ["decode_command", "validate"])
def test_a_fault_of_ours_does_not_block_the_partition(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(ingest_module, broken, fault)
    assert "a fault of ours" in rejected(b'{"kind": "echo"}', SUBMIT).letter.reason


@pytest.mark.parametrize("queue", ["default", "night"])
def test_a_queue_that_somebody_serves_is_taken(queue: str) -> None:
    assert isinstance(read(msgspec.json.encode({"kind": "echo", "queue": queue}), SUBMIT), Envelope)


def test_a_queue_that_nobody_serves_is_refused_with_those_that_are() -> None:
    found = rejected(b'{"kind": "echo", "queue": "nihgt"}', SUBMIT, REPLY_TO)
    assert found.letter.field == "queue"
    assert found.letter.reason == "no executor serves the queue 'nihgt'; known queues: default, night"
    assert (found.task_id, found.asked and found.asked.reply_to) == ("t", "me")
    assert isinstance(read(b'{"kind": "echo", "queue": "nihgt"}', SUBMIT, GATEWAY), Envelope)


def test_an_executor_for_all_queues_makes_every_queue_known() -> None:
    record = InMemoryRecord("commands", PLACE, 7, b"t", b'{"kind": "echo", "queue": "any"}', [SUBMIT])
    assert isinstance(Ingest(4, offers(queues=frozenset({"*"}))).read(record, START), Envelope)


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"not json", [SUBMIT]),
        (b'{"oops": 1}', [SUBMIT]),
        (b"{}", []),
        (b"{}", [("ce_type", b"taskloom.task.explode.v1")]),
        (b"{}", [SUBMIT, ("ce_tenantid", b"not an id")]),
        (b"{}", [SUBMIT, ("ce_subject", b"not an id")]),
        (b" " * (MAX_COMMAND_BYTES + 1), [SUBMIT]),
    ],
    ids=["not json", "unknown field", "no type", "unknown type", "bad tenant", "bad subject", "too large"],
)
def test_whoever_says_where_replies_go_is_told_also_when_the_rest_cannot_be_read(value: bytes, headers: Any) -> None:
    found = rejected(value, *headers, REPLY_TO, ("ce_id", b"c-1"))
    assert found.asked is not None
    assert (found.asked.reply_to, found.asked.id) == ("me", "c-1")
    assert found.task_id == ("" if ("ce_subject", b"not an id") in headers else "t")
    assert rejected(value, *headers).asked is None


def test_a_structured_event_with_faulty_data_is_answered_too() -> None:
    event = {"type": "taskloom.task.submit.v1", "replyto": "me", "subject": "task", "data": {"oops": 1}}
    found = rejected(msgspec.json.encode(event), ("content-type", b"application/cloudevents+json"))
    assert found.asked is not None
    assert (found.asked.reply_to, found.asked.id, found.task_id) == ("me", f"k-commands-{PLACE}-7", "task")


def test_a_reply_address_that_is_too_long_is_not_used() -> None:
    assert rejected(b"", SUBMIT, ("ce_replyto", b"x" * 2_000)).asked is None


def test_an_input_that_no_executor_of_its_kind_takes_is_refused_with_its_field() -> None:
    beat = ExecutorHeartbeat("x", "i", "ready", START, ("special",), schemas={"special": {"required": ["order"]}})
    headers = [("ce_type", b"taskloom.task.submit.v1")]
    record = InMemoryRecord("commands", PLACE, 7, b"t", b'{"kind": "special"}', headers)
    rejected = Ingest(4, offers(schemas=Schemas([beat], START))).read(record, START)
    assert isinstance(rejected, Rejected)
    assert rejected.letter.field == "input.order"
