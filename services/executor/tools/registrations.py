"""Tool servers that a tenant has registered, with their secrets put in; both looked up again after 5 s."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec
import psycopg
from msgspec import Struct
from psycopg_pool import PoolTimeout

from services.executor.secrets import Secrets
from taskloom.domain.entities.commands import SecretName, ToolServerSpec
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.tool_servers import ToolServer
from taskloom.kinds.api import TaskError
from taskloom.views.entities import query
from taskloom.views.reading import Pool, TooSlow, read_pool

KEEP_S: Final = 5.0
MAX_KEPT: Final = 10_000
MAX_SERVERS: Final = 200
"""Of one tenant that are described."""

KIND: Final = "tool-server"


class ServerTable(Protocol):
    """Where registrations are: the entities of the read side."""

    async def get(self, tenant_id: str, name: str) -> Entity | None: ...
    async def names(self, tenant_id: str) -> list[str]: ...
    async def close(self) -> None: ...


class EntityTable:
    """In PostgreSQL. Connects when it is first used: most executors call no tools."""

    def __init__(self, dsn: str) -> None:
        self._pool = read_pool(dsn, min_size=1, max_size=2)
        self._opening = asyncio.Lock()

    async def get(self, tenant_id: str, name: str) -> Entity | None:
        return await query.get(await self._opened(), KIND, tenant_id, name)

    async def names(self, tenant_id: str) -> list[str]:
        found = await query.list_entities(await self._opened(), KIND, tenant_id, after="", limit=MAX_SERVERS)
        return [each.entity_id.rpartition("/")[2] for each in found]

    async def close(self) -> None:
        await self._pool.close()

    async def _opened(self) -> Pool:
        async with self._opening:
            await self._pool.open()
        return self._pool


class NoTable:
    """Of an executor that has no database: an agent."""

    async def get(self, tenant_id: str, name: str) -> Entity | None:
        return None

    async def names(self, tenant_id: str) -> list[str]:
        return []

    async def close(self) -> None:
        """There is nothing to close."""


class Registered(Struct, frozen=True):
    """A server as it is to be reached now. ``secrets``: the values that were put in. ``mark`` changes when anything
    changes."""

    tenant_id: str
    name: str
    spec: ToolServerSpec
    env: dict[str, str]
    headers: dict[str, str]
    secrets: tuple[str, ...]
    mark: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.tenant_id, self.name, self.mark


class Registrations:
    def __init__(self, table: ServerTable, secrets: Secrets) -> None:
        self._table = table
        self._secrets = secrets
        self._kept: dict[tuple[str, str], tuple[float, Registered]] = {}

    async def find(self, tenant_id: str, name: str) -> Registered:
        """
        Raises:
            TaskError: there is none, or it is switched off (``tool_denied``); a secret of it is missing
                (``secret_missing``); registrations cannot be read now (``tool_server_unavailable``, retryable).
        """
        now = time.monotonic()
        until, known = self._kept.get((tenant_id, name), (0.0, None))
        if known is not None and now < until:
            return known
        found = await self._read(tenant_id, name)
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[tenant_id, name] = now + KEEP_S, found
        return found

    async def names(self, tenant_id: str) -> list[str]:
        """Of all servers that the tenant has registered.

        Raises:
            TaskError: they cannot be read now (``tool_server_unavailable``, retryable).
        """
        try:
            return await self._table.names(tenant_id)
        except (psycopg.OperationalError, PoolTimeout, TooSlow) as error:
            raise _away(error) from error

    async def close(self) -> None:
        await self._table.close()

    async def _read(self, tenant_id: str, name: str) -> Registered:
        try:
            entity = await self._table.get(tenant_id, name)
        except (psycopg.OperationalError, PoolTimeout, TooSlow) as error:
            raise _away(error) from error
        if entity is None or not isinstance(entity.value, ToolServer):
            told = f"there is no tool server {name!r}; register it with PUT /api/v1/tool-servers/{name}"
            raise TaskError("tool_denied", told, retryable=False, details={"server": name})
        spec = entity.value.spec
        if not spec.enabled:
            raise TaskError("tool_denied", f"the tool server {name!r} is switched off", retryable=False)
        given = [*spec.env.values(), *spec.headers.values()]
        wanted = {value.secret for value in given if isinstance(value, SecretName)}
        secrets = await self._secrets.of_tenant(tenant_id, wanted) if wanted else {}
        env, headers = _filled(spec.env, secrets), _filled(spec.headers, secrets)
        state = msgspec.json.encode([entity.version, env, headers], order="sorted")
        mark = hashlib.sha256(state).hexdigest()
        return Registered(tenant_id, name, spec, env, headers, tuple(secrets.values()), mark)


def _filled(values: Mapping[str, str | SecretName], secrets: Mapping[str, str]) -> dict[str, str]:
    return {name: secrets[value.secret] if isinstance(value, SecretName) else value for name, value in values.items()}


def _away(error: Exception) -> TaskError:
    return TaskError("tool_server_unavailable", f"registrations cannot be read now: {error}", fault=True)
