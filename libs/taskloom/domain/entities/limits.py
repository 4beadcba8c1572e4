"""What a tenant may use, changed while the system runs. One aggregate for a tenant; its owner writes it into a table of
the store in the same transaction, which gateways and orchestrators follow."""

from typing import Any, Final

from msgspec import Struct, structs

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import ClearLimits, LimitsCommand
from taskloom.domain.entities.events import LimitsCleared, LimitsEvent, LimitsSet
from taskloom.domain.envelope import Recorded
from taskloom.domain.refusals import Refusal
from taskloom.domain.scheduling.overrides import Overrides

KIND: Final = "limits"
ENTITY: Final = "tenant"
"""The name under which a tenant has its limits."""


class TenantLimits(Struct, frozen=True, omit_defaults=True, tag="limits"):
    """``removed``: the settings hold again. ``changed_by``: who said so last."""

    overrides: Overrides = Overrides()
    changed_by: str = ""
    removed: bool = False

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"cleared": self.removed}


def decide(state: TenantLimits | None, command: LimitsCommand, asked: Asked) -> list[LimitsEvent] | Refusal:
    if asked.name != ENTITY:
        return Refusal("invalid", f"a tenant's limits are kept under the name {ENTITY!r}")
    if isinstance(command, ClearLimits):
        return [] if state is None or state.removed else [LimitsCleared(command.reason)]
    if command.expected_version is not None and command.expected_version != asked.version:
        return Refusal("conflict", f"the limits are at version {asked.version}, not {command.expected_version}")
    same = state is not None and not state.removed and state.overrides == command.overrides
    return [] if same else [LimitsSet(command.overrides)]


def evolve(state: TenantLimits | None, event: LimitsEvent, recorded: Recorded) -> TenantLimits:
    if isinstance(event, LimitsCleared):
        return TenantLimits(changed_by=recorded.meta.actor, removed=True)
    return structs.replace(
        state or TenantLimits(), overrides=event.overrides, changed_by=recorded.meta.actor, removed=False
    )
