"""The audit in its table: once however often it came, by filters and pages, and gone when it is old."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.gateway.ids import new_command_id
from services.projection.database import Database
from taskloom.views.audit import query, write
from taskloom.views.audit.query import AuditFilter, lowest_id
from taskloom.views.reading import Pool, read_pool
from taskloom.wire.messages import AuditEntry

pytestmark = pytest.mark.integration
ROUTE = "/api/v1/tasks"


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    opened = read_pool(database_dsn)
    await opened.open(wait=True)
    yield opened
    await opened.close()


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    made = Database(database_dsn)
    yield made
    await made.close()


def entry(tenant: str, status: int = 200, days_ago: float = 0.0, **fields: Any) -> AuditEntry:
    at = datetime.now(UTC) - timedelta(days=days_ago)
    entry_id = new_command_id() if not days_ago else f"{lowest_id(at)}-7000-8000-{status:012d}"
    return AuditEntry(id=entry_id, at=at, tenant_id=tenant, method="POST", route=ROUTE, status=status, **fields)


async def test_entries_are_kept_once_and_found_by_filters(database: Database, pool: Pool) -> None:
    entries = [entry("red", user_id="ann", task_id="t-1"), entry("blue"), entry("red", 409, key_id="key_1")]
    for _ in range(2):
        await database.transaction(lambda cursor: write.add(cursor, entries))

    async def found(**fields: Any) -> list[AuditEntry]:
        return await query.list_entries(pool, "red", AuditFilter(**fields), 10)

    assert await found() == [entries[2], entries[0]]
    assert await found(before=entries[2].id) == [entries[0]]
    assert await found(since=entries[0].at, until=entries[2].at) == [entries[0]]
    assert await found(user_id="ann", task_id="t-1", method="POST", route=ROUTE, status=200) == [entries[0]]
    assert await found(refused=True, key_id="key_1") == [entries[2]]
    assert await found(task_id="") == []
    assert await query.list_entries(pool, "", AuditFilter(), 10) == []


async def test_old_entries_go_and_those_of_nobody_earlier(database: Database, pool: Pool) -> None:
    entries = [entry(tenant, 200, days) for tenant in ("red", "") for days in (100, 8, 1)]
    await database.transaction(lambda cursor: write.add(cursor, entries))
    await database.transaction(lambda cursor: write.forget(cursor, 90))
    left = [len(await query.list_entries(pool, tenant, AuditFilter(), 10)) for tenant in ("red", "")]
    assert left == [2, 1]
