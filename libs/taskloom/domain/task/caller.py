"""Who wishes a command: what decide needs of its envelope."""

from msgspec import Struct


class Caller(Struct, frozen=True):
    """Who wishes it: from the command's envelope. ``command_id`` makes a repeat recognisable."""

    task_id: str
    tenant_id: str
    command_id: str = ""
    actor: str = ""
    correlation_id: str = ""
    traceparent: str = ""
