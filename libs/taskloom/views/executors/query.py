"""Reads of executors: who is there, what they run, how busy they are. Executors serve all tenants, agents their own."""

from datetime import UTC, datetime
from typing import Any, Final, Literal, LiteralString

import msgspec
from msgspec import Struct

from taskloom.views.reading import Pool, row, rows
from taskloom.wire.messages import ExecutorHeartbeat

LOST_AFTER_S: Final = 20.0
"""An executor that was not heard for this long holds no lease any more."""

KINDS_OF_LAST_S: Final = 3_600.0
"""Kinds count as known this long after the last heartbeat: a restart of the executors refuses no submissions."""

LIST: Final[LiteralString] = "SELECT heartbeat, now() FROM executors ORDER BY executor_id LIMIT %(limit)s"
GET: Final[LiteralString] = "SELECT heartbeat, now() FROM executors WHERE executor_id = %(executor)s"
KINDS: Final[LiteralString] = """
SELECT DISTINCT json_array_elements_text(heartbeat -> 'kinds') FROM executors
WHERE heard_at > now() - make_interval(secs => %(within_s)s)
"""

MAX_LISTED: Final = 10_000


class Executor(Struct, frozen=True):
    """``status``: ready, draining, stopped as it last said itself, or lost when it was not heard for too long."""

    heartbeat: ExecutorHeartbeat
    status: Literal["ready", "draining", "stopped", "lost"]
    seconds_since_heard: float

    @property
    def executor_id(self) -> str:
        return self.heartbeat.executor_id

    def serves(self, tenant_id: str | None) -> bool:
        """Whether it runs tasks of the tenant; None: of anybody."""
        return tenant_id is None or self.heartbeat.tenant_id in ("", tenant_id)

    @property
    def load(self) -> float:
        """Attempts it holds by the slots it has: 1.0 is full, more is waiting in the executor."""
        return len(self.heartbeat.live) / max(1, self.heartbeat.slots)


async def list_executors(pool: Pool) -> list[Executor]:
    """All that ever registered, by id; at most 10,000."""
    return [_executor(*columns) for columns in await rows(pool, LIST, {"limit": MAX_LISTED})]


async def get(pool: Pool, executor_id: str) -> Executor | None:
    found = await row(pool, GET, {"executor": executor_id})
    return None if found is None else _executor(*found)


async def known_kinds(pool: Pool, within_s: float = KINDS_OF_LAST_S) -> set[str]:
    """Kinds that executors announced; those of executors heard within the last ``within_s``."""
    return {kind for (kind,) in await rows(pool, KINDS, {"within_s": within_s})}


def _executor(heartbeat: Any, now: datetime) -> Executor:
    beat = msgspec.convert(heartbeat, ExecutorHeartbeat)
    silence_s = max(0.0, (now.astimezone(UTC) - beat.at).total_seconds())
    lost = beat.status != "stopped" and silence_s > LOST_AFTER_S
    return Executor(beat, "lost" if lost else beat.status, silence_s)
