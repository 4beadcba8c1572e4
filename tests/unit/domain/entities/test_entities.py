"""Entities on the wire and in memory: ids, commands, sealed events, folds."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.entities.commands import RemoveDefinition, SaveDefinition
from taskloom.domain.entities.definitions import Definition, Revision
from taskloom.domain.entities.entity import Entity, decide, evolve, fold
from taskloom.domain.entities.ids import entity_id, is_entity_id, parts_of
from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.ids import is_task_id
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.testing.clock import START
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, command_type, decode_command, encode_command
from taskloom.wire.errors import WireError
from taskloom.wire.recorded import GENESIS, chain_fault, seal, unseal

NAMES = st.text("abcXYZ019:_-.", min_size=1, max_size=30)
ETL = entity_id("definition", "acme", "etl")


def body(name: str) -> dict[str, Any]:
    return {"name": "etl", "steps": [{"step_type": "task", "id": name, "task_template": {"kind": "echo"}}]}


def history(*commands: SaveDefinition | RemoveDefinition) -> list[Recorded]:
    """What the commands lead to, each with an id of its own."""
    state, found = None, []
    for number, command in enumerate(commands):
        caller = Caller(ETL, "acme", f"c-{number}", "ann")
        decision = decide(state, command, START, caller)
        assert not isinstance(decision, Refusal)
        for event in decision:
            version = 1 if state is None else state.version + 1
            meta = EventMeta(ETL, version, START, "acme", caller.command_id, "ann")
            found.append(seal(event, meta, GENESIS if state is None else state.digest))
            state = evolve(state, found[-1])
    return found


@given(NAMES, NAMES, NAMES)
def test_an_entity_id_comes_apart_as_it_was_put_together_and_is_no_task_id(kind: str, tenant: str, name: str) -> None:
    made = entity_id(kind, tenant, name)
    assert tuple(parts_of(made)) == (kind, tenant, name)
    assert is_entity_id(made)
    assert not is_task_id(made)


@pytest.mark.parametrize(
    "wrong", ["definition/acme/etl", "@definition/acme", "@definition/acme/a/b", "@definition//etl"]
)
def test_what_is_no_entity_id_is_said_so(wrong: str) -> None:
    with pytest.raises(ValueError, match="not the id of an entity"):
        parts_of(wrong)


def test_an_event_of_an_entity_names_it_and_comes_back_from_its_bytes() -> None:
    [saved] = history(SaveDefinition(body("a")))
    told = msgspec.json.decode(saved.body)
    assert told["entity_id"] == ETL
    assert "task_id" not in told
    assert unseal(saved.body) == saved


def test_a_changed_event_of_an_entity_breaks_the_chain() -> None:
    bodies = [each.body for each in history(SaveDefinition(body("a")), SaveDefinition(body("b")), RemoveDefinition())]
    assert chain_fault(bodies) is None
    assert "event 2" in str(chain_fault([bodies[0], bodies[1].replace(b"ann", b"bob"), bodies[2]]))


def test_a_stored_entity_is_what_its_history_folds_to() -> None:
    entity = fold(history(SaveDefinition(body("a")), SaveDefinition(body("b")), RemoveDefinition("old")))
    assert entity is not None
    assert msgspec.json.decode(msgspec.json.encode(entity), type=Entity) == entity
    assert entity.value.removed
    assert isinstance(entity.value, Definition)
    assert [each.number for each in entity.value.revisions] == [1, 2]


def test_a_repeated_command_changes_nothing() -> None:
    entity = fold(history(SaveDefinition(body("a")), SaveDefinition(body("b"))))
    assert decide(entity, SaveDefinition(body("a")), START, Caller(ETL, "acme", "c-0")) == []


def test_a_version_text_means_its_newest_revision() -> None:
    revisions = tuple(Revision(n, text, n, "", START) for n, text in enumerate(("1.0", "1.1", "1.0", "2.0"), start=1))
    definition = Definition({}, revisions)
    found = [
        definition.find(),
        definition.find(version="1.0"),
        definition.find(revision=2),
        definition.find(revision=9),
    ]
    assert [each and each.number for each in found] == [4, 3, 2, None]


def test_a_command_is_for_the_entity_that_its_subject_or_key_names() -> None:
    command = SaveDefinition(body("a"))
    by_subject = Attributes("c", command_type(command), subject="etl", tenant_id="acme")
    by_key = Attributes("c", command_type(command), tenant_id="acme")
    for attributes in (by_subject, by_key):
        key, value, headers = encode_command(Envelope(ETL, command, attributes))
        assert decode_command(key, value, headers, fallback_id="f").task_id == ETL


@pytest.mark.parametrize("subject", ["@definition/other/etl", "@schedule/acme/etl", "a b", "x" * 129])
def test_a_command_for_another_tenants_entity_or_for_none_is_refused(subject: str) -> None:
    attributes = Attributes("c", command_type(RemoveDefinition()), subject=subject, tenant_id="acme")
    key, value, headers = encode_command(Envelope(ETL, RemoveDefinition(), attributes))
    with pytest.raises(WireError) as refused:
        decode_command(key, value, headers, fallback_id="f")
    assert refused.value.field == "ce_subject"
