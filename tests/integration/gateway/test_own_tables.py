"""Counts of requests and first answers in a real PostgreSQL, as several gateways share them."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import pytest

from services.gateway.first_answers import Busy, Claimed, OtherBody, PostgresAnswers, Stored
from services.gateway.links.values import PostgresAgentValues
from services.gateway.own_tables import own_pool
from services.gateway.rate_windows import Asked, Plan, PostgresWindows
from services.gateway.rates import RateLimited, RateLimiter
from services.gateway.shared_secrets import shared_secret
from taskloom.testing.eventually import eventually
from taskloom.views.reading import Pool, read_pool

pytestmark = pytest.mark.integration


@asynccontextmanager
async def pool_of(dsn: str) -> AsyncIterator[Pool]:
    pool = own_pool(dsn, max_size=4)
    await pool.open(wait=True)
    try:
        yield pool
    finally:
        await pool.close()


async def within_one_minute() -> None:
    """Returns when the minute's window has some seconds left."""
    await eventually(lambda: 60 - time.time() % 60 > 5, 6.0)


async def test_three_gateways_let_exactly_the_limit_pass(database_dsn: str) -> None:
    async with pool_of(database_dsn) as one, pool_of(database_dsn) as two, pool_of(database_dsn) as three:
        limiters = [RateLimiter(PostgresWindows(pool), fail_open=False) for pool in (one, two, three)]
        plans = {"t/few": Plan(minute=7), "t/many": Plan(minute=500, hour=321), "t/free": Plan(minute=10_000)}
        passed: Counter[str] = Counter()
        left: dict[str, list[int]] = {name: [] for name in plans}

        async def ask(number: int, subject: str) -> None:
            try:
                headers = (await limiters[number % 3].take(subject, plans[subject])).headers
            except RateLimited:
                return
            passed[subject] += 1
            left[subject].append(int(headers["X-RateLimit-Remaining-Minute"]))

        await within_one_minute()
        for _ in range(4):
            await asyncio.gather(*(ask(number, subject) for number in range(150) for subject in plans))
    assert passed == {"t/few": 7, "t/many": 321, "t/free": 600}
    assert sorted(left["t/few"]) == list(range(7)), "each was told another rest"
    assert len(set(left["t/free"])) == 600


async def test_a_new_window_begins_at_nothing_and_old_rows_go(database_dsn: str) -> None:
    async with pool_of(database_dsn) as pool:
        windows = PostgresWindows(pool)
        await within_one_minute()
        ask = {"t/u": Asked(5, Plan(minute=5, hour=8))}
        assert (await windows.take(ask))["t/u"].given == 5
        assert (await windows.take(ask))["t/u"].given == 0
        async with pool.connection() as connection:
            await connection.execute("UPDATE rate_windows SET minute = minute - 1")
        taken = (await windows.take(ask))["t/u"]
        assert (taken.given, taken.minute, taken.hour) == (3, 3, 8), "the hour's window still counts"
        async with pool.connection() as connection:
            await connection.execute("UPDATE rate_windows SET day = day - 3")
        await windows.forget_old()
        async with pool.connection() as connection:
            assert await (await connection.execute("SELECT 1 FROM rate_windows")).fetchall() == []


