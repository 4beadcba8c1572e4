"""Limits of tenants that were changed while the system runs, over those of the settings."""

import msgspec
import pytest

from taskloom.domain.scheduling.overrides import Overrides, RateOverride, SessionOverride, overlaid
from taskloom.domain.scheduling.quotas import Quota, SessionQuota
from taskloom.tenant_limits import FROM_THE_BEGINNING, LimitsBook

DEFAULTS = {"*": Quota(tokens=5, parallel=2), "acme": Quota(tokens=9)}


def stored(**fields: object) -> bytes:
    return msgspec.json.encode(msgspec.convert(fields, Overrides))


def test_what_is_left_out_is_as_in_the_settings_and_null_is_without_limit() -> None:
    base = Quota(tokens=5, parallel=2, session=SessionQuota(tokens=1, parallel=3))
    wish = msgspec.json.decode(b'{"tokens": null, "cost_usd": 2, "session": {"tokens": 7}}', type=Overrides)
    assert overlaid(base, wish) == Quota(cost_usd=2, parallel=2, session=SessionQuota(tokens=7, parallel=3))
    assert overlaid(None, wish) == Quota(cost_usd=2, session=SessionQuota(tokens=7))
    assert msgspec.json.decode(msgspec.json.encode(wish), type=Overrides) == wish
    assert msgspec.json.encode(wish) == b'{"tokens":null,"cost_usd":2.0,"session":{"tokens":7},"rate":{}}'


@pytest.mark.parametrize(
    "body", [b'{"tokens": -1}', b'{"parallel": 0}', b'{"tokns": 1}', b'{"rate": {"minute": 0}}', b'{"tier": ""}']
)
def test_what_is_no_limit_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=Overrides)


def test_a_book_has_what_holds_now_and_who_it_changed_for() -> None:
    book = LimitsBook(DEFAULTS)
    assert (book.quotas, book.since) == (DEFAULTS, FROM_THE_BEGINNING)
    before = book.quotas
    assert book.learn([("70", "acme", stored(parallel=4)), ("70", "blue", stored(tokens=None))]) == ["acme", "blue"]
    assert book.since == "70"
    assert book.quotas == {**DEFAULTS, "acme": Quota(tokens=9, parallel=4), "blue": Quota(parallel=2)}
    assert before == DEFAULTS, "who reads it goes on undisturbed"
    assert book.learn([("71", None, None)]) == []
    assert book.learn([("72", "acme", stored(parallel=4))]) == [], "nothing new"
    assert book.of("blue") == Overrides(tokens=None)
    assert book.learn([("73", "blue", None), ("73", "acme", None), ("73", "never", None)]) == ["blue", "acme"]
    assert (book.quotas, book.of("blue")) == (DEFAULTS, None)


def test_overrides_name_sessions_and_requests_too() -> None:
    wish = Overrides(session=SessionOverride(parallel=1), tier="pro", rate=RateOverride(minute=None))
    assert overlaid(None, wish).session == SessionQuota(parallel=1)
