"""What the store does when connections break, servers restart and writers meet."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from taskloom.store.batch import Batch, OffsetMove
from taskloom.store.errors import Fenced, StoreUnavailable, VersionConflict
from taskloom.store.shard import ShardStore
from tests.integration.store.histories import PARTITIONS, history, task_on

pytestmark = pytest.mark.integration

TASK = task_on(0)
LOCKED_WRITER = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'taskloom-shard-0' AND wait_event_type = 'Lock' AND datname = current_database()
"""


@contextmanager
def opened(dsn: str, *, outage_s: float = 30.0) -> Iterator[ShardStore]:
    store = ShardStore(dsn, 0, partitions=PARTITIONS, shards=2, outage_s=outage_s)
    store.open()
    try:
        yield store
    finally:
        store.close()


class CommitCutter:
    """A relay to PostgreSQL that, once armed, passes the next COMMIT on and cuts the connection before the answer."""

    def __init__(self, dsn: str) -> None:
        given = conninfo_to_dict(dsn)
        self._target = str(Path(str(given["host"])) / f".s.PGSQL.{given.get('port', 5432)}")
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        self.armed = threading.Event()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No connection is taken from now on; those that stand stay."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            cut = threading.Event()
            threading.Thread(target=self._pump, args=(client, server, cut, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, cut, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, cut: threading.Event, from_client: bool) -> None:
        with source, sink, suppress(OSError):
            while data := source.recv(65536):
                if from_client and b"COMMIT" in data and self.armed.is_set():
                    self.armed.clear()
                    cut.set()
                    self.cuts += 1
                if not from_client and cut.is_set():
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)


@pytest.fixture
def cutter(database_dsn: str) -> Iterator[CommitCutter]:
    cutter = CommitCutter(database_dsn)
    yield cutter
    cutter.close()


def test_a_commit_whose_answer_was_lost_is_a_success_and_not_a_conflict(cutter: CommitCutter) -> None:
    with opened(cutter.dsn) as store:
        owner = store.take_over(0)
        events = history(TASK, 3)
        cutter.armed.set()
        positions = store.put(Batch(events=events, moves=[OffsetMove(0, owner.epoch, 0, 3, 0)]))
        assert cutter.cuts == 1
        assert store.log(0) == list(zip(positions, [event.body for event in events], strict=True))
        assert store.take_over(0).next_offset == 3


def test_moves_alone_whose_answer_was_lost_are_a_success_and_not_a_fence(cutter: CommitCutter) -> None:
    with opened(cutter.dsn) as store:
        owner = store.take_over(0)
        cutter.armed.set()
        assert store.put(Batch(moves=[OffsetMove(0, owner.epoch, 0, 3, 0)])) == []
        assert cutter.cuts == 1
        assert store.take_over(0).next_offset == 3


def test_a_conflict_with_another_writer_stays_one_after_a_lost_connection(
    cutter: CommitCutter, database_dsn: str
) -> None:
    with opened(cutter.dsn) as store, opened(database_dsn) as other:
        other.put(Batch(events=history(TASK, 2)))
        different = history(TASK, 1, after=history(TASK, 1)[0])
        other_chain = history(task_on(0, "other"), 1)
        cutter.armed.set()
        store.put(Batch(events=other_chain))
        with pytest.raises(VersionConflict):
            store.put(Batch(events=different))


def test_a_put_whose_backend_is_terminated_is_stored_once(database_dsn: str) -> None:
    with opened(database_dsn) as store, ThreadPoolExecutor(1) as thread, psycopg.connect(database_dsn) as blocker:
        owner = store.take_over(0)
        events = history(TASK, 10)
        blocker.execute("LOCK TABLE events_0 IN EXCLUSIVE MODE")
        put = thread.submit(store.put, Batch(events=events, moves=[OffsetMove(0, owner.epoch, 0, 1, 0)]))
        blocker.execute("SELECT pg_terminate_backend(%s)", (waiting_writer(database_dsn),))
        blocker.rollback()
        positions = put.result(timeout=30)
        assert store.log(0) == list(zip(positions, [event.body for event in events], strict=True))


