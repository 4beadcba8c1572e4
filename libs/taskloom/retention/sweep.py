"""``Sweep``: walks the read tables from the oldest rows on and takes out what is old, or counts it.

Batches are transactions of a few hundred tasks; between two of them the projection has all its rows. A sweep that is
stopped or killed leaves nothing half done: the next one goes on. One runs at a time, whoever starts it.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import psycopg
from psycopg import Connection, Cursor
from psycopg.errors import DeadlockDetected, LockNotAvailable

from taskloom.domain.scheduling.quotas import day_of
from taskloom.errors import TaskloomError
from taskloom.retention import rows, sql
from taskloom.retention.report import Found
from taskloom.retention.settings import Cutoffs

T = TypeVar("T")

BATCH: Final = 500
"""Tasks of one transaction."""

ROWS: Final = 5_000
"""Sums, or calls, of one transaction."""

TRIES: Final = 5
CONNECT_TIMEOUT_S: Final = 5

# As the projection's connection: every statement walks an index from a few keys. The times are UTC's.
_OPTIONS: Final = (
    "-c statement_timeout=120s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s -c timezone=UTC "
    "-c jit=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off"
)
_FIRST: Final = (datetime(1, 1, 2, tzinfo=UTC), "")


class Busy(TaskloomError):
    """Another sweep is at work on this database; let it end, or stop it."""


class Sweep:
    """One way through the tables. ``apply``: False only counts. ``progress`` is called after each batch; ``stopping``
    is asked before each. A pause between batches, as long as ``rest`` times the batch took, leaves room for others."""

    def __init__(
        self,
        dsn: str,
        cutoffs: Cutoffs,
        *,
        apply: bool,
        tenant_id: str = "",
        progress: Callable[[Found], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
        rest: float = 0.0,
    ) -> None:
        self._dsn, self._cutoffs, self._apply, self._tenant_id = dsn, cutoffs, apply, tenant_id
        self._progress, self._stopping, self._rest = progress, stopping, rest
        self._found = Found()

    def run(self) -> Found:
        """What went, or would go.

        Raises:
            Busy: another one is at work.
            psycopg.OperationalError: PostgreSQL went away; what was committed stays.
        """
        with psycopg.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="taskloom.retention",
            options=_OPTIONS,
        ) as self._connection:
            if not self._apply:
                self._walk()
                return self._found
            if self._all(sql.LOCK) != [(True,)]:
                raise Busy
            self._walk()
            self._all(sql.UNLOCK)  # at once: the server notices the end of a connection a little later
        return self._found

    def _walk(self) -> None:
        for tenant_id in [self._tenant_id] if self._tenant_id else self._tenants():
            self._traces_of(tenant_id)
            self._output_of(tenant_id)
            self._tasks_of(tenant_id)
        if not self._tenant_id:
            self._sums()

    def _tenants(self) -> list[str]:
        return [tenant_id for (tenant_id,) in self._all(sql.TENANTS)]

    # Tasks.

    def _tasks_of(self, tenant_id: str) -> None:
        completed, failed = self._cutoffs.completed, self._cutoffs.failed
        if completed is None and failed is None:
            return
        for ids in self._pages(sql.OLD, {"tenant": tenant_id, "completed": completed, "failed": failed}):
            families = dict(self._all(sql.FAMILIES, {"tasks": ids}))
            busy = {run_id for run_id, is_busy in families.items() if is_busy}
            self._found.held_back += len(busy)
            for steps in self._steps_of([run_id for run_id in families if run_id not in busy]):
                self._retire(tenant_id, steps, [])
            runs = [task_id for task_id in ids if task_id not in busy]
            self._retire(tenant_id, runs, runs)

    def _steps_of(self, runs: list[str]) -> Iterator[list[str]]:
        """The tasks of the runs' steps, some at a time."""
        gathered: list[str] = []
        for run_id in runs:
            after = f"{run_id}~"
            while found := self._all(sql.STEPS_OF, {"run": run_id, "after": after, "limit": BATCH}):
                gathered += [task_id for (task_id,) in found]
                after = gathered[-1]
                if len(gathered) >= BATCH:
                    yield gathered
                    gathered = []
        if gathered:
            yield gathered

    def _retire(self, tenant_id: str, ids: list[str], runs: list[str]) -> None:
        if not ids or self._stopping():
            return
        if not self._apply:
            parts = (self._cutoffs.output, self._cutoffs.traces)
            self._batch(lambda cursor, found: rows.look(cursor, tenant_id, ids, found, *parts))
            return
        self._take_output(tenant_id, ids)
        went = self._batch(lambda cursor, found: rows.take(cursor, tenant_id, ids, runs, found))
        self._found.held_back += len(ids) - went if runs else 0

    # Parts of tasks.

    def _output_of(self, tenant_id: str) -> None:
        if (before := self._cutoffs.output) is None:
            return
        for ids in self._pages(sql.OLD_OUTPUT, {"tenant": tenant_id, "before": before}):
            if self._apply:
                self._take_output(tenant_id, ids)
            else:
                self._batch(self._looker(tenant_id, ids))

    def _looker(self, tenant_id: str, ids: list[str]) -> Callable[[Cursor[Any], Found], None]:
        return lambda cursor, found: rows.look_at_output(cursor, tenant_id, ids, found)

    def _take_output(self, tenant_id: str, ids: list[str]) -> None:
        while not self._stopping() and self._batch(
            lambda cursor, found: rows.take_output(cursor, tenant_id, ids, found)
        ):
            continue

    def _traces_of(self, tenant_id: str) -> None:
        if (before := self._cutoffs.traces) is None:
            return
        statement = sql.TAKE_TRACES if self._apply else sql.count_of_tasks("goal_traces")
        for ids in self._pages(sql.OLD_TRACES, {"tenant": tenant_id, "before": before}):
            [(number,)] = self._tried(lambda ids=ids: self._all(statement, {"tasks": ids}))  # type: ignore[misc]
            self._found.add(tenant_id, "traces", number)
            self._progress(self._found)

    # Sums and calls, of all tenants at once.

    def _sums(self) -> None:
        usage, metrics = self._cutoffs.usage, self._cutoffs.metrics
        if usage is not None:
            self._grouped("usage", sql.COUNT_USAGE, sql.TAKE_USAGE, {"before": day_of(usage)})
        if metrics is not None:
            hour = {"before": metrics.replace(minute=0, second=0, microsecond=0)}
            if self._apply:
                self._all(sql.KEEP_HOURS, hour)
            self._grouped("metrics", sql.COUNT_METRICS, sql.TAKE_METRICS, hour)
        if (audit := self._cutoffs.audit) is not None:
            self._grouped("audit", sql.COUNT_AUDIT, sql.TAKE_AUDIT, {"before": audit})

    def _grouped(self, kind: str, counting: str, taking: str, values: dict[str, Any]) -> None:
        statement = taking if self._apply else counting
        while not self._stopping():
            began = time.monotonic()
            found = self._tried(lambda: self._all(statement, {**values, "limit": ROWS}))
            for tenant_id, number in found:
                self._found.add(tenant_id, kind, number)
            self._progress(self._found)
            if not (self._apply and found):
                return
            self._pause(began)

    # How.

    def _pages(self, statement: str, values: dict[str, Any]) -> Iterator[list[str]]:
        """Ids of old tasks, oldest first. What stays is passed by once."""
        after = _FIRST
        while not self._stopping():
            place = {"after_at": after[0], "after_id": after[1], "limit": BATCH}
            found = self._all(statement, {**values, **place})
            if not found:
                return
            yield [task_id for _, task_id in found]
            after = found[-1]

    def _batch(self, work: Callable[[Cursor[Any], Found], T]) -> T:
        """One transaction. What it found counts once it is committed."""
        began = time.monotonic()

        def committed() -> tuple[T, Found]:
            batch = Found()
            with self._connection.transaction(), self._connection.cursor(binary=True) as cursor:
                return work(cursor, batch), batch

        result, batch = self._tried(committed)
        for (tenant_id, kind), count in batch.counts.items():
            self._found.add(tenant_id, kind, count.rows, count.bytes)
        self._progress(self._found)
        self._pause(began)
        return result

    def _pause(self, began: float) -> None:
        if self._apply and self._rest:
            time.sleep(min(1.0, (time.monotonic() - began) * self._rest))

    def _tried(self, work: Callable[[], T]) -> T:
        """Whoever has to give way to the projection tries again."""
        for _ in range(TRIES - 1):
            try:
                return work()
            except (DeadlockDetected, LockNotAvailable):
                continue
        return work()

    _connection: Connection[tuple[Any, ...]]

    def _all(self, statement: str, values: dict[str, Any] | None = None) -> list[Any]:
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []
