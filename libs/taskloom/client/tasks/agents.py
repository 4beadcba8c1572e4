"""Agents of this program: executors in processes of their own, which end with it."""

import json
import os
import socket
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil

from taskloom.client.answers import Executor
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.errors import ClientError
from taskloom.client.tasks.agent import FUNCTION_VARIABLE, Served, decorated, name_of
from taskloom.client.tasks.errors import AgentError
from taskloom.local.child import ManagedProcess
from taskloom.local.errors import StartFailed
from taskloom.local.home import Home

AGENT_TYPE: Final = "agent_type"
"""The label of an executor that says what type of agent it is."""

MODULE: Final = "taskloom.client.tasks.agent_process"
STOP_S: Final = 40.0
"""How long an agent has to drain what it runs; longer than an executor's own limit for that."""

_FROM_RUN: Final = {
    "TASKLOOM_KAFKA_BOOTSTRAP": "bootstrap",
    "TASKLOOM_DATABASE_DSN": "dsn",
    "TASKLOOM_TOPIC_PREFIX": "topic_prefix",
}


def addresses() -> dict[str, str]:
    """Where Kafka and the database are, by the ``taskloom up`` that runs in TASKLOOM_HOME; the environment wins."""
    run = Home(Path(os.environ.get("TASKLOOM_HOME", ".taskloom"))).read_run()
    found = {variable: str(run[name]) for variable, name in _FROM_RUN.items() if run.get(name)}
    return found | {variable: os.environ[variable] for variable in _FROM_RUN if variable in os.environ}


class AgentProcess(ManagedProcess):
    """Ready when the server lists it as ready."""

    def __init__(self, client: AsyncClient, agent_id: str, log_path: Path, settings: Mapping[str, str]) -> None:
        super().__init__(f"agent {agent_id}", log_path)
        self._client = client
        self._agent_id = agent_id
        self._settings = dict(settings)

    async def prepare(self) -> None:
        """Nothing: it keeps no files."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "taskloom", "executor"]

    def environment(self) -> dict[str, str]:
        # The function's module must be found as this program finds it.
        path = os.pathsep.join(part for part in sys.path if part)
        return dict(os.environ) | {"PYTHONPATH": path} | self._settings

    async def is_ready(self) -> bool:
        try:
            found = await self._client.executors()
        except ClientError:
            return False
        return any(
            each.executor_id == self._agent_id and each.status == "ready" and each.pid == self.pid for each in found
        )


class Agents:
    """Those that this program registered, by id. ``settings``: further TASKLOOM_ variables for their processes."""

    def __init__(self, client: AsyncClient, settings: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._settings = dict(settings or {})
        self._running: dict[str, AgentProcess] = {}
        self._logs: TemporaryDirectory[str] | None = None

    async def start(
        self,
        agent_id: str,
        agent_type: str,
        capabilities: Collection[str],
        executor_function: Served,
        metadata: Mapping[str, Any],
        max_concurrent_tasks: int,
    ) -> None:
        """Returns when the server lists the agent as ready.

        Raises:
            ValueError: the function cannot be imported by another process, or a capability holds a comma.
            AgentError: an agent of this id runs, or it did not become ready; with its log's last lines.
        """
        if any("," in capability or not capability.strip() for capability in capabilities):
            raise ValueError(f"capabilities: {sorted(capabilities)}: each is a word without a comma")
        served = decorated(executor_function)
        settings = {
            "TASKLOOM_EXECUTOR_ID": agent_id,
            "TASKLOOM_CAPABILITIES": ",".join(sorted(capabilities)),
            "TASKLOOM_LABELS": json.dumps({**{name: str(it) for name, it in metadata.items()}, AGENT_TYPE: agent_type}),
            "TASKLOOM_PYTHON_MODULES": MODULE,
            "TASKLOOM_SLOTS": str(max_concurrent_tasks),
            # What waits for a busy agent waits in the scheduler, where another agent can take it.
            "TASKLOOM_PREFETCH": "0",
            FUNCTION_VARIABLE: "" if executor_function is None or served else name_of(executor_function),
            # The port of an agent's own /health is nobody's business but the kernel's.
            "TASKLOOM_OPS_PORT": "0",
        }
        if served:
            settings["TASKLOOM_APPS"] = ",".join(map(name_of, served))
            settings["TASKLOOM_QUEUES"] = ",".join(sorted({"default", *(each.queue for each in served)}))
        await self._refuse_double(agent_id)
        process = AgentProcess(self._client, agent_id, self._log_of(agent_id), addresses() | self._settings | settings)
        self._running[agent_id] = process
        try:
            await process.start()
        except BaseException as error:
            await self.stop(agent_id)
            if isinstance(error, StartFailed):
                raise AgentError(str(error)) from error
            raise

    async def stop(self, agent_id: str) -> bool:
        """Drains and ends an agent. False when it is none of this program's."""
        process = self._running.pop(agent_id, None)
        if process is None:
            return False
        await process.stop(STOP_S)
        return True

    async def stop_all(self) -> None:
        for agent_id in list(self._running):
            await self.stop(agent_id)
        if self._logs is not None:
            self._logs.cleanup()
            self._logs = None

    async def _refuse_double(self, agent_id: str) -> None:
        found = await self._client.executors()
        if any(each.executor_id == agent_id and each.status == "ready" and not _is_gone(each) for each in found):
            raise AgentError(
                f"agent {agent_id!r} runs already, or was heard a moment ago; end that one or choose another id"
            )

    def _log_of(self, agent_id: str) -> Path:
        if self._logs is None:
            self._logs = TemporaryDirectory(prefix="taskloom-agents-")
        return Path(self._logs.name) / f"{agent_id}.log"


def _is_gone(executor: Executor) -> bool:
    """Whether it was killed on this machine, so that its silence need not be waited for."""
    return executor.host == socket.gethostname() and not psutil.pid_exists(executor.pid)
