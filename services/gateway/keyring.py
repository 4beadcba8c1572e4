"""Known API keys and users, looked up in the read tables and remembered for a few seconds.

So a key that another gateway revoked works here for as long as that, and as the read tables are behind. While
PostgreSQL does not answer, nothing can be revoked either: what was known is then good for a minute.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from msgspec import Struct
from psycopg import OperationalError

from services.gateway.problems import Unavailable
from taskloom import telemetry
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.entities.keys import ApiKey
from taskloom.domain.entities.users import User
from taskloom.views.reading import TooSlow

CAPACITY: Final = 10_000
"""Keys and users in memory, unknown ones among them; the one not asked for longest goes first."""

STALE_S: Final = 60.0
NOTE_EVERY_S: Final = 60.0
WRITE_EVERY_S: Final = 5.0

_log = telemetry.get_logger(__name__)


class KeyTable(Protocol):
    """Part of ``readside.Views``."""

    async def key(self, key_hash: str) -> Entity | None: ...

    async def entity(self, kind: str, tenant_id: str, name: str) -> Entity | None: ...

    async def note_key_uses(self, uses: Mapping[tuple[str, str], datetime]) -> None: ...


class _Seen(Struct, frozen=True):
    at: float
    entity: Entity | None


class KeyRing:
    """``fresh_s``: how long a key is believed without a look into the table."""

    def __init__(self, table: KeyTable, *, fresh_s: float) -> None:
        self._table = table
        self._fresh_s = fresh_s
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()
        self._looking: dict[tuple[str, str], asyncio.Task[Entity | None]] = {}
        self._noted: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._uses: dict[tuple[str, str], datetime] = {}

    async def by_hash(self, key_hash: str) -> Entity | None:
        """The key with this SHA-256; None when there is none, or no more.

        Raises:
            Unavailable: it is not known here, and PostgreSQL does not answer.
        """
        return await self._find(("", key_hash), lambda: self._table.key(key_hash))

    async def by_id(self, tenant_id: str, key_id: str) -> Entity | None:
        """As ``by_hash``."""
        return await self._find((tenant_id, key_id), lambda: self._table.entity("key", tenant_id, key_id))

    async def user(self, tenant_id: str, user_id: str) -> User | None:
        """As ``by_hash``; None for one that has no account here."""
        place = (entity_id("user", tenant_id, ""), user_id)
        found = await self._find(place, lambda: self._table.entity("user", tenant_id, user_id))
        return found.value if found is not None and isinstance(found.value, User) else None

    def forget(self, tenant_id: str, key_id: str) -> None:
        """After a change on this gateway: the next use looks."""
        known = [
            place
            for place, seen in self._seen.items()
            if place == (tenant_id, key_id)
            or (seen.entity is not None and seen.entity.entity_id == entity_id("key", tenant_id, key_id))
        ]
        for place in known:
            del self._seen[place]

    def forget_user(self, tenant_id: str, user_id: str) -> None:
        """As ``forget``."""
        self._seen.pop((entity_id("user", tenant_id, ""), user_id), None)

    def note_use(self, tenant_id: str, key_id: str) -> None:
        """Remembers it for the table, once a minute."""
        key, now = (tenant_id, key_id), time.monotonic()
        if now - self._noted.get(key, -NOTE_EVERY_S) < NOTE_EVERY_S:
            return
        self._noted[key] = now
        self._noted.move_to_end(key)
        if len(self._noted) > CAPACITY:
            self._noted.popitem(last=False)
        if len(self._uses) < CAPACITY:  # else: the next use after the next write
            self._uses[key] = datetime.now(UTC)

    async def run(self, stopping: asyncio.Event) -> None:
        """Writes uses until ``stopping``, and then the rest. What fails is written the next time."""
        while not stopping.is_set():
            try:
                async with asyncio.timeout(WRITE_EVERY_S):
                    await stopping.wait()
            except TimeoutError:
                pass
            await self.write_uses()

    async def write_uses(self) -> None:
        uses = dict(self._uses)
        if not uses:
            return
        try:
            await self._table.note_key_uses(uses)
        except (OperationalError, TooSlow) as fault:
            _log.debug("uses of keys not written", reason=str(fault))
            return
        self._uses = {key: at for key, at in self._uses.items() if uses.get(key) != at}

    async def _find(self, place: tuple[str, str], look: Callable[[], Awaitable[Entity | None]]) -> Entity | None:
        seen, now = self._seen.get(place), time.monotonic()
        if seen is not None and now - seen.at < self._fresh_s:
            self._seen.move_to_end(place)
            return seen.entity
        try:
            return await self._looked_up(place, look)
        except (OperationalError, TooSlow) as error:
            if seen is not None and now - seen.at < STALE_S:
                return seen.entity
            raise Unavailable("whose key this is cannot be looked up now: PostgreSQL does not answer") from error

    async def _looked_up(self, place: tuple[str, str], look: Callable[[], Awaitable[Entity | None]]) -> Entity | None:
        """One look for all who ask for the same at once."""
        task = self._looking.get(place)
        if task is None:
            task = asyncio.ensure_future(self._look(place, look))
            self._looking[place] = task
            task.add_done_callback(lambda _: self._looking.pop(place, None))
        return await asyncio.shield(task)

    async def _look(self, place: tuple[str, str], look: Callable[[], Awaitable[Entity | None]]) -> Entity | None:
        began = time.monotonic()
        found = await look()
        self._seen[place] = _Seen(began, found if found is None or isinstance(found.value, ApiKey | User) else None)
        self._seen.move_to_end(place)
        if len(self._seen) > CAPACITY:
            self._seen.popitem(last=False)
        return self._seen[place].entity
