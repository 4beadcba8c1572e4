"""Facts about aggregates that are no tasks."""

from datetime import datetime
from typing import Any, Final, get_args

from taskloom.domain.entities.commands import ScheduleSpec, ToolServerSpec
from taskloom.domain.event import Event
from taskloom.domain.scheduling.overrides import Overrides
from taskloom.domain.values import DependencyOutcome, Webhook


class DefinitionSaved(Event, frozen=True, tag="taskloom.definition.saved.v1"):
    """``revision`` counts from 1. A save after a removal brings the definition back."""

    revision: int
    definition: dict[str, Any]


class DefinitionRemoved(Event, frozen=True, tag="taskloom.definition.removed.v1"):
    reason: str = ""


class ScheduleSaved(Event, frozen=True, tag="taskloom.schedule.saved.v1"):
    """``next_at`` here and below: the earliest due time that no fact stands for yet."""

    spec: ScheduleSpec
    next_at: datetime | None = None


class SchedulePaused(Event, frozen=True, tag="taskloom.schedule.paused.v1"):
    reason: str = ""


class ScheduleResumed(Event, frozen=True, tag="taskloom.schedule.resumed.v1"):
    reason: str = ""
    next_at: datetime | None = None


class ScheduleRemoved(Event, frozen=True, tag="taskloom.schedule.removed.v1"):
    reason: str = ""


class RunTriggered(Event, frozen=True, tag="taskloom.schedule.run-triggered.v1"):
    """``submission`` is sent as the task ``run_id``, in the name of ``user_id``; ``cancels`` are runs that make way.

    ``cause``: due, buffered, manual or backfill.
    """

    run_id: str
    due_at: datetime
    cause: str
    submission: dict[str, Any]
    user_id: str = ""
    next_at: datetime | None = None
    cancels: tuple[str, ...] = ()


class RunBuffered(Event, frozen=True, tag="taskloom.schedule.run-buffered.v1"):
    """It runs when the open run has ended."""

    due_at: datetime
    next_at: datetime | None = None


class RunsSkipped(Event, frozen=True, tag="taskloom.schedule.runs-skipped.v1"):
    """``count`` due times, the first and the last of them; ``reason``: missed or overlap."""

    first_due_at: datetime
    last_due_at: datetime
    count: int
    reason: str
    next_at: datetime | None = None


class RunEnded(Event, frozen=True, tag="taskloom.schedule.run-ended.v1"):
    run_id: str
    outcome: DependencyOutcome


class SessionTitled(Event, frozen=True, tag="taskloom.session.titled.v1"):
    title: str


class SessionRemoved(Event, frozen=True, tag="taskloom.session.removed.v1"):
    """Tasks submitted until now are no part of the session any more, and it has no title."""

    reason: str = ""


class KeyIssued(Event, frozen=True, tag="taskloom.key.issued.v1"):
    """``key_hash``: SHA-256 of the key's text, in hex; the text itself is nowhere."""

    key_hash: str
    prefix: str
    name: str
    user_id: str
    role: str
    scopes: tuple[str, ...]
    description: str = ""
    expires_at: datetime | None = None


class KeyRotated(Event, frozen=True, tag="taskloom.key.rotated.v1"):
    key_hash: str
    prefix: str


class KeyRevoked(Event, frozen=True, tag="taskloom.key.revoked.v1"):
    reason: str = ""


class WebhookSaved(Event, frozen=True, tag="taskloom.webhook.saved.v1"):
    """Its secret is stored nowhere: it follows from the installation's key, the tenant, the name and the serial."""

    webhook: Webhook


class WebhookRemoved(Event, frozen=True, tag="taskloom.webhook.removed.v1"):
    """``serial`` of its last secret, so that one of the same name never has it again."""

    name: str
    serial: int = 1


class AgentEnrolled(Event, frozen=True, tag="taskloom.agent.enrolled.v1"):
    """``token_hash``: SHA-256 of its token, in hex; the text itself is nowhere. One after another: a new token."""

    token_hash: str
    prefix: str
    description: str = ""
    expires_at: datetime | None = None


