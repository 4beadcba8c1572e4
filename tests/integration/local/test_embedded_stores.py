import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from taskloom.local.errors import StartFailed
from taskloom.local.kafka import EmbeddedKafka
from taskloom.local.postgres import EmbeddedPostgres
from taskloom.testing.eventually import eventually

pytestmark = pytest.mark.integration


async def make_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_what_the_broker_acknowledged_survives_kill_9_and_it_comes_back_on_the_same_port(
    embedded_kafka: EmbeddedKafka, topic_prefix: str
) -> None:
    bootstrap, topic = embedded_kafka.bootstrap, f"{topic_prefix}.kept"
    await make_topic(bootstrap, topic)
    await send(bootstrap, topic, b"one", b"two")
    embedded_kafka.kill()
    assert not await embedded_kafka.is_ready()

    await embedded_kafka.start()

    assert embedded_kafka.bootstrap == bootstrap
    assert await read(bootstrap, topic, 2) == [b"one", b"two"]


async def test_a_misspelt_topic_is_an_error_and_not_a_new_topic(kafka_bootstrap: str, topic_prefix: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, request_timeout_ms=1000)
    await producer.start()
    try:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send_and_wait(f"{topic_prefix}.nowhere", b"x")
    finally:
        await producer.stop()


async def test_what_postgres_committed_survives_kill_9_under_the_same_dsn(embedded_postgres: EmbeddedPostgres) -> None:
    dsn = embedded_postgres.dsn()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    embedded_postgres.kill()
    assert not await embedded_postgres.is_ready()

    await embedded_postgres.start()

    assert embedded_postgres.dsn() == dsn
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(42,)]
        connection.execute("DROP TABLE kept")


async def test_postgres_runs_with_fsync_and_without_a_tcp_port(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        names = ["fsync", "synchronous_commit", "full_page_writes", "listen_addresses"]
        values = [connection.execute(f"SHOW {name}").fetchone() for name in names]
    assert values == [("on",), ("on",), ("on",), ("",)]


async def test_a_pid_file_that_names_a_living_stranger_does_not_keep_postgres_from_starting(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    try:
        await postgres.start()
        postgres.kill()
        pid_file = postgres.data / "postmaster.pid"
        lines = pid_file.read_text().split("\n")
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
            pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))

            await postgres.start()

            assert stranger.poll() is None, "the stranger was ended"
            stranger.communicate(b"\n")
    finally:
        await postgres.stop()


async def test_two_homes_have_different_servers(tmp_path: Path, embedded_postgres: EmbeddedPostgres) -> None:
    other = EmbeddedPostgres(tmp_path / ("deep" * 40))  # longer than a unix socket's path may be
    try:
        await other.start()
        with psycopg.connect(other.dsn()) as here, psycopg.connect(embedded_postgres.dsn()) as there:
            query = "SELECT system_identifier FROM pg_control_system()"
            assert here.execute(query).fetchone() != there.execute(query).fetchone()
    finally:
        await other.stop()


async def test_a_broker_whose_port_is_taken_fails_and_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        kafka = EmbeddedKafka(tmp_path, port=taken.getsockname()[1])
        try:
            with pytest.raises(StartFailed, match="Address already in use"):
                await kafka.start()
        finally:
            await kafka.stop()


async def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from taskloom.local.postgres import EmbeddedPostgres\n"
        "p = EmbeddedPostgres(Path(sys.argv[1])); asyncio.run(p.start()); print(p.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(owner.pid, signal.SIGKILL)

        await eventually(lambda: not psutil.pid_exists(pid))
