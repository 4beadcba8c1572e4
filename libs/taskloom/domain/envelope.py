"""An event with its envelope: what is stored, published and folded."""

from datetime import datetime

from msgspec import Struct

from taskloom.domain.task.events import TaskEvent


class EventMeta(Struct, frozen=True, omit_defaults=True):
    """Envelope of an event. ``version`` counts the task's events from 1; ``actor`` is the user who wished it.

    ``task_id`` names the stream: that of a task, or of an aggregate that is none (``entities.ids``).
    """

    task_id: str
    version: int
    at: datetime
    tenant_id: str
    command_id: str = ""
    actor: str = ""


class Recorded(Struct, frozen=True):
    """An event as it is stored. ``body`` are the stored bytes, ``digest`` its link of the hash chain.

    In the stream of an entity ``event`` is an ``EntityEvent``; who reads tasks' streams need not know of them.
    """

    meta: EventMeta
    event: TaskEvent
    type: str
    body: bytes
    digest: bytes

    @property
    def task_id(self) -> str:
        return self.meta.task_id

    @property
    def version(self) -> int:
        return self.meta.version