class AgentRevoked(Event, frozen=True, tag="taskloom.agent.revoked.v1"):
    reason: str = ""


class AgentDrained(Event, frozen=True, tag="taskloom.agent.drained.v1"):
    reason: str = ""


class AgentUndrained(Event, frozen=True, tag="taskloom.agent.undrained.v1"):
    reason: str = ""


class UserRegistered(Event, frozen=True, tag="taskloom.user.registered.v1"):
    """``identity``: SHA-256 of who that is at the provider. ``email``: the provider vouched for it, or empty."""

    identity: str
    provider: str
    role: str
    email: str = ""
    name: str = ""


class UserDescribed(Event, frozen=True, tag="taskloom.user.described.v1"):
    """The provider says something else than before."""

    email: str
    name: str


class LoginBegun(Event, frozen=True, tag="taskloom.user.login-begun.v1"):
    """Hashes are SHA-256 in hex; the tokens themselves are nowhere."""

    login_id: str
    family_hash: str
    token_hash: str
    expires_at: datetime


class LoginRefreshed(Event, frozen=True, tag="taskloom.user.login-refreshed.v1"):
    login_id: str
    token_hash: str
    expires_at: datetime


class LoginEnded(Event, frozen=True, tag="taskloom.user.login-ended.v1"):
    """``reason``: signed_out, or reused: a refresh token came a second time."""

    login_id: str
    reason: str


class UserChanged(Event, frozen=True, tag="taskloom.user.changed.v1"):
    role: str
    disabled: bool
    reason: str = ""


class InvitationMade(Event, frozen=True, tag="taskloom.invitation.made.v1"):
    """``code_hash``: SHA-256 of the code, in hex."""

    code_hash: str
    role: str
    expires_at: datetime
    email: str = ""


class InvitationAccepted(Event, frozen=True, tag="taskloom.invitation.accepted.v1"):
    user_id: str


class InvitationWithdrawn(Event, frozen=True, tag="taskloom.invitation.withdrawn.v1"):
    reason: str = ""


class LimitsSet(Event, frozen=True, tag="taskloom.limits.set-to.v1"):
    """Fields that are left out are as in the settings, null is without limit."""

    overrides: Overrides


class LimitsCleared(Event, frozen=True, tag="taskloom.limits.cleared.v1"):
    reason: str = ""


class ToolServerSaved(Event, frozen=True, tag="taskloom.tool-server.saved.v1"):
    """A save after a removal brings the server back. Secrets are in ``spec`` by name only."""

    spec: ToolServerSpec


class ToolServerRemoved(Event, frozen=True, tag="taskloom.tool-server.removed.v1"):
    reason: str = ""


DefinitionEvent = DefinitionSaved | DefinitionRemoved
SessionEvent = SessionTitled | SessionRemoved
ScheduleEvent = (
    ScheduleSaved
    | SchedulePaused
    | ScheduleResumed
    | ScheduleRemoved
    | RunTriggered
    | RunBuffered
    | RunsSkipped
    | RunEnded
)
KeyEvent = KeyIssued | KeyRotated | KeyRevoked
WebhookEvent = WebhookSaved | WebhookRemoved
AgentEvent = AgentEnrolled | AgentRevoked | AgentDrained | AgentUndrained
UserEvent = UserRegistered | UserDescribed | LoginBegun | LoginRefreshed | LoginEnded | UserChanged
InvitationEvent = InvitationMade | InvitationAccepted | InvitationWithdrawn
LimitsEvent = LimitsSet | LimitsCleared
ToolServerEvent = ToolServerSaved | ToolServerRemoved
EntityEvent = (
    DefinitionEvent
    | ScheduleEvent
    | SessionEvent
    | KeyEvent
    | WebhookEvent
    | AgentEvent
    | UserEvent
    | InvitationEvent
    | LimitsEvent
    | ToolServerEvent
)

ENTITY_EVENTS: Final = get_args(EntityEvent)