def test_a_put_that_is_terminated_after_another_took_over_is_fenced(database_dsn: str) -> None:
    with (
        opened(database_dsn) as store,
        opened(database_dsn) as successor,
        ThreadPoolExecutor(1) as thread,
        psycopg.connect(database_dsn) as blocker,
    ):
        owner = store.take_over(0)
        blocker.execute("LOCK TABLE events_0 IN EXCLUSIVE MODE")
        put = thread.submit(store.put, Batch(events=history(TASK, 2), moves=[OffsetMove(0, owner.epoch, 0, 1, 0)]))
        pid = waiting_writer(database_dsn)
        # The put holds the partition's row: the successor waits for it, and gets it once the writer is gone.
        take_over = ThreadPoolExecutor(1).submit(successor.take_over, 0)
        waiting_for_locks(database_dsn, 2)
        blocker.execute("SELECT pg_terminate_backend(%s)", (pid,))
        assert take_over.result(timeout=30).next_offset == 0
        blocker.rollback()
        with pytest.raises(Fenced):
            put.result(timeout=30)
        assert store.max_position() == 0


def test_idle_connections_that_the_server_closed_are_replaced(database_dsn: str) -> None:
    with opened(database_dsn) as store, psycopg.connect(database_dsn, autocommit=True) as killer:
        store.put(Batch(events=history(TASK, 1)))
        killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'taskloom-shard-0'"
        )
        assert len(store.load([TASK])[TASK].events) == 1
        assert len(store.put(Batch(events=history(task_on(0, "next"), 1)))) == 1


def test_a_database_that_stays_away_is_said_within_the_limit(cutter: CommitCutter) -> None:
    with opened(cutter.dsn, outage_s=0.5) as store:
        cutter.close()
        cutter.armed.set()
        with pytest.raises(StoreUnavailable, match=r"did not answer|failed for"):
            store.put(Batch(events=history(TASK, 1)))


def test_closing_ends_a_call_that_waits_for_the_database(cutter: CommitCutter) -> None:
    with opened(cutter.dsn, outage_s=60.0) as store, ThreadPoolExecutor(1) as thread:
        cutter.close()
        cutter.armed.set()
        put = thread.submit(store.put, Batch(events=history(TASK, 1)))
        eventually(lambda: cutter.cuts == 1)
        store.close()
        with pytest.raises(StoreUnavailable):
            put.result(timeout=20)


def test_a_tailing_reader_misses_nothing_of_two_writers(database_dsn: str) -> None:
    puts, size = 60, 20

    def write(name: str) -> None:
        with opened(database_dsn) as store:
            for number in range(puts):
                store.put(Batch(events=history(f"{name}-{number}", size)))

    with opened(database_dsn) as reader, ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(write, name) for name in ("a", "b")]
        seen: list[int] = []
        done = False
        while True:
            page = reader.log(seen[-1] if seen else 0, limit=37)
            seen += [position for position, _ in page]
            if done and not page:
                break
            done = all(writer.done() for writer in writers)
        for writer in writers:
            writer.result()
        assert len(seen) == 2 * puts * size
        assert len(reader.log(0, limit=10_000)) == len(seen)


def waiting_writer(dsn: str) -> int:
    return waiting_for_locks(dsn, 1)[0]


def waiting_for_locks(dsn: str, count: int) -> list[int]:
    """Backends of the store that wait for a lock, once there are ``count`` of them."""
    with psycopg.connect(dsn, autocommit=True) as connection:

        def waiting() -> list[int]:
            return [int(pid) for (pid,) in connection.execute(LOCKED_WRITER).fetchall()]

        eventually(lambda: len(waiting()) >= count)
        return waiting()


def eventually(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
