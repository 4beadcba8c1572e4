from datetime import datetime

import pytest

from taskloom.domain.entities.commands import RemoveSession, SessionCommand, TitleSession
from taskloom.domain.entities.entity import Entity, decide, evolve
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.entities.sessions import Session, clean_title
from taskloom.domain.envelope import EventMeta
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.testing.clock import START
from taskloom.wire.recorded import GENESIS, seal, unseal

ID = entity_id("session", "acme", "s-1")


def after(state: Entity | None, command: SessionCommand, at: datetime = START) -> Entity | None:
    decision = decide(state, command, at, Caller(ID, "acme", actor="ann"))
    assert not isinstance(decision, Refusal), decision
    for event in decision:
        meta = EventMeta(ID, 1 if state is None else state.version + 1, at, "acme")
        state = evolve(state, unseal(seal(event, meta, GENESIS if state is None else state.digest).body))
    return state


def value(entity: Entity | None) -> Session:
    assert entity is not None
    assert isinstance(entity.value, Session)
    return entity.value


def test_a_title_is_what_can_be_seen_of_it() -> None:
    assert clean_title("\u200b a\x07\u202eb\ufeff\u2029 ") == "ab"
    assert value(after(None, TitleSession(" x\u200b "))).title == "x"


@pytest.mark.parametrize("title", ["", "\u200b", "x" * 101])
def test_a_title_that_is_empty_or_too_long_is_refused(title: str) -> None:
    decision = decide(None, TitleSession(title), START, Caller(ID, "acme"))
    assert isinstance(decision, Refusal)
    assert (decision.code, decision.field) == ("invalid", "title")


def test_the_same_title_again_changes_nothing() -> None:
    state = after(None, TitleSession("x"))
    assert decide(state, TitleSession("x "), START, Caller(ID, "acme")) == []


def test_a_removal_takes_the_title_and_a_later_one_moves_the_border() -> None:
    state = after(after(None, TitleSession("x")), RemoveSession())
    assert value(state) == Session("", START)
    later = START.replace(year=2030)
    state = after(after(state, TitleSession("y")), RemoveSession("again"), later)
    assert value(state) == Session("", later)
