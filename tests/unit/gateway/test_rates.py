"""Rate limits: who is counted under which plan, and what a gateway does with the counts."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from psycopg import OperationalError

from services.gateway.problems import Unavailable
from services.gateway.rate_windows import Asked, Plan, Taken
from services.gateway.rates import RateLimited, RateLimiter, headers_of, shortest, used_up
from services.gateway.security import Caller
from services.gateway.settings import GatewaySettings
from services.gateway.throttle import Plans

MIDDLE_OF_A_MINUTE = 1_800_000_030.0
TEN = Plan(minute=10)


class Windows:
    """One minute that never ends, in memory. ``questions``: what each statement asked."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self.questions: list[dict[str, int]] = []
        self.away = False

    async def take(self, asked: Mapping[str, Asked]) -> dict[str, Taken]:
        self.questions.append({subject: each.wanted for subject, each in asked.items()})
        await asyncio.sleep(0)
        if self.away:
            raise OperationalError("the server closed the connection")
        found = {}
        for subject, each in asked.items():
            used = self.used.get(subject, 0)
            given = min(each.wanted, (each.plan.minute or 0) - used)
            self.used[subject] = used + given
            found[subject] = Taken(given, used + given, used + given, used + given, MIDDLE_OF_A_MINUTE)
        return found

    async def forget_old(self) -> None:
        self.used.clear()


async def outcome(limiter: RateLimiter, subject: str = "t/u", plan: Plan = TEN) -> str:
    try:
        return (await limiter.take(subject, plan)).headers.get("X-RateLimit-Remaining-Minute", "uncounted")
    except RateLimited:
        return "refused"


async def test_as_many_as_the_limit_pass_and_each_is_told_what_is_left() -> None:
    limiter = RateLimiter(Windows(), fail_open=True)
    told = await asyncio.gather(*(outcome(limiter) for _ in range(25)))
    assert sorted(told[:10], key=int) == [str(left) for left in range(10)]
    assert told[10:] == ["refused"] * 15


async def test_requests_that_come_while_others_are_counted_share_the_next_statement() -> None:
    windows = Windows()
    limiter = RateLimiter(windows, fail_open=True)
    await asyncio.gather(*(outcome(limiter, f"t/{n % 2}", Plan(minute=1000)) for n in range(100)))
    assert windows.questions == [{"t/0": 50, "t/1": 50}]


async def test_who_was_refused_is_refused_unasked_until_the_window_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows()
    limiter = RateLimiter(windows, fail_open=True)
    await asyncio.gather(*(outcome(limiter) for _ in range(11)))
    asked = len(windows.questions)
    assert await outcome(limiter) == "refused"
    assert len(windows.questions) == asked
    assert await outcome(limiter, plan=Plan(minute=12)) == "1", "another plan is asked for anew"
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    windows.used.clear()
    assert await outcome(limiter) == "9"


async def test_a_refusal_names_the_window_and_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: MIDDLE_OF_A_MINUTE)
    limiter = RateLimiter(Windows(), fail_open=True)
    with pytest.raises(RateLimited) as refused:
        await asyncio.gather(*(limiter.take("t/u", Plan(minute=1)) for _ in range(2)))
    assert refused.value.status == 429
    body = refused.value.body()
    assert (body["error"], body["window"]) == ("Rate limit exceeded", "minute")
    assert "1 requests a minute" in body["message"]
    assert refused.value.headers == {
        "X-RateLimit-Limit-Minute": "1",
        "X-RateLimit-Remaining-Minute": "0",
        "X-RateLimit-Reset": "1800000060",
        "Retry-After": "30",
    }


async def test_while_postgresql_is_away_requests_pass_or_not_as_set_and_do_not_wait_for_it() -> None:
    windows = Windows()
    windows.away = True
    opened = RateLimiter(windows, fail_open=True)
    assert [await outcome(opened) for _ in range(3)] == ["uncounted"] * 3
    assert len(windows.questions) == 1, "it is left alone for a while"
    with pytest.raises(Unavailable):
        await RateLimiter(windows, fail_open=False).take("t/u", TEN)


