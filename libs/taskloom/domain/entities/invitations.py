"""Invitations into a tenant, each for one user. Only the SHA-256 of a code is known here."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import AcceptInvitation, InvitationCommand, Invite
from taskloom.domain.entities.events import (
    InvitationAccepted,
    InvitationEvent,
    InvitationMade,
    InvitationWithdrawn,
)
from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.refusals import Refusal


class Invitation(Struct, frozen=True, omit_defaults=True, tag="invitation"):
    """``removed``: it was accepted or withdrawn. ``user_id``: who accepted it."""

    code_hash: str
    role: str
    expires_at: datetime
    email: str = ""
    invited_by: str = ""
    user_id: str = ""
    removed: bool = False

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"role": self.role}


def decide(state: Invitation | None, command: InvitationCommand, asked: Asked) -> list[InvitationEvent] | Refusal:
    if isinstance(command, Invite):
        if state is not None:
            return Refusal("conflict", f"there was an invitation {asked.name!r} already; take another id")
        if command.expires_at <= asked.now:
            return Refusal("invalid", "it would have expired already", "expires_at")
        return [InvitationMade(command.code_hash, command.role, command.expires_at, command.email)]
    if state is None:
        return Refusal("not_found", f"there is no invitation {asked.name!r}")
    if isinstance(command, AcceptInvitation):
        return _accept(state, command, asked)
    return [] if state.removed else [InvitationWithdrawn(command.reason)]


def _accept(state: Invitation, command: AcceptInvitation, asked: Asked) -> list[InvitationEvent] | Refusal:
    if state.code_hash != command.code_hash:
        return Refusal("not_found", f"there is no invitation {asked.name!r}")
    if state.user_id == command.user_id:
        return []  # its sign-in did not come to an end the first time
    if state.removed or state.expires_at <= asked.now:
        return Refusal("conflict", "the invitation was used, withdrawn, or has expired; ask for another one")
    if state.email and state.email.lower() != command.email.lower():
        return Refusal("conflict", "the invitation is for another email address")
    return [InvitationAccepted(command.user_id)]


def evolve(state: Invitation | None, event: InvitationEvent, recorded: Recorded) -> Invitation:
    return _CHANGES[type(event)](state, event, recorded)


def _made(_state: Invitation | None, event: InvitationMade, recorded: Recorded) -> Invitation:
    return Invitation(**structs.asdict(event), invited_by=recorded.meta.actor)


def _accepted(state: Invitation, event: InvitationAccepted, _recorded: Recorded) -> Invitation:
    return structs.replace(state, user_id=event.user_id, removed=True)


def _withdrawn(state: Invitation, _event: InvitationWithdrawn, _recorded: Recorded) -> Invitation:
    return structs.replace(state, removed=True)


_CHANGES: Final[dict[type[Event], Callable[[Any, Any, Recorded], Invitation]]] = {
    InvitationMade: _made,
    InvitationAccepted: _accepted,
    InvitationWithdrawn: _withdrawn,
}
