"""Starts Kafka, PostgreSQL and the services in order, keeps them running, stops them in order."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from taskloom.keys import DEV_TOKENS
from taskloom.local.child import ManagedProcess
from taskloom.local.errors import LocalError, StartFailed
from taskloom.local.home import Home, run_entry
from taskloom.local.jars import KAFKA_VERSION, ensure_jars, jars_dir
from taskloom.local.kafka import EmbeddedKafka
from taskloom.local.logs import rotate
from taskloom.local.ports import check_free, free_ports
from taskloom.local.postgres import EmbeddedPostgres
from taskloom.local.services import LOOPBACK, AgentProcess, ServiceProcess
from taskloom.local.settings import LocalSettings
from taskloom.local.watch import Say, Watch

ROTATE_EVERY_S: Final = 5.0
SCHEMA_TIMEOUT_S: Final = 60.0
# Shares of the time to stop, in order: agents (without any, theirs is the others'), the door, the work, who decides,
# who records, then the stores.
_STOP_SHARES: Final = {
    "agent": 0.1,
    "gateway": 0.2,
    "executor": 0.25,
    "orchestrator": 0.2,
    "projection": 0.15,
    "store": 0.2,
}


class Supervisor:
    """One embedded system. `start`, then `stop`; `run.json` in the home says what runs where meanwhile."""

    def __init__(self, settings: LocalSettings, say: Say) -> None:
        """``say`` gets one plain line for each step and each restart."""
        self.settings = settings
        self.home = Home(settings.home)
        self.http_port = settings.http_port
        self.bootstrap = settings.kafka_bootstrap
        self.dsn = settings.database_dsn
        self._say = say
        self._stores: list[ManagedProcess] = []
        self._services: list[ServiceProcess] = []
        self._watches: list[Watch] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = ExitStack()
        self._started_at = time.time()

    @property
    def url(self) -> str:
        """Where the API is, as seen from this machine."""
        host = LOOPBACK if self.settings.host in {"0.0.0.0", "::", "localhost"} else self.settings.host
        return f"http://{host}:{self.http_port}"

    async def start(self) -> None:
        """Returns when /readiness of every service answers 200; stops what it started when that fails.

        Raises:
            LocalError: port or home taken, no jars, or a process ended or was not ready in time; says which, and why.
        """
        self._lock.enter_context(self.home.locked())
        try:
            if self.http_port:
                check_free(self.settings.host, self.http_port)
            await self._fetch_jars()
            async with asyncio.timeout(self.settings.start_timeout_s):
                await self._start_stores()
                await self._make_schema()
                await self._start_services()
        except TimeoutError:
            await self.stop()
            raise StartFailed(
                f"the system was not ready within {self.settings.start_timeout_s:g} s; see {self.home.logs}"
            ) from None
        except BaseException:
            await self.stop()
            raise
        self._keep_running()

    async def stop(self) -> None:
        """Stops all children in order within `stop_timeout_s`; kills those that do not end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for role in _STOP_SHARES:
            await self._stop_all(self._in_role(role), self._time_to_stop_s(role))
        self.home.clear_run()
        self._lock.close()

    def kill(self) -> None:
        """Kills all children at once; for an impatient second signal."""
        for process in self._processes:
            process.kill()

    @property
    def _processes(self) -> Sequence[ManagedProcess]:
        return [*self._stores, *self._services]

    def _in_role(self, role: str) -> Sequence[ManagedProcess]:
        return self._stores if role == "store" else [service for service in self._services if service.service == role]

    async def _stop_all(self, processes: Sequence[ManagedProcess], timeout_s: float) -> None:
        ended = await asyncio.gather(*(process.stop(timeout_s) for process in processes))
        for process, by_itself in zip(processes, ended, strict=True):
            if not by_itself:
                self._say(f"{process.name} did not end within {timeout_s:.1f} s and was killed")

    async def _fetch_jars(self) -> None:
        if self.bootstrap or jars_dir(self.settings.cache_dir).is_dir():
            return
        self._say(f"fetching Apache Kafka {KAFKA_VERSION} (45 MB, once per user)")
        await asyncio.to_thread(ensure_jars, self.settings.cache_dir)

    async def _start_stores(self) -> None:
        settings = self.settings
        if not self.dsn:
            postgres = EmbeddedPostgres(self.home.path)
            self.dsn = postgres.dsn()
            self._stores.append(postgres)
        if not self.bootstrap:
            kafka = EmbeddedKafka(
                self.home.path, port=settings.kafka_port, heap_mib=settings.kafka_heap_mib, cache=settings.cache_dir
            )
            self.bootstrap = kafka.bootstrap
            self._stores.append(kafka)
        await self._start_all(self._stores)

    async def _make_schema(self) -> None:
        from taskloom.bus.admin import ensure_topics
        from taskloom.store.migrate import migrate

        async with asyncio.timeout(SCHEMA_TIMEOUT_S):
            await asyncio.gather(
                asyncio.to_thread(migrate, self.dsn, self.settings.shards),
                ensure_topics(self.bootstrap, self.settings.topic_prefix, self.settings.partitions),
            )
        self._say("tables and topics are there")

    async def _start_services(self) -> None:
        settings = self.settings
        counts = {
            "orchestrator": settings.orchestrators,
            "projection": settings.projections,
            "executor": settings.executors,
        }
        names = [
            (service, f"{service}-{number}") for service, count in counts.items() for number in range(1, count + 1)
        ]
        spare, *ports = free_ports(len(names) + 1)
        self.http_port = self.http_port or spare
        shared = {
            "TASKLOOM_KAFKA_BOOTSTRAP": self.bootstrap,
            "TASKLOOM_DATABASE_DSN": self.dsn,
            "TASKLOOM_TOPIC_PREFIX": settings.topic_prefix,
            "TASKLOOM_FILES_URL": os.environ.get("TASKLOOM_FILES_URL") or f"file://{self.home.path}/files",
            "TASKLOOM_SECRETS_KEY": os.environ.get("TASKLOOM_SECRETS_KEY") or self.home.secrets_key(),
            "TASKLOOM_WEBHOOK_KEY": os.environ.get("TASKLOOM_WEBHOOK_KEY") or self.home.webhook_key(),
        }
        self._services = [
            ServiceProcess(
                service, name, port=port, logs=self.home.logs, environment=shared | self._own(service, name, port)
            )
            for (service, name), port in zip(names, ports, strict=True)
        ]
        door = (
            shared
            | {
                "TASKLOOM_HTTP_PORT": str(self.http_port),
                "TASKLOOM_HOST": settings.host,
            }
            | self._own("gateway", "gateway", 0)
        )
        gateway = ServiceProcess("gateway", "gateway", port=self.http_port, logs=self.home.logs, environment=door)
        gateway.url = self.url
        self._services.append(gateway)
        await self._start_all(self._services)
        await self._start_agents()

    def _own(self, service: str, name: str, port: int) -> dict[str, str]:
        own = {"TASKLOOM_INSTANCE": name, "TASKLOOM_OPS_HOST": LOOPBACK, "TASKLOOM_OPS_PORT": str(port)}
        # A drain that would end after the kill is no drain.
        own["TASKLOOM_DRAIN_TIMEOUT_S"] = f"{max(0.5, self._time_to_stop_s(service) - 0.5):.1f}"
        # Stable: an executor that was started again is known to be the same one, and its lost work is seen at once.
        return own | ({"TASKLOOM_EXECUTOR_ID": name} if service == "executor" else {})

    def _time_to_stop_s(self, role: str) -> float:
        agents = _STOP_SHARES["agent"] if self.settings.agents else 0.0
        share = _STOP_SHARES[role] if role == "agent" else _STOP_SHARES[role] * (1 - agents)
        return share * self.settings.stop_timeout_s

    async def _start_agents(self) -> None:
        """Those of TASKLOOM_AGENTS, once there is a gateway for them."""
        wanted = [text.strip().partition("=") for text in self.settings.agents.split(",") if text.strip()]
        if not wanted:
            return
        agents = [
            AgentProcess(
                *(name, token or DEV_TOKENS.get(name, ""), self.url),
                port=port,
                logs=self.home.logs,
                environment=self._own("agent", name, port),
            )
            for (name, _, token), port in zip(wanted, free_ports(len(wanted)), strict=True)
        ]
        self._services += agents
        await self._start_all(agents)

    async def _start_all(self, processes: Sequence[ManagedProcess]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for process in processes:
                    group.create_task(self._start_one(process))
        except* LocalError as failed:
            raise failed.exceptions[0] from None

    async def _start_one(self, process: ManagedProcess) -> None:
        began = time.monotonic()
        await process.prepare()
        process.spawn()
        self._write_run()
        await process.wait_ready(process.start_timeout_s)
        self._say(f"{process.name} is ready after {time.monotonic() - began:.1f} s")

    def _keep_running(self) -> None:
        base, cap = self.settings.restart_backoff_s, self.settings.restart_backoff_cap_s
        self._watches = [
            Watch(process, backoff_s=base, backoff_cap_s=cap, say=self._say, changed=self._write_run)
            for process in self._processes
        ]
        self._tasks = [asyncio.create_task(watch.run(), name=f"watch {watch.process.name}") for watch in self._watches]
        self._tasks.append(asyncio.create_task(self._rotate_logs(), name="rotate logs"))

    async def _rotate_logs(self) -> None:
        while True:
            for process in self._processes:
                rotate(process.log_path, self.settings.log_file_bytes)
            await asyncio.sleep(ROTATE_EVERY_S)

    def _write_run(self) -> None:
        run: dict[str, Any] = {
            "supervisor_pid": os.getpid(),
            "started": self._started_at,
            "url": self.url,
            "bootstrap": self.bootstrap,
            "dsn": self.dsn,
            "topic_prefix": self.settings.topic_prefix,
            "processes": {
                process.name: run_entry(process.pid)
                | ({"url": process.url} if isinstance(process, ServiceProcess) else {})
                for process in self._processes
                if process.pid is not None and process.is_running
            },
        }
        self.home.write_run(run)