async def test_a_client_that_goes_away_takes_nobody_with_it() -> None:
    limiter = RateLimiter(Windows(), fail_open=True)
    gone, stays = (asyncio.create_task(outcome(limiter)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == "8"


def test_the_longest_window_that_is_used_up_is_named() -> None:
    taken = Taken(0, 10, 100, 500, MIDDLE_OF_A_MINUTE)
    assert used_up(Plan(10, 100, 1000), taken) == "hour"
    assert used_up(Plan(10, 100, 500), taken) == "day"
    assert used_up(Plan(11, 101), taken) is None


def test_headers_name_both_windows_and_the_end_of_the_one_that_counts() -> None:
    headers = headers_of(Plan(10, 100), Taken(1, 4, 40, 40, MIDDLE_OF_A_MINUTE), "minute")
    assert headers == {
        "X-RateLimit-Limit-Minute": "10",
        "X-RateLimit-Remaining-Minute": "6",
        "X-RateLimit-Limit-Hour": "100",
        "X-RateLimit-Remaining-Hour": "60",
        "X-RateLimit-Reset": "1800000060",
    }


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        ("POST", "/api/v1/tasks", True),
        ("GET", "/api/v1/tasks", True),
        ("GET", "/api/v1/tasks/a", False),
        ("GET", "/api/v1/tasks/a/timeline", False),
        ("GET", "/api/v1/tasks/a/stream", False),
        ("GET", "/api/v1/tasks/a/events", True),
        ("GET", "/api/v1/tasks/a/control-state", True),
        ("POST", "/api/v1/tasks/a/cancel", True),
        ("GET", "/api/v1/stream/sse", False),
        ("GET", "/api/v1/sessions", True),
        ("GET", "/api/v1/sessions/s", False),
        ("GET", "/api/v1/sessions/s/history", False),
        ("GET", "/api/v1/sessions/s/events", False),
        ("GET", "/api/v1/sessions/s/files", True),
        ("DELETE", "/api/v1/sessions/s", True),
        ("GET", "/api/v1/schedules/s", False),
        ("GET", "/api/v1/schedules/s/runs", False),
        ("GET", "/api/v1/schedules", True),
        ("GET", "/health", False),
        ("GET", "/metrics", False),
    ],
)
def test_shannons_unlimited_routes_are_not_counted(method: str, path: str, counted: bool) -> None:
    assert Plans(TEN).of(Caller("t", "u"), method, path)[1].limits is counted


def test_a_route_with_a_limit_of_its_own_is_counted_apart() -> None:
    plans = Plans(TEN, {}, {"POST /api/v1/tasks/{task_id}/retry": Plan(minute=1)})
    assert plans.of(Caller("t", "u"), "POST", "/api/v1/tasks/a/retry") == (
        "t/u POST /api/v1/tasks/{task_id}/retry",
        Plan(minute=1),
    )
    assert plans.of(Caller("t", "u"), "POST", "/api/v1/tasks/a/b/retry") == ("t/u", TEN)


def test_a_caller_can_have_a_plan_of_its_own() -> None:
    plans = Plans(Plan(), {"ann": TEN})
    assert plans.any
    assert plans.plan_of(Caller("t", "ann")) == TEN
    assert not plans.plan_of(Caller("t", "ben")).limits


def of(**settings: Any) -> Plan:
    return GatewaySettings(**settings).plans.plan_of(Caller())


def test_without_settings_nothing_is_limited_and_zero_means_no_limit() -> None:
    assert not GatewaySettings().plans.any
    assert of(rate_per_minute=5, rate_per_hour=0) == Plan(minute=5)
    settings = GatewaySettings.model_validate({"rate_routes": {"POST /api/v1/tasks": {"minute": 3}}})
    assert settings.plans.any


def test_what_passes_is_told_the_end_of_the_shortest_window_that_has_a_limit() -> None:
    assert [shortest(plan) for plan in (Plan(1, 1, 1), Plan(None, 1, 1), Plan(None, None, 1))] == [
        "minute",
        "hour",
        "day",
    ]
