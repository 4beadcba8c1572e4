"""Who wishes a command: what decide needs of its envelope."""

from msgspec import Struct

from taskloom.domain.values import Webhook
from taskloom.domain.workflow.means import USUAL, Means


class Caller(Struct, frozen=True):
    """Who wishes it: from the command's envelope. ``command_id`` makes a repeat recognisable.

    ``key_id``: of the API key that it came with. ``webhooks`` are the tenant's. ``means`` is what a decision on a
    workflow's run may use in this round.
    """

    task_id: str
    tenant_id: str
    command_id: str = ""
    actor: str = ""
    correlation_id: str = ""
    traceparent: str = ""
    means: Means = USUAL
    webhooks: tuple[Webhook, ...] = ()
    key_id: str = ""
