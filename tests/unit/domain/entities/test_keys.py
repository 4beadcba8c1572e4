"""API keys: issued once, rotated, revoked for good."""

from datetime import timedelta
from typing import Any

import pytest

from taskloom.domain.entities.commands import IssueKey, KeyCommand, RevokeKey, RotateKey
from taskloom.domain.entities.entity import Entity, decide, evolve
from taskloom.domain.entities.events import KeyIssued, KeyRevoked, KeyRotated
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.entities.keys import ApiKey
from taskloom.domain.envelope import EventMeta
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.keys import hash_of, looks_like_key, new_key
from taskloom.testing.clock import START
from taskloom.wire.recorded import GENESIS, seal

ID = entity_id("key", "acme", "key_1")
HASH, OTHER = "a" * 64, "b" * 64


def issue(**fields: Any) -> IssueKey:
    return IssueKey(**{"key_hash": HASH, "prefix": "sk_aaaaa", "name": "ci", "user_id": "ann", **fields})


class Key:
    """A key's stream."""

    def __init__(self) -> None:
        self.state: Entity | None = None
        self.events: list[type] = []

    def when(self, command: KeyCommand, after_s: float = 0.0) -> Refusal | None:
        now = START + timedelta(seconds=after_s)
        decision = decide(self.state, command, now, Caller(ID, "acme", f"c-{len(self.events)}-{command}", "root"))
        if isinstance(decision, Refusal):
            return decision
        for event in decision:
            version = 1 if self.state is None else self.state.version + 1
            meta = EventMeta(ID, version, now, "acme", "", "root")
            self.state = evolve(self.state, seal(event, meta, GENESIS if self.state is None else self.state.digest))
            self.events.append(type(event))
        return None

    @property
    def value(self) -> ApiKey:
        assert self.state is not None
        assert isinstance(self.state.value, ApiKey)
        return self.state.value


def test_a_key_is_issued_rotated_and_revoked() -> None:
    key = Key()
    assert key.when(issue(scopes=("workflows:read", "workflows:read"))) is None
    assert (key.value.scopes, key.value.issued_by, key.value.lookup) == (("workflows:read",), "root", HASH)
    assert key.when(RotateKey(OTHER, "sk_bbbbb")) is None
    assert (key.value.lookup, key.value.prefix) == (OTHER, "sk_bbbbb")
    assert key.when(RevokeKey("leaked")) is None
    assert key.when(RevokeKey("again")) is None
    assert key.value.removed
    assert key.events == [KeyIssued, KeyRotated, KeyRevoked]


def test_what_is_revoked_does_not_come_back() -> None:
    key = Key()
    key.when(issue())
    key.when(RevokeKey())
    for command in (issue(key_hash=OTHER), RotateKey(OTHER, "sk_bbbbb")):
        refusal = key.when(command)
        assert refusal is not None
        assert refusal.code == "conflict"


def test_an_expired_key_is_not_renewed() -> None:
    key = Key()
    key.when(issue(expires_at=START + timedelta(hours=1)))
    refusal = key.when(RotateKey(OTHER, "sk_bbbbb"), after_s=3600)
    assert refusal is not None
    assert "expired" in refusal.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scopes": ("tenant:manage",)}, "scopes"),
        ({"scopes": ("moon:walk",), "role": "owner"}, "scopes"),
        ({"expires_at": START}, "expires_at"),
    ],
)
def test_a_key_that_cannot_be_is_refused(fields: dict[str, Any], field: str) -> None:
    refusal = Key().when(issue(**fields))
    assert refusal is not None
    assert (refusal.code, refusal.field) == ("invalid", field)


@pytest.mark.parametrize("command", [RotateKey(OTHER, "sk_bbbbb"), RevokeKey()])
def test_there_must_be_a_key(command: KeyCommand) -> None:
    refusal = Key().when(command)
    assert refusal is not None
    assert refusal.code == "not_found"


def test_both_forms_of_a_key_have_one_hash() -> None:
    made = new_key()
    other = made.text.replace("sk_", "sk-shannon-")
    assert hash_of(made.text) == hash_of(other) == made.hash
    assert looks_like_key(other)
    assert made.text not in repr(made.hash)
    for text in ("", "sk_", made.text[:-1], made.text.upper(), made.text + "\n", f"sk-{made.text}"):
        assert hash_of(text) is None
