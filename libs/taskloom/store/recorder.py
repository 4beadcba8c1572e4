"""The recorder of `eventsourcing` for one shard: one plain transaction a put.

Not the library's own insert, for what was measured with 9.5.6: its pipeline mode hangs for good on one put of about
1,500 events; its NOTIFY takes a lock of the whole cluster at each commit; its composite-type parameter is three times
as slow as four binary arrays; and its retry reports a conflict for events that it has stored itself (see ``shard.py``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.rows import TupleRow, tuple_row

from taskloom.domain.scheduling.leases import Limit, Occupied, Taken, Wish
from taskloom.store import sql
from taskloom.store.batch import Batch
from taskloom.store.connect import Row
from taskloom.store.errors import Fenced, VersionConflict
from taskloom.store.leases import end_leases, look_at_leases, settle_leases, take_leases
from taskloom.tenant_limits import FOLLOW
from taskloom.wire.topics import partition_of

Cursor = psycopg.Cursor[TupleRow]


class ShardRecorder(PostgresApplicationRecorder):
    """Writes a batch: offsets, claims, open rows, snapshots, then the log's lock and the events.

    The order is also the order of locks, the same in every put, so two writers wait for each other and never in a ring;
    and the log's lock is held for the insert and the commit alone.
    """

    def __init__(self, datastore: PostgresDatastore, *, events_table_name: str = "events_0") -> None:
        super().__init__(datastore, events_table_name=events_table_name)
        self.shard = int(events_table_name.removeprefix("events_"))
        self.sql = sql.shard_sql(self.shard)
        self.partitions = 1

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        """Positions of the events, in their order.

        Raises:
            Fenced: a move's epoch or offset is not the stored one. Nothing is stored.
            VersionConflict: an event's version is already there. Nothing is stored.
            eventsourcing.persistence.PersistenceError: PostgreSQL or the connection failed; what is stored is unknown.
        """
        try:
            with self.datastore.get_connection() as connection, connection.transaction():
                cursor = connection.cursor(row_factory=tuple_row)
                self._insert_events(cursor, stored_events, **kwargs)
                return self._insert_log(cursor, stored_events)
        except IntegrityError as error:
            if isinstance(error.__cause__, psycopg.errors.UniqueViolation):
                raise VersionConflict(self._conflicting(stored_events)) from error
            raise

    def _insert_events(  # type: ignore[override]
        self, curs: Cursor, stored_events: Sequence[StoredEvent], *, batch: Batch | None = None, **_: Any
    ) -> None:
        if batch is None:
            return
        self._move_offsets(curs, batch)
        self._insert_claims(curs, batch)
        self._write_open_rows(curs, batch)
        self._upsert_snapshots(curs, batch)
        self._add_uses(curs, batch)
        if batch.ended:
            end_leases(curs, batch.ended)
        self._put_limits(curs, batch)

    def _insert_log(self, cursor: Cursor, stored_events: Sequence[StoredEvent]) -> list[int]:
        if not stored_events:
            return []
        # Commit order must be the order of positions: without the lock, a reader at the end of the log passes over
        # positions that a slower transaction has drawn and not yet committed (see the library's _lock_table).
        cursor.execute(self.sql.lock_events, prepare=True)
        cursor.execute(
            self.sql.insert_events,
            (
                [event.originator_id for event in stored_events],
                [event.originator_version for event in stored_events],
                [event.topic for event in stored_events],
                [event.state for event in stored_events],
            ),
            prepare=True,
        )
        return [position for (position,) in cursor.fetchall()]

    def _move_offsets(self, cursor: Cursor, batch: Batch) -> None:
        if not batch.moves:
            return
        moves = sorted(batch.moves, key=lambda move: move.partition)
        columns = ("partition", "epoch", "expected", "next_offset", "published")
        cursor.execute(sql.MOVE_OFFSETS, [[getattr(m, name) for m in moves] for name in columns], prepare=True)
        moved = {partition for (partition,) in cursor.fetchall()}
        for move in moves:
            if move.partition not in moved:
                raise Fenced(move.partition)

    def _insert_claims(self, cursor: Cursor, batch: Batch) -> None:
        if batch.claims:
            claims = dict(batch.claims)
            digests = sorted(claims)
            cursor.execute(sql.INSERT_CLAIMS, (digests, [claims[digest] for digest in digests]), prepare=True)

    def _write_open_rows(self, cursor: Cursor, batch: Batch) -> None:
        closed = set(batch.closed)
        rows = {row.task_id: row for row in batch.open if row.task_id not in closed}
        if rows:
            values = sorted(rows.values())
            cursor.execute(
                sql.UPSERT_OPEN,
                ([r.partition for r in values], [r.task_id for r in values], [r.due_at for r in values]),
                prepare=True,
            )
        if closed:
            ids = sorted(closed)
            cursor.execute(sql.DELETE_OPEN, ([partition_of(i, self.partitions) for i in ids], ids), prepare=True)

    def _upsert_snapshots(self, cursor: Cursor, batch: Batch) -> None:
        newest = {row.task_id: row for row in sorted(batch.snapshots)}
        if newest:
            rows = list(newest.values())
            cursor.execute(
                self.sql.upsert_snapshots,
                ([r.task_id for r in rows], [r.version for r in rows], [r.state for r in rows]),
                prepare=True,
            )

    def _add_uses(self, cursor: Cursor, batch: Batch) -> None:
        if batch.uses:
            columns = [list(column) for column in zip(*sorted(batch.uses), strict=True)]
            cursor.execute(sql.ADD_USES, (self.shard, *columns), prepare=True)

    def _put_limits(self, cursor: Cursor, batch: Batch) -> None:
        if batch.limits:
            columns = [
                list(column) for column in zip(*sorted(batch.limits, key=lambda row: row.tenant_id), strict=True)
            ]
            cursor.execute(sql.PUT_LIMITS, columns, prepare=True)

    def _conflicting(self, stored_events: Sequence[StoredEvent]) -> list[str]:
        """Tasks whose events are stored already, or stand twice in the batch."""
        keys = Counter((str(event.originator_id), event.originator_version) for event in stored_events)
        twice = {task_id for (task_id, _), count in keys.items() if count > 1}
        stored = {str(stored_events[place - 1].originator_id) for place, _, _ in self.select_stored(stored_events)}
        return sorted(twice | stored)

    def select_stored(self, stored_events: Sequence[StoredEvent]) -> list[Row]:
        """Place in ``stored_events`` (from 1), position and stored bytes of those whose version is in the store."""
        ids = [event.originator_id for event in stored_events]
        return self.select(self.sql.select_stored, (ids, [event.originator_version for event in stored_events]))

    def select_offsets(self, partitions: Sequence[int]) -> list[Row]:
        """Partition, epoch and next offset."""
        return self.select(sql.SELECT_OFFSETS, (list(partitions),))

    def select_uses(self, tenants: Sequence[str], sessions: Sequence[str], periods: Sequence[str]) -> list[Row]:
        """Tenant, session, period, tokens and money, added up over all shards."""
        return self.select(sql.SELECT_USES, (list(tenants), list(sessions), list(periods)))

    def select_limits(self, since: str) -> list[Row]:
        """What ``tenant_limits.FOLLOW`` says."""
        return self.select(FOLLOW, (since,))

    def layout(self, partitions: int, shards: int) -> Row:
        """Partitions and shards that the data was written with; these, when nothing was written yet."""
        with self.datastore.get_connection() as connection:
            connection.execute(sql.INSERT_LAYOUT, (partitions, shards))
        return self.select(sql.SELECT_LAYOUT)[0]

    def take_over(self, partition: int) -> list[Row]:
        """Epoch, next offset and published position of the partition, the epoch being a new one."""
        return self.select(self.sql.take_over, (partition,))

    def mark_published(self, marks: Sequence[tuple[int, int, int]]) -> None:
        with self.datastore.get_connection() as connection:
            connection.execute(sql.MARK_PUBLISHED, [list(column) for column in zip(*marks, strict=True)], prepare=True)

    def take_leases(self, instance: str, epochs: Mapping[int, int], wishes: Sequence[Wish]) -> Taken:
        with self.datastore.get_connection() as connection, connection.transaction():
            return take_leases(connection.cursor(row_factory=tuple_row, binary=True), instance, epochs, wishes)

    def look_at_leases(
        self, instance: str, limits: Sequence[Limit], gone: Sequence[Limit], waits: bool
    ) -> dict[Limit, Occupied]:
        with self.datastore.get_connection() as connection:
            cursor = connection.cursor(row_factory=tuple_row, binary=True)
            return look_at_leases(cursor, instance, limits, gone, waits)

    def settle_leases(self, partition: int, epoch: int, held: Sequence[Wish]) -> bool:
        with self.datastore.get_connection() as connection, connection.transaction():
            return settle_leases(connection.cursor(row_factory=tuple_row, binary=True), partition, epoch, held)

    def select(self, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows of a query, values as binary."""
        with self.datastore.get_connection() as connection:
            cursor = connection.cursor(row_factory=tuple_row, binary=True)
            return cursor.execute(query, parameters, prepare=True).fetchall()
