from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.task import commands as c
from taskloom.wire.cloudevents import MAX_ATTRIBUTE_CHARS, Attributes, Headers
from taskloom.wire.commands import MAX_DEPTH, Envelope, command_type, decode_command, encode_command, is_too_deep
from taskloom.wire.errors import WireError
from tests.unit.domain.task.strategies import any_report, client_commands, submissions

SUBMIT = "taskloom.task.submit.v1"
STRUCTURED = ("content-type", b"application/cloudevents+json; charset=utf-8")
ids = st.from_regex(r"[A-Za-z0-9:_\-.]{1,128}", fullmatch=True)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
commands = st.one_of(submissions, client_commands, any_report)


def decode(value: bytes | None, kind: str = SUBMIT, *extra: tuple[str, Any], key: bytes | None = b"t") -> Envelope:
    return decode_command(key, value, [("ce_type", kind.encode()), *extra], fallback_id="fallback")


def fault(value: bytes | None, kind: str = SUBMIT, *extra: tuple[str, Any], key: bytes | None = b"t") -> WireError:
    with pytest.raises(WireError) as refused:
        decode(value, kind, *extra, key=key)
    return refused.value


@given(ids, commands, ids, ids, names, names, st.none() | st.datetimes(timezones=st.just(UTC)))
def test_what_is_encoded_comes_back(
    task_id: str, command: c.TaskCommand, command_id: str, tenant: str, actor: str, trace: str, at: datetime | None
) -> None:
    attributes = Attributes(
        command_id,
        command_type(command),
        "/src",
        task_id,
        at,
        tenant,
        actor,
        "corr",
        "reply",
        trace,
    )
    envelope = Envelope(task_id, command, attributes)
    key, value, headers = encode_command(envelope)
    assert decode_command(key, value, headers, fallback_id="f") == envelope


@given(ids, commands)
def test_binary_and_structured_mode_say_the_same(task_id: str, command: c.TaskCommand) -> None:
    attributes = Attributes(
        "id-1", command_type(command), "/src", task_id, None, "acme", "ann", "corr", "reply", "00-1-2-01"
    )
    key, value, headers = encode_command(Envelope(task_id, command, attributes))
    structured = {
        "specversion": "1.0",
        "id": "id-1",
        "type": attributes.type,
        "source": "/src",
        "subject": task_id,
        "tenantid": "acme",
        "actor": "ann",
        "correlationid": "corr",
        "replyto": "reply",
        "traceparent": "00-1-2-01",
        "data": msgspec.json.decode(value),
    }
    found = decode_command(key, msgspec.json.encode(structured), [STRUCTURED], fallback_id="f")
    assert found == decode_command(key, value, headers, fallback_id="f")


@given(
    st.none() | st.binary(max_size=40),
    st.none() | st.binary(max_size=200) | st.text().map(str.encode),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["ce_type", "ce_id", "ce_time", "ce_specversion", "ce_subject", "content-type", "traceparent"]
            )
            | st.text(max_size=9),
            st.none()
            | st.binary(max_size=20)
            | st.sampled_from([SUBMIT.encode(), b"taskloom.task.cancel.v1", b"1.0", b"application/cloudevents+json"]),
        ),
        max_size=8,
    ),
)
def test_arbitrary_bytes_are_a_command_or_a_wire_error(
    key: bytes | None, value: bytes | None, headers: Headers
) -> None:
    with suppress(WireError):
        assert decode_command(key, value, headers, fallback_id="fallback").attributes.id


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b'{"foo": 1}', "foo"),
        (b'{"retry": {"foo": 1}}', "retry.foo"),
        (b'{"retry": {"factor": 0}}', "retry.factor"),
        (b'{"priority": []}', "priority"),
        (b'{"run_at": "tomorrow"}', "run_at"),
        (b'{"run_at": "2026-01-01T00:00:00"}', "run_at"),
        (b'{"session_id": "a b"}', "session_id"),
        (b'{"tags": [1]}', "tags[0]"),
        (b'{"input": {"a": 1e999}}', "input[...]"),
        (b"null", "$"),
        (b"[1", "$"),
        (b'{"query": "\xff"}', "$"),
        (b'{"query": "\\ud800"}', "$"),
    ],
)
def test_the_faulty_field_is_named_by_its_path(value: bytes, field: str) -> None:
    assert fault(value).field == field


def test_a_missing_field_is_named() -> None:
    found = fault(b'{"attempt": 1, "executor_id": "x", "error": {"type": "T"}}', "taskloom.attempt.report-failed.v1")
    assert found.field == "error.message"


@pytest.mark.parametrize("depth", [MAX_DEPTH, 5_000])
@pytest.mark.parametrize("mode", [(), (STRUCTURED,)])
def test_data_that_nests_too_deep_is_refused(depth: int, mode: tuple[tuple[str, bytes], ...]) -> None:
    data = b'{"input":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    if mode:
        data = b'{"type":"%s","data":%s}' % (SUBMIT.encode(), data)
    assert fault(data, SUBMIT, *mode).field == "$"


def test_brackets_in_texts_and_many_shallow_ones_are_not_depth() -> None:
    assert not is_too_deep(b'{"a": "' + b'{[\\"' * 500 + b'"}')
    assert not is_too_deep(b"[" + b"{}," * 500 + b"{}]")
    assert is_too_deep(b"[" * 101 + b"]" * 101)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ([], "ce_type"),
        ([("ce_type", None)], "ce_type"),
        ([("ce_type", b"taskloom.task.queued.v1")], "ce_type"),
        ([("ce_type", b"taskloom.attempt.assign.v1")], "ce_type"),
        ([("ce_type", SUBMIT.encode()), ("ce_specversion", b"0.3")], "ce_specversion"),
        ([("ce_type", SUBMIT.encode()), ("ce_time", b"noon")], "ce_time"),
        ([("ce_type", SUBMIT.encode()), ("ce_tenantid", b"a b")], "ce_tenantid"),
        ([("ce_type", SUBMIT.encode()), ("ce_subject", b"a b")], "key"),
        ([("ce_type", SUBMIT.encode()), ("ce_id", b"x" * (MAX_ATTRIBUTE_CHARS + 1))], "ce_id"),
        ([("ce_type", b"\xff")], "headers"),
    ],
)
def test_a_wrong_attribute_is_named(headers: Headers, field: str) -> None:
    with pytest.raises(WireError) as refused:
        decode_command(b"t", b'{"query": "q"}', headers, fallback_id="f")
    assert refused.value.field == field


@pytest.mark.parametrize("value", [b"[]", b"\xff", b'"\xff"', b"{", b"[" * 100_000])
def test_a_structured_event_that_is_no_object_is_refused(value: bytes) -> None:
    assert fault(value, SUBMIT, STRUCTURED).field == "$"


def test_structured_data_may_come_in_base64() -> None:
    event = {"type": "taskloom.task.cancel.v1", "subject": "t", "data_base64": b'{"reason": "why"}'}
    assert decode(msgspec.json.encode(event), SUBMIT, STRUCTURED).command == c.CancelTask("why")
    assert fault(msgspec.json.encode({**event, "data_base64": "?"}), SUBMIT, STRUCTURED).field == "data_base64"
    assert fault(msgspec.json.encode({**event, "data_base64": 7}), SUBMIT, STRUCTURED).field == "data_base64"


def test_a_command_without_data_takes_its_defaults() -> None:
    assert decode(None, "taskloom.task.cancel.v1").command == c.CancelTask()
    assert decode(b"", "taskloom.task.pause.v1").command == c.PauseTask()


@pytest.mark.parametrize(
    ("key", "subject", "value", "task_id"),
    [
        (b"key", b"", b'{"query": "q"}', "key"),
        (b"key", b"subject", b'{"query": "q"}', "subject"),
        (b"key", b"subject", b'{"query": "q", "task_id": "body"}', "body"),
        (None, b"", b'{"query": "q"}', "fallback"),
    ],
)
def test_the_task_is_named_by_body_subject_or_key(
    key: bytes | None, subject: bytes, value: bytes, task_id: str
) -> None:
    assert decode(value, SUBMIT, ("ce_subject", subject), key=key).task_id == task_id


def test_a_command_for_no_task_is_refused() -> None:
    assert fault(b"{}", "taskloom.task.cancel.v1", key=None).field == "key"


def test_a_command_without_id_gets_the_one_of_its_place() -> None:
    assert decode(b'{"query": "q"}').attributes.id == "fallback"
