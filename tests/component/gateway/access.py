"""A gateway that asks for keys, and keys for it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast

import httpx
from litestar import Litestar

from services.gateway.app import create_app
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from taskloom.domain.access import USUAL_SCOPES
from taskloom.domain.entities.commands import IssueKey
from taskloom.domain.entities.ids import entity_id
from taskloom.keys import new_key
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, command_type
from taskloom.wire.messages import AuditEntry
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.memory_secrets import MemorySecrets

BASE_URL: Final = "http://127.0.0.1"
SECRET: Final = "0123456789abcdef0123456789abcdef"


def settings_with_keys(**fields: Any) -> GatewaySettings:
    fields = {
        "reply_timeout_s": 0.2,
        "read_wait_s": 0.5,
        "ping_interval_s": 0.2,
        "chat_plan_wait_s": 0.0,
        "chat_detect_wait_s": 0.0,
        "jwt_secret": SECRET,
        "webhook_key": SECRET,
        "secrets_key": SECRET,
        **fields,
    }
    return GatewaySettings(auth="keys", **fields)


def app_with_keys(system: MemorySystem, **fields: Any) -> Litestar:
    settings = settings_with_keys(**fields)
    audit, secrets = AuditOf(system), MemorySecrets()
    parts = Parts(settings, system, system, system, system, system, system.tail, audit=audit, sealed=secrets)
    return create_app(parts)


class AuditOf:
    """The audit topic, as if the projection had it at once."""

    def __init__(self, system: MemorySystem) -> None:
        self._system = system

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        await self._system.write_audit(entries)


def client_of(app: Litestar, key: str = "", **headers: str) -> httpx.AsyncClient:
    sent = {"X-API-Key": key, **headers} if key else headers
    transport = httpx.ASGITransport(cast(Any, app), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=sent)


async def issued(
    system: MemorySystem,
    tenant: str,
    role: Any = "admin",
    scopes: tuple[str, ...] | None = None,
    *,
    user: str = "ann",
    expires_at: datetime | None = None,
) -> tuple[str, str]:
    """Id and text of a key, made as the command line makes it."""
    made = new_key()
    given = USUAL_SCOPES[role] if scopes is None else scopes
    command = IssueKey(made.hash, made.prefix, f"{tenant}'s key", user, role, given, expires_at=expires_at)
    attributes = Attributes(id=f"issue/{made.key_id}", type=command_type(command), source="test", tenant_id=tenant)
    await system.send([Envelope(entity_id("key", tenant, made.key_id), command, attributes)])
    return made.key_id, made.text
