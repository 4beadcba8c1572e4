"""Secrets of a tenant: put and removed, and never told again."""

from datetime import datetime
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from services.gateway.problems import BadRequest, NotFound, Unavailable
from services.gateway.security import Caller
from taskloom.secrets import MAX_BYTES, MIN_CHARS, Vault
from taskloom.store.secrets import SecretRow


class SecretTexts(Protocol):
    """Where sealed secrets are (``taskloom.store.secrets.SecretTable``)."""

    async def put(self, tenant_id: str, name: str, sealed: bytes) -> SecretRow: ...
    async def remove(self, tenant_id: str, name: str) -> bool: ...
    async def page(self, tenant_id: str, after: str, limit: int) -> tuple[list[SecretRow], int]: ...
    async def find(self, tenant_id: str, names: list[str]) -> dict[str, bytes]: ...


class PutSecret(Struct, frozen=True, forbid_unknown_fields=True):
    """``value`` is text of 4 characters or more, 64 KiB at most."""

    value: Annotated[str, Meta(min_length=MIN_CHARS, max_length=MAX_BYTES)]


class SecretSeen(Struct, frozen=True):
    """Its value is not among what is told."""

    name: str
    created_at: datetime
    updated_at: datetime


class SecretList(Struct, frozen=True):
    """By name."""

    secrets: list[SecretSeen]
    total_count: int
    next_cursor: str | None = None


class SecretDesk:
    """``vault`` and ``table`` are None where this installation has no secrets."""

    def __init__(self, vault: Vault | None, table: SecretTexts | None) -> None:
        self._vault = vault
        self._table = table

    async def put(self, caller: Caller, name: str, wish: PutSecret) -> SecretSeen:
        """
        Raises:
            BadRequest: the value is over 64 KiB as UTF-8, or cannot be UTF-8.
            Unavailable: there are no secrets here.
        """
        vault, table = self._ready()
        try:
            size = len(wish.value.encode())
        except UnicodeEncodeError:
            raise BadRequest("the value is no text", field="value") from None
        if size > MAX_BYTES:
            raise BadRequest(f"the value has {size} bytes, {MAX_BYTES} are allowed", field="value")
        if "\x00" in wish.value:
            raise BadRequest("the value holds a NUL, which no environment can", field="value")
        return _seen(await table.put(caller.tenant_id, name, vault.seal(caller.tenant_id, name, wish.value)))

    async def remove(self, caller: Caller, name: str) -> None:
        """Raises NotFound: there is none."""
        _, table = self._ready()
        if not await table.remove(caller.tenant_id, name):
            raise NotFound(f"there is no secret {name!r}", name=name)

    async def page(self, caller: Caller, after: str, limit: int) -> SecretList:
        _, table = self._ready()
        found, total = await table.page(caller.tenant_id, after, limit + 1)
        listed = [_seen(row) for row in found[:limit]]
        return SecretList(listed, total, listed[-1].name if len(found) > limit else None)

    def _ready(self) -> tuple[Vault, SecretTexts]:
        if self._vault is None or self._table is None:
            raise Unavailable("secrets are not set up here: TASKLOOM_SECRETS_KEY is not set", retry_after_s=60)
        return self._vault, self._table


def _seen(row: SecretRow) -> SecretSeen:
    return SecretSeen(row.name, row.created_at, row.updated_at)
