"""Tenants and sessions start nothing while their budget is used up or all their places are taken, and are told so."""

from datetime import UTC, datetime, timedelta

import pytest

from taskloom.domain.scheduling.quotas import (
    KEPT_S,
    Exhausted,
    Ledger,
    Quota,
    Scope,
    SessionQuota,
    Use,
    exhausted,
    hour_of,
    periods_of,
    uses_of,
)
from taskloom.testing.clock import START
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World

RED, TODAY = Scope("red"), periods_of(START)[0]


def world(**quotas: Quota) -> World:
    return World(offer(slots=10), quotas=quotas)


def test_a_tenant_runs_no_more_at_once_than_it_may_and_others_go_on() -> None:
    given = world(red=Quota(parallel=2))
    given.submit("a", "b", "c", tenant="red")
    given.submit("x", "y", "z", tenant="blue")
    assert sorted(given.started()) == ["a", "b", "x", "y", "z"]
    gate = given.gates("c")["parallel"]
    assert gate.detail == ("tenant red is limited to 2 attempts at once")
    assert gate.held_by == ("a", "b")
    assert given.started() == []
    given.complete("a")
    assert given.started() == ["c"]


def test_sessions_are_limited_apart_from_each_other() -> None:
    given = world(**{"*": Quota(session=SessionQuota(parallel=1))})
    given.submit("a", "b", tenant="red", session_id="s")
    given.submit("c", tenant="red", session_id="t")
    assert sorted(given.started()) == ["a", "c"]
    assert given.gates("b")["parallel"].detail == "session s is limited to 1 attempts at once"
    given.complete("a")
    assert given.started() == ["b"]


def test_nothing_starts_before_it_is_known_what_was_used() -> None:
    given = world(red=Quota(tokens_per_day=10))
    given.submit("a", tenant="red")
    assert given.started() == []
    ledger = given.scheduler.ledger
    assert ledger is not None
    assert ledger.unknown == {RED}
    given.scheduler.learn_usage([RED], [])
    assert given.started() == ["a"]


def test_a_budget_that_is_used_up_holds_tasks_until_its_period_ends() -> None:
    given = world(red=Quota(tokens_per_day=10))
    given.scheduler.learn_usage([RED], [Use("red", "", TODAY, 10, 0.0)])
    given.submit("a", tenant="red")
    assert given.started() == []
    gate = given.gates("a")["budget"]
    assert gate.detail == ("tenant red has used 10 of 10 tokens today")
    given.after(86_400)
    given.scheduler.learn_usage([RED], [])
    assert given.started() == ["a"]


def test_what_ends_here_counts_at_once() -> None:
    given = world(red=Quota(cost_usd=1.0))
    given.scheduler.learn_usage([RED], [])
    given.submit("a", tenant="red")
    assert given.started() == ["a"]
    ledger = given.scheduler.ledger
    assert ledger is not None
    ledger.add(uses_of("red", "s", START, 5, 1.0))
    given.submit("b", tenant="red")
    assert given.started() == []
    assert given.gates("b")["budget"].detail == "tenant red has used 1 of 1 USD in all"


def test_tenants_without_a_quota_are_not_looked_up() -> None:
    given = world(red=Quota(tokens=0))
    given.submit("a", tenant="blue")
    assert given.started() == ["a"]


@pytest.mark.parametrize(
    ("at", "until"),
    [
        (datetime(2026, 11, 21, 15, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_month_ends_with_its_last_day(at: datetime, until: datetime) -> None:
    used = {periods_of(at)[1]: (7, 0.0)}
    assert exhausted(Quota(tokens_per_month=7), RED, used, at) == Exhausted(
        "tenant red has used 7 of 7 tokens this month", until
    )
    assert exhausted(Quota(tokens_per_month=8), RED, used, at) is None


def test_an_attempts_usage_counts_for_periods_of_the_tenant_the_session_and_the_key() -> None:
    tenants = [("", period) for period in (*periods_of(START), hour_of(START))]
    of_session = [("s", TODAY), ("s", "")]
    of_key = [("@key/k", TODAY), ("@key/k", "")]
    for given, expected in (
        (uses_of("red", "", START, 1, 0.5), tenants),
        (uses_of("red", "s", START, 1, 0.5), tenants + of_session),
        (uses_of("red", "s", START, 1, 0.5, "k"), tenants + of_session + of_key),
    ):
        assert [(use.session_id, use.period) for use in given] == expected
        assert {(use.tokens, use.cost_usd, use.attempts) for use in given} == {(1, 0.5, 1)}


def test_scopes_that_nobody_asks_about_are_forgotten() -> None:
    ledger = Ledger({"*": Quota(tokens=5)})
    at = START.timestamp()
    ledger.shut(RED, at)
    ledger.shut(Scope("blue"), at + KEPT_S)
    assert set(ledger.wanted(at + KEPT_S)) == {RED, Scope("blue")}
    assert ledger.wanted((START + timedelta(seconds=KEPT_S + 1)).timestamp()) == [Scope("blue")]


def relimit(given: World, **quotas: Quota) -> None:
    """Other quotas while tasks wait and run."""
    states = [task.state for task in given.tasks.values() if task.state is not None]
    given.scheduler.learn_quotas(quotas, [state for state in states if not state.ended])


def test_quotas_that_come_later_hold_what_waits_and_count_what_runs() -> None:
    given = world()
    given.submit("a", "b", tenant="red")
    assert given.started() == ["a", "b"]
    given.submit("c", tenant="red")
    relimit(given, red=Quota(parallel=2))
    assert given.started() == []
    assert given.gates("c")["parallel"].held_by == ("a", "b")
    given.complete("a")
    assert given.started() == ["c"]


def test_a_larger_quota_lets_go_at_once_and_none_lets_all_go() -> None:
    given = world(red=Quota(parallel=1, tokens_per_day=10))
    given.scheduler.learn_usage([RED], [Use("red", "", TODAY, 10, 0.0)])
    given.submit("a", "b", "c", tenant="red")
    assert given.started() == []
    relimit(given, red=Quota(parallel=1, tokens_per_day=11))
    assert given.started() == ["a"]
    relimit(given)
    assert sorted(given.started()) == ["b", "c"]


def test_limits_of_sessions_that_come_later_keep_sessions_apart() -> None:
    given = world()
    given.submit("a", tenant="red", session_id="s")
    assert given.started() == ["a"]
    given.submit("b", tenant="red", session_id="s")
    given.submit("c", tenant="red", session_id="t")
    relimit(given, red=Quota(session=SessionQuota(parallel=1)))
    assert given.started() == ["c"]
    assert given.gates("b")["parallel"].held_by == ("a",)
    given.complete("a")
    assert given.started() == ["b"]
    given.submit("d", tenant="red", session_id="t")
    relimit(given, red=Quota())
    assert given.started() == ["d"]
