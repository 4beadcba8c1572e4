"""What an entity's decide needs beside state and command."""

from datetime import datetime

from msgspec import Struct


class Asked(Struct, frozen=True):
    """``name`` is the entity's id without kind and tenant, ``version`` that of its state, 0 when there is none."""

    name: str
    tenant_id: str
    now: datetime
    version: int = 0
    actor: str = ""
