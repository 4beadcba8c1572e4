from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from taskloom.bus.channels import CHANNELS, type_of
from taskloom.contracts.schemas import message_schemas, path_of, schema_of
from taskloom.domain.envelope import EventMeta
from taskloom.domain.task.commands import CancelTask, Command, ReportCompleted, SubmitTask
from taskloom.domain.task.events import AttemptFailed, TaskQueued, TaskSubmitted
from taskloom.domain.values import ErrorInfo, Retry, TaskSpec
from taskloom.wire.messages import DeadLetter, ExecutorHeartbeat, LiveAttempt, Message, Reply
from taskloom.wire.recorded import GENESIS, seal

AT = datetime(2026, 1, 1, tzinfo=UTC)


def errors(kind: type[msgspec.Struct], body: bytes | Any) -> list[str]:
    data = msgspec.json.decode(body) if isinstance(body, bytes) else body
    return [error.message for error in Draft202012Validator(schema_of(kind)).iter_errors(data)]


def test_every_schema_is_one() -> None:
    for schema in message_schemas().values():
        Draft202012Validator.check_schema(schema)


def test_each_message_has_a_schema_of_its_own() -> None:
    messages = {message for channel in CHANNELS for message in channel.messages}
    assert len({path_of(message) for message in messages}) == len(messages)
    assert all(path_of(message).endswith(f"/{type_of(message)}.json") for message in messages)


@pytest.mark.parametrize(
    "event",
    [
        TaskQueued(),
        TaskSubmitted(spec=TaskSpec(kind="echo", run_at=AT, retry=Retry(max_attempts=2)), body_hash="x"),
        AttemptFailed(attempt=1, error=ErrorInfo(type="x", message="y")),
    ],
)
def test_events_as_published_are_valid(event: Any) -> None:
    meta = EventMeta(task_id="task-1", version=1, at=AT, tenant_id="default")
    assert errors(type(event), seal(event, meta, GENESIS).body) == []


@pytest.mark.parametrize(
    "message",
    [
        SubmitTask(query="hello", task_id="task-1", tags=("a",), run_at=AT),
        CancelTask(grace_s=1.0),
        ReportCompleted(attempt=1, executor_id="e", response=[1, None]),
        Reply(command_id="c", task_id="t", at=AT),
        DeadLetter(topic="t", partition=0, offset=1, at=AT, reason="r", value=b"\xff", headers=(("h", b"\x00"),)),
        ExecutorHeartbeat(
            executor_id="e", incarnation="i", status="ready", at=AT, kinds=("echo",), live=(LiveAttempt("t", 1),)
        ),
    ],
)
def test_commands_and_messages_as_sent_are_valid(message: Any) -> None:
    assert isinstance(message, Command | Message)
    assert errors(type(message), msgspec.json.encode(message)) == []


def test_a_command_needs_no_type_in_its_data_since_the_header_says_it() -> None:
    assert errors(SubmitTask, {"query": "hello"}) == []


def test_faulty_commands_are_not_valid() -> None:
    assert errors(SubmitTask, {"qeury": "hello"})
    assert errors(SubmitTask, {"task_id": "not an id!"})
    assert errors(CancelTask, {"grace_s": -1})
