from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from typer import Typer
from typer.testing import CliRunner

from taskloom.cli.migrate import migrate as migrate_verb
from taskloom.store.errors import MigrationError, StoreUnavailable
from taskloom.store.migrate import _ADVISORY_LOCK, known_migrations, migrate

pytestmark = pytest.mark.integration


def test_migrations_are_applied_in_order_once_and_per_shard(empty_database_dsn: str) -> None:
    applied = migrate(empty_database_dsn, shards=2)
    assert applied == [migration.name for migration in known_migrations(2)]
    assert {"0001_offsets_open_tasks_claims.sql", "0002_events.shard.sql[0]", "0002_events.shard.sql[1]"} <= set(
        applied
    )
    assert migrate(empty_database_dsn, shards=2) == []


def test_processes_that_start_together_apply_each_migration_once(empty_database_dsn: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: migrate(empty_database_dsn, shards=2), range(4)))
    assert sorted(map(len, results)) == [0, 0, 0, len(known_migrations(2))]


def test_a_further_shard_gets_its_tables_alone(database_dsn: str) -> None:
    assert migrate(database_dsn, shards=3) == [m.name for m in known_migrations(3) if m.name.endswith("[2]")]


def test_an_applied_migration_that_has_changed_is_refused(database_dsn: str) -> None:
    with psycopg.connect(database_dsn) as connection:
        connection.execute("UPDATE schema_migrations SET sha256 = 'other' WHERE name = '0002_events.shard.sql[1]'")
    with pytest.raises(MigrationError, match=r"0002_events\.shard\.sql\[1\] was applied in another form"):
        migrate(database_dsn, shards=2)


def test_a_migration_that_fails_leaves_nothing_of_itself(empty_database_dsn: str) -> None:
    with psycopg.connect(empty_database_dsn) as connection:
        connection.execute("CREATE TABLE snapshots_1 (task_id text)")
    with pytest.raises(MigrationError, match=r"0002_events\.shard\.sql\[1\] failed and was undone"):
        migrate(empty_database_dsn, shards=2)
    with psycopg.connect(empty_database_dsn) as connection:
        assert connection.execute("SELECT to_regclass('events_0') IS NOT NULL, to_regclass('events_1')").fetchone() == (
            True,
            None,
        )
        connection.execute("DROP TABLE snapshots_1")
    assert "0002_events.shard.sql[1]" in migrate(empty_database_dsn, shards=2)


def test_a_migration_elsewhere_that_does_not_end_is_said_within_the_limit(empty_database_dsn: str) -> None:
    with psycopg.connect(empty_database_dsn) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
        with pytest.raises(StoreUnavailable, match=r"took longer than 0\.5 s"):
            migrate(empty_database_dsn, shards=2, timeout_s=0.5)


def test_the_verb_says_what_it_applied_and_fails_with_the_reason(empty_database_dsn: str) -> None:
    app = Typer()
    app.command()(migrate_verb)
    first = CliRunner().invoke(app, ["--dsn", empty_database_dsn])
    assert (first.exit_code, "applied 0002_events.shard.sql[0]" in first.output) == (0, True)
    assert "nothing to do" in CliRunner().invoke(app, ["--dsn", empty_database_dsn]).output
    failed = CliRunner().invoke(app, ["--dsn", "postgresql://postgres@127.0.0.1:1/none", "--timeout-s", "1"])
    assert failed.exit_code == 1
    assert "'none' at 127.0.0.1 did not answer within 1 s" in failed.output
