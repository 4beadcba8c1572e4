"""The readers' side of the event store: gateway, command line and verify. Async, on few connections."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from psycopg import OperationalError, ProgrammingError

from taskloom.domain.envelope import Recorded
from taskloom.store import sql
from taskloom.store.connect import Pool, Row, reader_pool
from taskloom.store.errors import StoreError, StoreUnavailable, check_layout
from taskloom.store.mapper import recorded_mapper
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import partition_of, shard_of

STATEMENT_TIMEOUT_S: Final = 60.0
_NO_LIMIT: Final = 2**62


class ShardCounts(Struct, frozen=True):
    """What one shard holds; counted, so its cost grows with the table. ``position`` is that of the newest event."""

    shard: int
    events: int
    tasks: int
    position: int


class StoreCounts(Struct, frozen=True):
    shards: tuple[ShardCounts, ...]
    open_tasks: int
    claims: int


class HistoryReader:
    """Reads stored events. Several DSNs: shard ``n`` is on server ``n`` modulo their number.

    Every method raises ``StoreUnavailable`` when no connection came free within 5 s or the database went away.
    """

    def __init__(
        self, dsn: str | Sequence[str], *, partitions: int = 8, shards: int = 2, max_connections: int = 4
    ) -> None:
        dsns = [dsn] if isinstance(dsn, str) else list(dsn)
        self._partitions = partitions
        self._shards = shards
        mapper = recorded_mapper()
        self._unpack = mapper.unpack
        self._is_plain = mapper.compressor is None and mapper.cipher is None
        self._sql = [sql.shard_sql(shard) for shard in range(shards)]
        self._pools: list[Pool] = [
            reader_pool(
                one, application="taskloom-history", max_size=max_connections, statement_timeout_s=STATEMENT_TIMEOUT_S
            )
            for one in dsns
        ]

    async def open(self, *, timeout_s: float = 30.0) -> None:
        """Connects.

        Raises:
            LayoutMismatch: the data was written with other numbers of partitions or shards.
            StoreError: the database has no tables of ours: ``taskloom migrate`` was not run.
            StoreUnavailable: the database did not answer within ``timeout_s``.
        """
        try:
            for pool in self._pools:
                await pool.open(wait=True, timeout=timeout_s)
        except OperationalError as error:
            await self.close()
            raise StoreUnavailable(f"the event store did not answer within {timeout_s:g} s: {error}") from error
        try:
            for place in range(len(self._pools)):
                for layout in await self._select(place, sql.SELECT_LAYOUT):
                    check_layout(layout, self._partitions, self._shards)
        except ProgrammingError as error:
            await self.close()
            raise StoreError(f"the event store cannot be read: run `taskloom migrate`; {error}") from error
        except StoreError:
            await self.close()
            raise

    async def close(self) -> None:
        for pool in self._pools:
            await pool.close()

    async def __aenter__(self) -> "HistoryReader":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]:
        """The task's events of version ``after + 1`` to ``up_to``, in order, at most ``limit``.

        Raises:
            WireError: a stored event cannot be read.
        """
        return [unseal(body) for body in await self.bodies(task_id, after, limit, up_to)]

    async def bodies(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[bytes]:
        """As ``events``, but the bytes as stored: what ``wire.recorded.chain_fault`` checks."""
        shard = shard_of(partition_of(task_id, self._partitions), self._shards)
        rows = await self._select(
            shard, self._sql[shard].select_events, (task_id, after, _or_all(up_to), _or_all(limit))
        )
        return [self._unpack(state) for (state,) in rows]

    async def snapshot(self, task_id: str) -> tuple[int, bytes] | None:
        """Version and bytes of the newest snapshot of a task, if there is one."""
        shard = shard_of(partition_of(task_id, self._partitions), self._shards)
        rows = await self._select(shard, self._sql[shard].select_snapshots, ([task_id],))
        return (rows[0][1], self._unpack(rows[0][2])) if rows else None

    @property
    def shards(self) -> int:
        return self._shards

    async def log_end(self, shard: int) -> int:
        """Position of the shard's newest event, 0 when there is none. None will be added below it."""
        [(position,)] = await self._select(shard, self._sql[shard].max_position)
        return int(position)

    async def log(
        self, shard: int, after: int, up_to: int | None = None, *, limit: int, holding: bytes = b""
    ) -> list[tuple[int, bytes]]:
        """Position and stored bytes of the shard's events behind ``after``, in their order.

        ``holding``: events without these bytes may be left out, and are as far as the store can look into them.
        """
        wanted = holding if self._is_plain else b""
        rows = await self._select(shard, self._sql[shard].select_log_part, (after, _or_all(up_to), wanted, limit))
        return [(position, self._unpack(state)) for position, state in rows]

    async def firsts(self, task_ids: Sequence[str]) -> list[Recorded]:
        """The first event of each of the tasks that there are, in no order."""
        by_shard: dict[int, list[str]] = {}
        for task_id in task_ids:
            by_shard.setdefault(shard_of(partition_of(task_id, self._partitions), self._shards), []).append(task_id)
        found = [await self._select(shard, self._sql[shard].select_first, (ids,)) for shard, ids in by_shard.items()]
        return [unseal(self._unpack(state)) for rows in found for (state,) in rows]

    async def streams(self, shard: int, after_task_id: str = "", limit: int = 1000) -> list[str]:
        """Task ids of a shard above ``after_task_id``, in the order of their bytes; ask again with the last one."""
        rows = await self._select(shard, self._sql[shard].select_streams, (after_task_id, limit))
        return [task_id for (task_id,) in rows]

    async def page(
        self, shard: int, after: tuple[str, int] = ("", 0), limit: int = 2000
    ) -> list[tuple[str, int, bytes]]:
        """Task id, version and stored bytes of a shard's events, stream by stream; ask again after the last one's."""
        rows = await self._select(shard, self._sql[shard].select_page, (*after, limit))
        return [(task_id, version, self._unpack(state)) for task_id, version, state in rows]

    async def counts(self) -> StoreCounts:
        shards = []
        for shard, statements in enumerate(self._sql):
            [(events, tasks, position)] = await self._select(shard, statements.count_events)
            shards.append(ShardCounts(shard, events, tasks, position))
        rest = [(await self._select(place, sql.COUNT_REST))[0] for place in range(len(self._pools))]
        return StoreCounts(tuple(shards), open_tasks=sum(row[0] for row in rest), claims=sum(row[1] for row in rest))

    async def _select(self, shard: int, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        try:
            async with self._pools[shard % len(self._pools)].connection() as connection:
                cursor = connection.cursor(binary=True)
                await cursor.execute(query, parameters, prepare=True)
                return await cursor.fetchall()
        except OperationalError as error:
            raise StoreUnavailable(f"the event store cannot be read now: {error}") from error


def _or_all(number: int | None) -> int:
    return _NO_LIMIT if number is None else number
