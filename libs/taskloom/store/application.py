"""One `eventsourcing` application per shard: its mapper, its recorder, its pool of 1 + 2 connections."""

from typing import Any, Final

from eventsourcing.application import Application
from eventsourcing.persistence import ApplicationRecorder, InfrastructureFactory
from eventsourcing.postgres import PostgresFactory
from eventsourcing.utils import Environment, EnvType
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from taskloom.domain.envelope import Recorded
from taskloom.store.batch import Batch
from taskloom.store.connect import CONNECT_TIMEOUT_S, LOCK_TIMEOUT_S, session_parameters
from taskloom.store.mapper import ENVIRONMENT, RecordedMapper, codec_environment
from taskloom.store.recorder import ShardRecorder

STATEMENT_TIMEOUT_S: Final = 30.0
_SHARD: Final = "SHARD"


class ShardFactory(PostgresFactory):
    """Names the shard's table ``events_<shard>``; else the library's factory."""

    def application_recorder(self) -> ApplicationRecorder:
        return ShardRecorder(self.datastore, events_table_name=f"events_{self.env[_SHARD]}")


class ShardApplication(Application[str]):
    """Constructed, it is connected: the library asks the database for its types.

    Raises:
        eventsourcing.persistence.OperationalError: the database did not answer within 5 s.
    """

    name = ENVIRONMENT

    def __init__(self, dsn: str, shard: int, *, partitions: int) -> None:
        self._dsn = dsn
        self._shard = shard
        super().__init__()
        assert isinstance(self.recorder, ShardRecorder)
        assert isinstance(self.mapper, RecordedMapper)
        self.rows: ShardRecorder = self.recorder
        self.codec: RecordedMapper = self.mapper
        self.rows.partitions = partitions

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        given = conninfo_to_dict(self._dsn)
        settings = {
            "PERSISTENCE_MODULE": "taskloom.store.application:ShardFactory",
            "MAPPER_TOPIC": "taskloom.store.mapper:RecordedMapper",
            "ORIGINATOR_ID_TYPE": "text",
            "CREATE_TABLE": "n",
            "POSTGRES_DBNAME": str(given.get("dbname") or ""),
            "POSTGRES_HOST": str(given.get("host") or ""),
            "POSTGRES_PORT": str(given.get("port") or ""),
            "POSTGRES_USER": str(given.get("user") or ""),
            "POSTGRES_PASSWORD": str(given.get("password") or ""),
            "POSTGRES_CONNECT_TIMEOUT": str(CONNECT_TIMEOUT_S),
            "POSTGRES_LOCK_TIMEOUT": str(LOCK_TIMEOUT_S),
            "POSTGRES_POOL_SIZE": "1",
            "POSTGRES_MAX_OVERFLOW": "2",
            _SHARD: str(self._shard),
        }
        return Environment(name, {**codec_environment(), **settings, **(env or {})})

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        factory = ShardFactory(env)
        # The library passes on five parameters of a connection; TLS, time limits and the rest of a DSN would be lost.
        parameters = session_parameters(
            self._dsn, application=f"taskloom-shard-{self._shard}", statement_timeout_s=STATEMENT_TIMEOUT_S
        )
        factory.datastore.pool.kwargs = {**parameters, "row_factory": dict_row}
        return factory

    def put(self, batch: Batch) -> list[int]:
        """Stores the batch in one transaction and returns the events' positions. Raises as ``ShardRecorder`` does."""
        stored = [self.codec.to_stored_event(event) for event in batch.events]
        return list(self.rows.insert_events(stored, batch=batch))

    def stored(self, batch: Batch) -> list[int] | None:
        """Positions of the batch's events if exactly this batch is in the store, else None.

        A batch without events is known by its offsets; one that moves none is never known, and may be repeated.
        """
        if not batch.events:
            return [] if self._offsets_moved(batch) else None
        rows = self.rows.select_stored([self.codec.to_stored_event(event) for event in batch.events])
        if len(rows) != len(batch.events) or not all(map(self._is_same, batch.events, rows)):
            return None
        return [position for _, position, _ in rows]

    def _is_same(self, event: Recorded, row: tuple[int, int, bytes]) -> bool:
        return self.codec.unpack(row[2]) == event.body

    def _offsets_moved(self, batch: Batch) -> bool:
        wanted = {(move.partition, move.epoch, move.next_offset) for move in batch.moves}
        if not any(move.next_offset != move.expected for move in batch.moves):
            return False
        return wanted == set(self.rows.select_offsets([move.partition for move in batch.moves]))
