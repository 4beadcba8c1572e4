from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.refusals import Refusal
from taskloom.domain.task.directives import Directive, PauseAttempt, ResumeAttempt, RunAttempt, StopAttempt
from taskloom.testing.clock import START
from taskloom.wire.claims import CLAIM_OVER_BYTES, check_in, claimed_digest
from taskloom.wire.messages import DeadLetter, ExecutorHeartbeat, LiveAttempt, OrchestratorHeartbeat, OutputChunk, Reply
from taskloom.wire.topics import SLOTS, partition_of, shard_of, slot_of

MESSAGES = [
    ExecutorHeartbeat("ex", "a", "ready", START, ("echo",), live=(LiveAttempt("t", 1),), labels={"zone": "a"}),
    OrchestratorHeartbeat("o", (0, 1), START),
    OutputChunk("t", 1, 1, "stdout", START, data=b"\x00\xff"),
    Reply("c", "t", START, refusal=Refusal("conflict", "no", "f", "ready"), data={"a": [1]}),
    DeadLetter("topic", 1, 2, START, "why", "f", "k", b"\xff", (("h", b"\xfe"),)),
    RunAttempt("t", 1, "ex", "a", "echo", {"a": 1}, paused=True),
    StopAttempt("t", 1, "ex", "", 2.0, "why"),
    PauseAttempt("t", 1, "ex", "a"),
    ResumeAttempt("t", 1, "ex", "a"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_sent_comes_back(message: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=type(message)) == message


@pytest.mark.parametrize("message", MESSAGES[5:], ids=lambda message: type(message).__name__)
def test_directives_are_told_apart_by_their_type(message: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=Directive) == message


def test_readers_ignore_fields_that_they_do_not_know() -> None:
    body = msgspec.json.decode(msgspec.json.encode(MESSAGES[1]))
    assert msgspec.convert({**body, "new": 1}, OrchestratorHeartbeat) == MESSAGES[1]


@given(st.text(max_size=100), st.text(max_size=100))
def test_a_workflows_steps_are_where_the_workflow_is(run: str, path: str) -> None:
    run = run.replace("~", "")
    assert slot_of(f"{run}~{path}") == slot_of(run)


@given(st.text(max_size=200).filter(lambda text: "~" not in text))
def test_a_key_keeps_its_slot_whatever_the_number_of_partitions_and_shards(key: str) -> None:
    slot = slot_of(key)
    assert 0 <= slot < SLOTS
    for partitions in (1, 2, 4, 8, 16, 32, 64):
        partition = partition_of(key, partitions)
        assert partition == slot % partitions == crc32(key.encode()) % partitions
        for shards in (1, 2, 4):
            if partitions % shards == 0:
                assert shard_of(partition, shards) == slot % shards


def test_values_up_to_the_limit_travel_and_larger_ones_are_checked_in() -> None:
    small, large = "x" * (CLAIM_OVER_BYTES - 2), "x" * (CLAIM_OVER_BYTES - 1)
    assert check_in(small) == (small, None)
    reference, stored = check_in(large)
    assert stored is not None
    assert claimed_digest(reference) == stored[0]
    assert msgspec.json.decode(stored[1]) == large
    assert reference["bytes"] == len(stored[1])


@pytest.mark.parametrize("value", [None, "sha256:x", {"$claim": 7}, {"$claim": "md5:x"}, {"claim": "sha256:x"}, []])
def test_other_values_are_no_claims(value: object) -> None:
    assert claimed_digest(value) is None