async def test_a_window_that_another_gateways_clock_began_is_not_taken_back(database_dsn: str) -> None:
    async with pool_of(database_dsn) as pool:
        windows, ask = PostgresWindows(pool), {"t/u": Asked(5, Plan(minute=5))}
        await windows.take(ask)
        async with pool.connection() as connection:
            await connection.execute("UPDATE rate_windows SET minute = minute + 1")
        assert (await windows.take(ask))["t/u"].given == 0


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def test_one_of_many_claims_gets_the_key_and_the_others_its_answer(database_dsn: str) -> None:
    async with pool_of(database_dsn) as one, pool_of(database_dsn) as two:
        tables = [PostgresAnswers(pool, keep_s=60) for pool in (one, two)]
        scope, body = digest("scope"), digest("body")
        found = await asyncio.gather(*(tables[n % 2].claim(scope, body, uuid4()) for n in range(20)))
        [claimed] = [each for each in found if isinstance(each, Claimed)]
        assert all(each == claimed or each == Busy() for each in found)
        answer = Stored(201, [("x-workflow-id", "t"), ("link", "</s>; rel=stream")], b'{"a":"\xc3\xa4"}')
        await tables[0].keep(scope, claimed.claim, answer)
        assert await tables[1].claim(scope, body, uuid4()) == answer
        assert await tables[1].claim(scope, digest("other"), uuid4()) == OtherBody()


async def test_claims_are_released_taken_over_and_forgotten(database_dsn: str) -> None:
    async with pool_of(database_dsn) as pool:
        scope, body = digest("scope"), digest("body")
        patient, hasty = PostgresAnswers(pool, keep_s=60), PostgresAnswers(pool, keep_s=60, lease_s=0)
        first, second = uuid4(), uuid4()
        assert await patient.claim(scope, body, first) == Claimed(first)
        assert await patient.claim(scope, body, second) == Busy()
        assert await hasty.claim(scope, body, second) == Claimed(second), "its gateway died"
        await patient.keep(scope, first, Stored(200, [], b"late"))
        assert await patient.claim(scope, body, first) == Busy(), "who lost the claim keeps nothing"
        await patient.release(scope, second)
        assert await patient.claim(scope, digest("mended"), first) == Claimed(first)
        await patient.keep(scope, first, Stored(200, [], b"x"))
        await PostgresAnswers(pool, keep_s=0).forget_old()
        with psycopg.connect(database_dsn) as connection:
            assert connection.execute("SELECT count(*) FROM first_answers").fetchone() == (0,)


async def test_gateways_that_start_together_share_one_secret_under_each_name(database_dsn: str) -> None:
    async with read_pool(database_dsn, max_size=8) as pool:
        found = await asyncio.gather(*(shared_secret(pool, f"name-{n % 2}", 64) for n in range(40)))
        assert [len(each) for each in found] == [64] * 40
        assert [len(set(found[name::2])) for name in (0, 1)] == [1, 1]
        assert found[0] != found[1]


class Claims:
    """Large values that are kept nowhere."""

    async def put(self, value: bytes) -> str:
        return hashlib.sha256(value).hexdigest()

    async def resolve(self, value: object) -> object:
        return value


async def test_a_value_is_its_tenants_alone_however_often_it_is_stored(database_dsn: str) -> None:
    async with pool_of(database_dsn) as pool:
        values = PostgresAgentValues(Claims(), pool)
        digest = await values.put("acme", b"1")
        assert await values.put("acme", b"1") == digest
        assert await values.owned("acme", [digest, "0" * 64]) == {digest}
        assert await values.owned("red", [digest]) == set()


async def test_old_rows_of_agents_values_are_let_go_unless_they_were_stored_again(database_dsn: str) -> None:
    async with pool_of(database_dsn) as pool:
        values = PostgresAgentValues(Claims(), pool, keep_s=3600)
        kept = {await values.put(tenant, text) for tenant, text in (("acme", b"1"), ("red", b"2"))}
        async with pool.connection() as connection:
            await connection.execute("UPDATE agent_values SET stored_at = now() - interval '2 hours'")
            old = "SELECT 'acme', n::text, now() - interval '1 day' FROM generate_series(1, 2500) n"
            await connection.execute(f"INSERT INTO agent_values {old}".encode())
        assert await values.put("acme", b"1") in kept
        await values.forget_old()
        async with pool.connection() as connection:
            left = await (await connection.execute("SELECT tenant_id FROM agent_values")).fetchall()
        assert left == [("acme",)]
        assert await values.owned("acme", kept) & kept
