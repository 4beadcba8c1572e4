"""The writer's side of one shard: take a partition over, load its tasks, store batches, read the log.

For one thread (the shard's writer); reads may come from others, as far as the pool's three connections go.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import structlog
from eventsourcing.persistence import InterfaceError, InternalError, OperationalError, PersistenceError

from taskloom.domain.envelope import Recorded
from taskloom.domain.scheduling.leases import Limit, Occupied, Taken, Wish
from taskloom.domain.scheduling.quotas import Scope, Use
from taskloom.store import sql
from taskloom.store.application import ShardApplication
from taskloom.store.batch import Batch, History, OpenTask, Ownership
from taskloom.store.connect import wait_for_database, where
from taskloom.store.errors import Fenced, LayoutMismatch, StoreError, StoreUnavailable, VersionConflict, check_layout
from taskloom.wire.claims import is_digest
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import shard_of

OUTAGE_S: Final = 30.0
_PAUSES_S: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
_PASSING = (InterfaceError, OperationalError, InternalError)

T = TypeVar("T")
log = structlog.get_logger(__name__)


class ShardStore:
    """One shard of the event store.

    Every call repeats what a lost connection, a restarted server or a lock not given in time broke off, for at most
    ``outage_s``, then raises ``StoreUnavailable``. Other failures of PostgreSQL come out as ``StoreError``.
    """

    def __init__(self, dsn: str, shard: int, *, partitions: int, shards: int, outage_s: float = OUTAGE_S) -> None:
        if not 0 <= shard < shards:
            raise ValueError(f"shard must be 0 to {shards - 1}, not {shard}")
        self.shard = shard
        self._dsn = dsn
        self._partitions = partitions
        self._shards = shards
        self._outage_s = outage_s
        self._closing = threading.Event()
        self._current: ShardApplication | None = None
        self._connecting = threading.Lock()

    def open(self, *, timeout_s: float = 30.0) -> None:
        """Connects, trying again for ``timeout_s`` seconds.

        Raises:
            StoreUnavailable: the database did not answer in time.
            LayoutMismatch: its data was written with other numbers of partitions or shards.
            StoreError: it answers, but has no tables for this shard: ``taskloom migrate`` was not run.
        """
        self._closing.clear()
        wait_for_database(self._dsn, timeout_s=timeout_s, pause=self._closing.wait)
        try:
            self.max_position()
            stored = self._read(lambda app: app.rows.layout(self._partitions, self._shards))
            check_layout(stored, self._partitions, self._shards)
        except (StoreUnavailable, LayoutMismatch):
            self.close()
            raise
        except StoreError as error:
            self.close()
            raise StoreError(
                f"shard {self.shard} of {where(self._dsn)} cannot be read: run `taskloom migrate`; {error}"
            ) from error

    def close(self) -> None:
        """Ends the connections; a call that waits for the database to come back gives up."""
        self._closing.set()
        self._drop(self._current)

    def take_over(self, partition: int) -> Ownership:
        """Makes the caller the partition's owner: no earlier owner's put succeeds once this returns."""
        self._check_partition(partition)
        [(epoch, next_offset, published)] = self._read(lambda app: app.rows.take_over(partition))
        return Ownership(partition, epoch, next_offset, published)

    def put(self, batch: Batch) -> list[int]:
        """Stores the batch in one transaction, all of it or nothing. Returns the events' positions, in their order.

        When the connection breaks and it cannot be known whether the commit was reached, the store is asked: a batch
        that is there is a success, and is neither stored twice nor reported as a conflict with itself.

        Raises:
            Fenced: a partition of ``moves`` has another owner or another offset. Nothing is stored.
            VersionConflict: an event of that task and version exists. Nothing is stored.
            StoreUnavailable: the database stayed away. Whether the batch is stored is unknown: take over anew.
        """
        return self._through_outages(lambda app, repeated: _put_once(app, batch, repeated=repeated))

    def load(self, task_ids: Sequence[str]) -> dict[str, History]:
        """Newest snapshot and the events after it, by task id; ids without events are absent. Two queries for all.

        Raises:
            WireError: a stored event cannot be read.
        """
        return self._read(lambda app: _load(app, list(dict.fromkeys(task_ids))))

    def uses(self, scopes: Sequence[Scope], periods: Sequence[str]) -> list[Use]:
        """What the scopes used in these periods, over all shards; what used nothing is absent."""
        tenants, sessions = [s.tenant_id for s in scopes], [s.session_id for s in scopes]
        return [Use(*row) for row in self._read(lambda app: app.rows.select_uses(tenants, sessions, periods))]

    def take_leases(self, instance: str, epochs: Mapping[int, int], wishes: Sequence[Wish]) -> Taken:
        """Grants places of limits, in the order of the wishes, those of a task all or none; see ``leases.py``.

        ``instance``: the asking orchestrator's name; ``epochs``: by partition, those of its ownership.
        """
        return self._read(lambda app: app.rows.take_leases(instance, epochs, wishes))

    def look_at_leases(
        self, instance: str, limits: Sequence[Limit], gone: Sequence[Limit] = (), *, waits: bool = False
    ) -> dict[Limit, Occupied]:
        """How limits stand, for an orchestrator that waits for them. ``gone``: what it waits for no longer; ``waits``:
        it is to be noted that it still does for the others, which is forgotten after 2 s."""
        return self._read(lambda app: app.rows.look_at_leases(instance, limits, gone, waits))

    def settle_leases(self, partition: int, epoch: int, held: Sequence[Wish]) -> bool:
        """At a take-over: leases of the partition that no live attempt holds end, those that are missing are added.
        False when the partition has another owner by now; then nothing was changed."""
        return self._read(lambda app: app.rows.settle_leases(partition, epoch, held))

    def limits(self, since: str) -> list[tuple[str, str | None, bytes | None]]:
        """What was written into the tenants' limits since then (``taskloom.tenant_limits``), over all shards."""
        return [(row[0], row[1], row[2]) for row in self._read(lambda app: app.rows.select_limits(since))]

    def body(self, task_id: str, version: int) -> bytes:
        """The stored bytes of one event.

        Raises:
            LookupError: there is none of that version.
        """
        rows = self._read(lambda app: app.rows.select(app.rows.sql.select_events, (task_id, version - 1, version, 1)))
        if not rows:
            raise LookupError(f"{task_id} has no event {version}")
        return self._application().codec.unpack(rows[0][0])

    def events(self, task_id: str, up_to: int, limit: int) -> list[Recorded]:
        """The task's events from the first to version ``up_to``, at most ``limit``; none when there is no such task.

        Raises:
            WireError: a stored event cannot be read.
        """
        rows = self._read(lambda app: app.rows.select(app.rows.sql.select_events, (task_id, 0, up_to, limit)))
        unpack = self._application().codec.unpack
        return [unseal(unpack(state)) for (state,) in rows]

    def open_tasks(self, partition: int) -> list[OpenTask]:
        """The partition's tasks that have not ended, by task id."""
        self._check_partition(partition)
        return [OpenTask(*row) for row in self._read(lambda app: app.rows.select(sql.SELECT_OPEN, (partition,)))]

    def log(self, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Positions above ``after`` with their events' bytes, of all the shard's partitions, in commit order."""
        rows = self._read(lambda app: app.rows.select(app.rows.sql.select_log, (after, limit)))
        unpack = self._application().codec.unpack
        return [(position, unpack(state)) for position, state in rows]

    def max_position(self) -> int:
        """Position of the newest event, 0 when there is none."""
        [(position,)] = self._read(lambda app: app.rows.select(app.rows.sql.max_position))
        return int(position)

    def claims(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Stored large values by their SHA-256 in hex; what is not stored here is absent."""
        wanted = [bytes.fromhex(digest) for digest in digests if is_digest(digest)]
        rows = self._read(lambda app: app.rows.select(sql.SELECT_CLAIMS, (wanted,)))
        unpack = self._application().codec.unpack
        return {digest.hex(): unpack(value) for digest, value in rows}

    def mark_published(self, marks: Sequence[tuple[int, int, int]]) -> None:
        """Stores ``(partition, epoch, position)``: the partition's events up to there are on the topic.

        A mark of an earlier owner, or one behind the stored one, changes nothing: what is published stays published.
        """
        if marks:
            self._read(lambda app: app.rows.mark_published(sorted(marks)))

    def _check_partition(self, partition: int) -> None:
        if not 0 <= partition < self._partitions or shard_of(partition, self._shards) != self.shard:
            raise ValueError(f"partition {partition} does not belong to shard {self.shard} of {self._shards}")

    def _read(self, query: Callable[[ShardApplication], T]) -> T:
        return self._through_outages(lambda app, _: query(app))

    def _through_outages(self, operation: Callable[[ShardApplication, bool], T]) -> T:
        deadline = time.monotonic() + self._outage_s
        failures = 0
        while True:
            application: ShardApplication | None = None
            try:
                application = self._application()
                return operation(application, failures > 0)
            except _PASSING as error:
                self._drop(application)
                if self._closing.is_set() or time.monotonic() >= deadline:
                    raise StoreUnavailable(f"{where(self._dsn)} failed for {self._outage_s:g} s: {error}") from error
                log.warning("store_retries", shard=self.shard, failures=failures + 1, error=str(error).strip())
                self._closing.wait(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                failures += 1
                wait_for_database(self._dsn, timeout_s=max(deadline - time.monotonic(), 0.0), pause=self._closing.wait)
            except PersistenceError as error:
                raise StoreError(f"PostgreSQL refused a query of shard {self.shard}: {error}") from error

    def _application(self) -> ShardApplication:
        with self._connecting:
            if self._closing.is_set():
                raise StoreUnavailable("the store is closed")
            if self._current is None:
                self._current = ShardApplication(self._dsn, self.shard, partitions=self._partitions)
            return self._current

    def _drop(self, application: ShardApplication | None) -> None:
        """A new application has a new pool. The old pool would wait longer with each failed try, up to minutes."""
        with self._connecting:
            if application is not None and application is self._current:
                self._current = None
                application.close()


def _put_once(application: ShardApplication, batch: Batch, *, repeated: bool) -> list[int]:
    # A broken-off commit may still be under way on the server: then the first look finds nothing, our repetition waits
    # for its locks, and what looks like another owner or a conflict is ourselves. So the store is asked again after it.
    if repeated and (positions := application.stored(batch)) is not None:
        return positions
    try:
        return application.put(batch)
    except (Fenced, VersionConflict):
        if repeated and (positions := application.stored(batch)) is not None:
            return positions
        raise


def _load(application: ShardApplication, task_ids: list[str]) -> dict[str, History]:
    rows, unpack = application.rows, application.codec.unpack
    found = {
        task_id: History(task_id, unpack(state), version)
        for task_id, version, state in rows.select(rows.sql.select_snapshots, (task_ids,))
    }
    after = [found[task_id].version if task_id in found else 0 for task_id in task_ids]
    for task_id, state in rows.select(rows.sql.select_histories, (task_ids, after)):
        found.setdefault(task_id, History(task_id)).events.append(unseal(unpack(state)))
    return found
