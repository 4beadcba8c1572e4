"""One shape for all aggregates that are no tasks, and the table from their kinds to their modules."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from taskloom.domain.entities import (
    agents,
    definitions,
    invitations,
    keys,
    limits,
    schedules,
    sessions,
    tool_servers,
    users,
    webhooks,
)
from taskloom.domain.entities.agents import Agent
from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import EntityCommand
from taskloom.domain.entities.definitions import Definition
from taskloom.domain.entities.events import EntityEvent
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.entities.invitations import Invitation
from taskloom.domain.entities.keys import ApiKey
from taskloom.domain.entities.limits import TenantLimits
from taskloom.domain.entities.schedules import Schedule
from taskloom.domain.entities.sessions import Session
from taskloom.domain.entities.tool_servers import ToolServer
from taskloom.domain.entities.users import User
from taskloom.domain.entities.webhooks import Webhooks
from taskloom.domain.envelope import Recorded
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller

REMEMBERED_COMMANDS: Final = 128
"""Commands whose ids an entity remembers, newest first to stay; older repeats are decided anew."""

Value = Definition | Schedule | Session | ApiKey | Webhooks | Agent | User | Invitation | TenantLimits | ToolServer

_MODULES: Final[dict[str, Any]] = {
    "definition": definitions,
    "schedule": schedules,
    "session": sessions,
    "key": keys,
    "webhook": webhooks,
    "agent": agents,
    "user": users,
    "invitation": invitations,
    "limits": limits,
    "tool-server": tool_servers,
}
"""By the kind in the id: a module with ``decide`` and ``evolve``."""


class Entity(Struct, frozen=True, omit_defaults=True):
    """An aggregate as of ``version``; ``value`` is what its kind remembers."""

    entity_id: str
    version: int
    digest: bytes
    tenant_id: str
    created_at: datetime
    changed_at: datetime
    value: Value
    command_ids: tuple[str, ...] = ()


def decide(state: Entity | None, command: EntityCommand, now: datetime, caller: Caller) -> list[EntityEvent] | Refusal:
    """Events in order, an empty list when nothing changes, or the reason for saying no. ``caller.task_id`` is the id of
    the entity, which names its tenant: another tenant's cannot be reached."""
    if state is not None and caller.command_id and caller.command_id in state.command_ids:
        return []
    name = parts_of(caller.task_id)
    asked = Asked(name.name, name.tenant_id, now, 0 if state is None else state.version, caller.actor)
    decision: list[EntityEvent] | Refusal = _MODULES[name.kind].decide(
        None if state is None else state.value, command, asked
    )
    return decision


def evolve(state: Entity | None, recorded: Recorded) -> Entity:
    """The entity after one more event.

    Raises:
        ValueError: the event does not follow the state.
    """
    meta = recorded.meta
    if meta.version != (1 if state is None else state.version + 1):
        raise ValueError(f"{meta.task_id}: event {meta.version} cannot follow version {state.version if state else 0}")
    before = None if state is None else state.value
    value = _MODULES[parts_of(meta.task_id).kind].evolve(before, recorded.event, recorded)
    known = () if state is None else state.command_ids
    if meta.command_id and meta.command_id not in known[:1]:
        known = (meta.command_id, *known[: REMEMBERED_COMMANDS - 1])
    if state is None:
        return Entity(meta.task_id, 1, recorded.digest, meta.tenant_id, meta.at, meta.at, value, known)
    return structs.replace(
        state, version=meta.version, digest=recorded.digest, changed_at=meta.at, value=value, command_ids=known
    )


def next_due(state: Entity) -> datetime | None:
    """When the entity next needs the clock."""
    return (
        schedules.fires_at(state.value, parts_of(state.entity_id).name) if isinstance(state.value, Schedule) else None
    )


def fold(history: Iterable[Recorded], state: Entity | None = None) -> Entity | None:
    """The entity after a history, from ``state`` on; None for an empty one."""
    for recorded in history:
        state = evolve(state, recorded)
    return state
