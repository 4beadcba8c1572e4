"""``taskloom keys``: API keys, made and taken back by who runs the services; the first one of an installation."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

import typer

from taskloom.cli.entity_calls import all_of, change, until_shown
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.show import ago, console, moment, print_json
from taskloom.domain.access import USUAL_SCOPES
from taskloom.domain.entities.commands import IssueKey, RevokeKey
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.entities.keys import ApiKey
from taskloom.domain.ids import DEFAULT_TENANT, is_valid_id
from taskloom.errors import TaskloomError
from taskloom.keys import NewKey, new_key
from taskloom.settings import ServiceSettings, load
from taskloom.telemetry import configure_logging
from taskloom.views.keys.query import last_used
from taskloom.views.reading import read_pool

app = typer.Typer(help="API keys: make one, list them, take one back.", no_args_is_help=True)
T = TypeVar("T")
KIND: Final = "key"

Tenant = Annotated[str, typer.Option("--tenant", help="Whose key.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


class RoleName(StrEnum):
    user = "user"
    admin = "admin"
    owner = "owner"


@app.command()
def create(
    tenant: Tenant = DEFAULT_TENANT,
    role: Annotated[RoleName, typer.Option(help="owner: of all tenants; admin: of its tenant.")] = RoleName.user,
    name: Annotated[str, typer.Option(help="What it is for; shown in lists.")] = "made by taskloom keys",
    user: Annotated[str, typer.Option(help="In whose name it acts.")] = "operator",
    scope: Annotated[
        list[str] | None, typer.Option(help="Can be given again; default: the usual ones of the role.")
    ] = None,
    expires_in_days: Annotated[float | None, typer.Option(min=0.001, help="Default: it does not expire.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: this once, for it is stored nowhere. Needs a running orchestrator."""
    for option, text in (("--tenant", tenant), ("--user", user)):
        if not is_valid_id(text):
            raise TaskloomError(f"{option} {text!r} is not an id (1 to 128 of A-Z a-z 0-9 : _ - .)")
    scopes = tuple(scope) if scope else USUAL_SCOPES[role.value]
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    made = new_key()
    command = IssueKey(made.hash, made.prefix, name, user, role.value, scopes, expires_at=expires_at)
    shown = _run(_issue(tenant, made, command))
    if as_json:
        print_json({"id": made.key_id, "api_key": made.text, "tenant_id": tenant, "role": role.value, "scopes": scopes})
        return
    note = console(stderr=True)
    note.print(f"{made.key_id}: role {role.value} in tenant {tenant}, {', '.join(scopes)}", markup=False)
    note.print("This is the only time the key is shown:" if shown else "Shown once; the gateways do not know it yet:")
    print(made.text)


@app.command("list")
def list_keys(tenant: Tenant = DEFAULT_TENANT, as_json: AsJson = False) -> None:
    """List a tenant's keys, without those that were revoked."""
    found, used = _run(_read(tenant))
    if as_json:
        print_json([_told(entity, used) for entity in found])
        return
    columns = (
        *(Column("key"), Column("begins", 5), Column("name", 1, most=30), Column("user", 3), Column("role")),
        *(Column("scopes", 6), Column("made", 7), Column("expires", 2), Column("last used", 4)),
    )
    rows = []
    for entity in found:
        key, key_id = _key(entity), parts_of(entity.entity_id).name
        expires = moment(key.expires_at)[:-4] + (" (expired)" if key.has_expired(datetime.now(UTC)) else "")
        texts = (key_id, key.prefix, key.name, key.user_id, key.role, " ".join(key.scopes))
        rows.append((*texts, ago(entity.created_at), expires, ago(used.get(key_id))))
    print_listing(columns, rows, empty=f"the tenant {tenant} has no keys")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as list shows it: key_…")],
    tenant: Tenant = DEFAULT_TENANT,
    reason: Annotated[str, typer.Option(help="Kept in its history.")] = "",
    as_json: AsJson = False,
) -> None:
    """Take a key back, for good. Needs a running orchestrator."""
    if not is_valid_id(key_id):
        raise TaskloomError(f"{key_id!r} is not the id of a key; `taskloom keys list` shows them")
    _run(change(load(ServiceSettings), tenant, key_id, RevokeKey(reason)))
    if as_json:
        print_json({"id": key_id, "success": True})
        return
    console().print(f"{key_id} is revoked; gateways stop taking it within TASKLOOM_KEY_CACHE_S", markup=False)


async def _issue(tenant: str, made: NewKey, command: IssueKey) -> bool:
    settings = load(ServiceSettings)
    reply = await change(settings, tenant, made.key_id, command)
    return await until_shown(settings, KIND, tenant, made.key_id, reply.version)


async def _read(tenant: str) -> tuple[list[Entity], dict[str, datetime]]:
    settings = load(ServiceSettings)
    found = await all_of(settings, KIND, tenant)
    pool = read_pool(settings.database_dsn, max_size=1)
    async with pool:
        return found, await last_used(pool, tenant, [parts_of(entity.entity_id).name for entity in found])


def _told(entity: Entity, used: dict[str, datetime]) -> dict[str, Any]:
    key, name = _key(entity), parts_of(entity.entity_id)
    return {
        "id": name.name,
        "tenant_id": name.tenant_id,
        "key_prefix": key.prefix,
        "name": key.name,
        "user_id": key.user_id,
        "role": key.role,
        "scopes": key.scopes,
        "created_at": entity.created_at,
        "expires_at": key.expires_at,
        "last_used_at": used.get(name.name),
    }


def _key(entity: Entity) -> ApiKey:
    assert isinstance(entity.value, ApiKey)
    return entity.value


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    configure_logging("keys", level="error", log_format="console")
    return asyncio.run(coroutine)
