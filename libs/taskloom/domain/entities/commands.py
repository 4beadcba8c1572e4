"""Wishes about aggregates that are no tasks. Their JSON is also the body of the matching REST call."""

from typing import Annotated, Any, Final, Literal, get_args

from msgspec import Meta, Struct

from taskloom.domain.access import Role
from taskloom.domain.entities.due import Timing
from taskloom.domain.scheduling.overrides import Overrides
from taskloom.domain.task.commands import Command, Reason
from taskloom.domain.values import DependencyOutcome, Identifier, Text256, UtcTime


class SaveDefinition(Command, frozen=True, tag="taskloom.definition.save.v1"):
    """Stores a workflow. ``expected_revision``: refused when another one is the newest; 0 says that there is none."""

    definition: dict[str, Any]
    expected_revision: Annotated[int, Meta(ge=0)] | None = None


class RemoveDefinition(Command, frozen=True, tag="taskloom.definition.remove.v1"):
    """It can be executed no more. Runs go on: each has its definition pinned."""

    reason: Reason = ""


class ScheduleSpec(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``task`` are the fields of a submission, each run's. ``overlap``: what a due time does while a run is open.

    ``catch_up``: which of the due times run late that nobody was there for: none of them, the last, all, or those of
    the last ``catch_up_window_s`` seconds. Those of a pause never do.
    """

    name: Text256
    timing: Timing
    task: dict[str, Any]
    description: Annotated[str, Meta(max_length=4096)] = ""
    overlap: Literal["skip", "buffer_one", "allow", "cancel_other"] = "skip"
    catch_up: Literal["none", "last", "all", "window"] = "last"
    catch_up_window_s: Annotated[float, Meta(gt=0, le=366 * 86_400)] = 3_600.0


class SaveSchedule(Command, frozen=True, tag="taskloom.schedule.save.v1"):
    """Makes a schedule (``new``), or puts another specification in the place of its own.

    ``expected_version``: refused when the schedule's stream has got further.
    """

    spec: ScheduleSpec
    new: bool = True
    expected_version: Annotated[int, Meta(ge=1)] | None = None


class PauseSchedule(Command, frozen=True, tag="taskloom.schedule.pause.v1"):
    reason: Reason = ""


class ResumeSchedule(Command, frozen=True, tag="taskloom.schedule.resume.v1"):
    reason: Reason = ""


class RemoveSchedule(Command, frozen=True, tag="taskloom.schedule.remove.v1"):
    """Open runs go on."""

    reason: Reason = ""


class TriggerSchedule(Command, frozen=True, tag="taskloom.schedule.trigger.v1"):
    """One run now, whatever else runs."""


class BackfillSchedule(Command, frozen=True, tag="taskloom.schedule.backfill.v1"):
    """A run for each due time from ``start`` until before ``end``, at most 100, whatever else runs."""

    start: UtcTime
    end: UtcTime


class FireSchedule(Command, frozen=True, tag="taskloom.schedule.fire.v1"):
    """Whatever is due now happens; nothing when nothing is due. It never travels."""


class NoteRun(Command, frozen=True, tag="taskloom.schedule.note-run.v1"):
    """A run has ended; sent by its task."""

    run_id: Identifier
    outcome: DependencyOutcome


class TitleSession(Command, frozen=True, tag="taskloom.session.title.v1"):
    """1 to 60 characters; those that nobody sees are taken out first."""

    title: Annotated[str, Meta(max_length=1024)]


class RemoveSession(Command, frozen=True, tag="taskloom.session.remove.v1"):
    """Its tasks go on. One that is submitted under its id later begins a new session."""

    reason: Reason = ""


KeyHash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
KeyPrefix = Annotated[str, Meta(min_length=1, max_length=16)]


class IssueKey(Command, frozen=True, tag="taskloom.key.issue.v1"):
    """Makes an API key of the tenant known. ``key_hash``: SHA-256 of its text, in hex; ``prefix``: how its text begins.

    ``user_id`` is in whose name it acts. Without ``expires_at`` it does not expire.
    """

    key_hash: KeyHash
    prefix: KeyPrefix
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    user_id: Identifier
    role: Role = "user"
    scopes: Annotated[tuple[Text256, ...], Meta(max_length=50)] = ()
    description: Annotated[str, Meta(max_length=1000)] = ""
    expires_at: UtcTime | None = None


class RotateKey(Command, frozen=True, tag="taskloom.key.rotate.v1"):
    """Another text for the same key; the one before is worth nothing from then on."""

    key_hash: KeyHash
    prefix: KeyPrefix


class RevokeKey(Command, frozen=True, tag="taskloom.key.revoke.v1"):
    """For good."""

    reason: Reason = ""


class SignIn(Command, frozen=True, tag="taskloom.user.sign-in.v1"):
    """Somebody whom a provider vouches for comes in; the user is made when there is none. ``identity``: SHA-256 of who
    that is at the provider. ``role`` is what a new user gets.

    A login lasts until ``expires_at``, renewed with each refresh. ``family_hash`` is of the part that all of its
    refresh tokens have, ``token_hash`` of the part that this one alone has.
    """

    identity: KeyHash
    provider: Text256
    login_id: Identifier
    family_hash: KeyHash
    token_hash: KeyHash
    expires_at: UtcTime
    role: Role = "user"
    email: Annotated[str, Meta(max_length=320)] = ""
    name: Text256 = ""


class RefreshLogin(Command, frozen=True, tag="taskloom.user.refresh.v1"):
    """Another refresh token in the place of the last one. One that was replaced before ends the login: whoever has it
    has copied it."""

    login_id: Identifier
    family_hash: KeyHash
    token_hash: KeyHash
    next_hash: KeyHash
    expires_at: UtcTime


class EndLogin(Command, frozen=True, tag="taskloom.user.end-login.v1"):
    """Signs out: its tokens are worth nothing from then on."""

    login_id: Identifier


class ChangeUser(Command, frozen=True, tag="taskloom.user.change.v1"):
    """What is left out stays. A user who is disabled has no login, and its keys do not work until it is enabled."""

    role: Role | None = None
    disabled: bool | None = None
    reason: Reason = ""


class Invite(Command, frozen=True, tag="taskloom.invitation.make.v1"):
    """Lets one person join the tenant as a user; who that is the code says, of which the SHA-256 is known here. With
    ``email`` the provider has to vouch for that address."""

    code_hash: KeyHash
    expires_at: UtcTime
    role: Role = "user"
    email: Annotated[str, Meta(max_length=320)] = ""


class AcceptInvitation(Command, frozen=True, tag="taskloom.invitation.accept.v1"):
    """Once, by one user."""

    code_hash: KeyHash
    user_id: Identifier
    email: Annotated[str, Meta(max_length=320)] = ""


class WithdrawInvitation(Command, frozen=True, tag="taskloom.invitation.withdraw.v1"):
    """One that was accepted stays so."""

    reason: Reason = ""


class SetLimits(Command, frozen=True, tag="taskloom.limits.set.v1"):
    """What the tenant may use, in place of what was set before; ``expected_version``: refused when the stream has got
    further."""

    overrides: Overrides = Overrides()
    expected_version: Annotated[int, Meta(ge=0)] | None = None


class ClearLimits(Command, frozen=True, tag="taskloom.limits.clear.v1"):
    """The settings hold again."""

    reason: Reason = ""


class SaveWebhook(Command, frozen=True, tag="taskloom.webhook.save.v1"):
    """Adds a subscription to those of the tenant (``new``), or puts another in its place. ``rotate``: a new secret."""

    name: Identifier
    url: Annotated[str, Meta(max_length=2048)]
    events: Annotated[tuple[str, ...], Meta(max_length=20)] = ()
    kind: Annotated[str, Meta(max_length=128)] = ""
    queue: Annotated[str, Meta(max_length=128)] = ""
    tag: Text256 = ""
    enabled: bool = True
    new: bool = True
    rotate: bool = False


class RemoveWebhook(Command, frozen=True, tag="taskloom.webhook.remove.v1"):
    """Deliveries that are due already go on."""

    name: Identifier


class EnrollAgent(Command, frozen=True, tag="taskloom.agent.enroll.v1"):
    """Lets an agent in that shows a token with this SHA-256, in hex; ``prefix``: how its text begins. A token that it
    had before is worth nothing from then on. ``new``: refused when there ever was an agent of this name.

    Without ``expires_at`` the token does not expire.
    """

    token_hash: KeyHash
    prefix: KeyPrefix
    description: Annotated[str, Meta(max_length=1000)] = ""
    expires_at: UtcTime | None = None
    new: bool = False


class RevokeAgent(Command, frozen=True, tag="taskloom.agent.revoke.v1"):
    """Its token is worth nothing from then on, and its link is cut. It can be enrolled again."""

    reason: Reason = ""


class DrainAgent(Command, frozen=True, tag="taskloom.agent.drain.v1"):
    """It gets no more work, until ``UndrainAgent``; what it has goes on."""

    reason: Reason = ""


class UndrainAgent(Command, frozen=True, tag="taskloom.agent.undrain.v1"):
    """It gets work again."""

    reason: Reason = ""


class SecretName(Struct, frozen=True, forbid_unknown_fields=True):
    """Stands for the value of the tenant's secret of this name."""

    secret: Identifier


Word = Annotated[str, Meta(max_length=4096)]
Variables = Annotated[dict[str, Word | SecretName], Meta(max_length=100)]
ToolNames = Annotated[tuple[Text256, ...], Meta(max_length=1000)]


class ToolServerSpec(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An MCP server. ``stdio``: ``command`` as words and ``env`` beside the executor's plain environment; ``http``
    (streamable HTTP): ``url`` and ``headers``.

    ``tools``: which of its tools may be called, None for all. ``idempotent``: which of them may be called again when it
    is not known whether a call took place. ``timeout_s``: of one call.
    """

    transport: Literal["stdio", "http"]
    command: Annotated[tuple[Word, ...], Meta(max_length=100)] = ()
    env: Variables = {}
    url: Annotated[str, Meta(max_length=2048)] = ""
    headers: Variables = {}
    tools: ToolNames | None = None
    idempotent: ToolNames = ()
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    enabled: bool = True
    description: Annotated[str, Meta(max_length=1000)] = ""


class SaveToolServer(Command, frozen=True, tag="taskloom.tool-server.save.v1"):
    """Registers a tool server, or puts another specification in the place of its own. ``expected_version``: refused
    when the server's stream is at another; 0 says that there is none."""

    spec: ToolServerSpec
    expected_version: Annotated[int, Meta(ge=0)] | None = None


class RemoveToolServer(Command, frozen=True, tag="taskloom.tool-server.remove.v1"):
    """Its tools can be called no more. A call that runs goes on."""

    reason: Reason = ""


DefinitionCommand = SaveDefinition | RemoveDefinition
SessionCommand = TitleSession | RemoveSession
KeyCommand = IssueKey | RotateKey | RevokeKey
ScheduleClientCommand = (
    SaveSchedule | PauseSchedule | ResumeSchedule | RemoveSchedule | TriggerSchedule | BackfillSchedule
)
ScheduleCommand = ScheduleClientCommand | FireSchedule | NoteRun
WebhookCommand = SaveWebhook | RemoveWebhook
AgentCommand = EnrollAgent | RevokeAgent | DrainAgent | UndrainAgent
UserCommand = SignIn | RefreshLogin | EndLogin | ChangeUser
LimitsCommand = SetLimits | ClearLimits
ToolServerCommand = SaveToolServer | RemoveToolServer
InvitationCommand = Invite | AcceptInvitation | WithdrawInvitation
EntityCommand = (
    DefinitionCommand
    | ScheduleCommand
    | SessionCommand
    | KeyCommand
    | WebhookCommand
    | AgentCommand
    | UserCommand
    | InvitationCommand
    | LimitsCommand
    | ToolServerCommand
)

_KIND_OF: Final = {
    **dict.fromkeys(get_args(DefinitionCommand), "definition"),
    **dict.fromkeys(get_args(ScheduleCommand), "schedule"),
    **dict.fromkeys(get_args(SessionCommand), "session"),
    **dict.fromkeys(get_args(KeyCommand), "key"),
    **dict.fromkeys(get_args(WebhookCommand), "webhook"),
    **dict.fromkeys(get_args(AgentCommand), "agent"),
    **dict.fromkeys(get_args(UserCommand), "user"),
    **dict.fromkeys(get_args(InvitationCommand), "invitation"),
    **dict.fromkeys(get_args(LimitsCommand), "limits"),
    **dict.fromkeys(get_args(ToolServerCommand), "tool-server"),
}
ENTITY_CLIENT_COMMANDS: Final = (
    *get_args(DefinitionCommand),
    *get_args(ScheduleClientCommand),
    *get_args(SessionCommand),
    *get_args(KeyCommand),
    *get_args(WebhookCommand),
    *get_args(AgentCommand),
    *get_args(UserCommand),
    *get_args(InvitationCommand),
    *get_args(LimitsCommand),
    *get_args(ToolServerCommand),
)
ENTITY_COMMANDS: Final = (*ENTITY_CLIENT_COMMANDS, NoteRun)
"""Those that travel."""


def kind_of(command: EntityCommand) -> str:
    """The kind of entity that a command is for; part of the entity's id."""
    return _KIND_OF[type(command)]
