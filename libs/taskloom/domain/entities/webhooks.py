"""The webhooks of a tenant, one aggregate: whoever ends a task reads all of them at once, and they are few."""

from typing import Any, Final

from msgspec import Struct, structs

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import RemoveWebhook, SaveWebhook, WebhookCommand
from taskloom.domain.entities.events import WebhookEvent, WebhookRemoved, WebhookSaved
from taskloom.domain.envelope import Recorded
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.submission import is_webhook_url
from taskloom.domain.values import Webhook

ENTITY: Final = "subscriptions"
"""The name under which a tenant has its webhooks."""

MAX_WEBHOOKS: Final = 50
EVENTS: Final = ("task.completed", "task.failed", "task.timed_out", "task.cancelled")
RESERVED: Final = "callback"


class Webhooks(Struct, frozen=True, omit_defaults=True, tag="webhooks"):
    """``serials``: of the last secret of each name that was ever there and is removed."""

    items: tuple[Webhook, ...] = ()
    serials: dict[str, int] = {}
    removed: bool = False

    def find(self, name: str) -> Webhook | None:
        return next((each for each in self.items if each.name == name), None)

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"serials": {each.name: each.serial for each in self.items}}


def decide(state: Webhooks | None, command: WebhookCommand, asked: Asked) -> list[WebhookEvent] | Refusal:
    state = state or Webhooks()
    if asked.name != ENTITY:
        return Refusal("invalid", f"a tenant's webhooks are kept under the name {ENTITY!r}")
    before = state.find(command.name)
    if isinstance(command, RemoveWebhook):
        if before is None:
            return Refusal("not_found", "Webhook not found")
        return [WebhookRemoved(before.name, before.serial)]
    if refusal := _refusal(state, before, command):
        return refusal
    serial = state.serials.get(command.name, 0) + 1 if before is None else before.serial + command.rotate
    after = Webhook(
        command.name,
        command.url,
        tuple(dict.fromkeys(command.events)),
        command.kind,
        command.queue,
        command.tag,
        command.enabled,
        serial,
    )
    return [] if after == before else [WebhookSaved(after)]


def _refusal(state: Webhooks, before: Webhook | None, command: SaveWebhook) -> Refusal | None:
    if before is not None and command.new:
        return Refusal("conflict", f"there is a webhook {command.name!r} already", "webhook_id")
    if before is None and not command.new:
        return Refusal("not_found", "Webhook not found")
    if before is None and len(state.items) >= MAX_WEBHOOKS:
        return Refusal("conflict", f"a tenant has at most {MAX_WEBHOOKS} webhooks; remove one first")
    if command.name == RESERVED:
        return Refusal("invalid", f"{RESERVED!r} is the name of the tasks' own callbacks", "webhook_id")
    try:
        valid = is_webhook_url(command.url)
    except ValueError:
        valid = False
    if not valid:
        return Refusal("invalid", f"{command.url!r} is not an https URL", "url")
    for place, event in enumerate(command.events):
        if event not in EVENTS:
            return Refusal("invalid", f"{event!r} is not one of {', '.join(EVENTS)}", f"events[{place}]")
    return None


def evolve(state: Webhooks | None, event: WebhookEvent, _recorded: Recorded) -> Webhooks:
    state = state or Webhooks()
    if isinstance(event, WebhookRemoved):
        items = tuple(each for each in state.items if each.name != event.name)
        return structs.replace(state, items=items, serials={**state.serials, event.name: event.serial})
    kept = [event.webhook if each.name == event.webhook.name else each for each in state.items]
    added = [] if state.find(event.webhook.name) else [event.webhook]
    serials = {name: serial for name, serial in state.serials.items() if name != event.webhook.name}
    return structs.replace(state, items=(*kept, *added), serials=serials)
