"""Taskloom's services as child processes."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from taskloom.local.child import ManagedProcess

PROBE_TIMEOUT_S: Final = 2.0
LOOPBACK: Final = "127.0.0.1"


class ServiceProcess(ManagedProcess):
    """``taskloom <service>`` with its own environment, ready when its /readiness answers 200."""

    start_timeout_s = 60.0

    def __init__(
        self, service: str, name: str, *, port: int, logs: Path, environment: Mapping[str, str], host: str = LOOPBACK
    ) -> None:
        super().__init__(name, logs / f"{name}.log")
        self.service = service
        self.url = f"http://{host}:{port}"
        self._environment = dict(environment)

    async def prepare(self) -> None:
        """Nothing: a service keeps no files."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "taskloom", self.service]

    def environment(self) -> dict[str, str]:
        return dict(os.environ) | self._environment

    async def is_ready(self) -> bool:
        return await is_ready(self.url)


class AgentProcess(ServiceProcess):
    """``taskloom agent`` beside the services, linked to their gateway."""

    def __init__(
        self, agent_id: str, token: str, gateway_url: str, *, port: int, logs: Path, environment: Mapping[str, str]
    ) -> None:
        own = {"TASKLOOM_AGENT_TOKEN": token, "TASKLOOM_GATEWAY_URLS": gateway_url}
        super().__init__("agent", agent_id, port=port, logs=logs, environment={**environment, **own})
        self._agent_id = agent_id

    def command(self) -> list[str]:
        return [*super().command(), "--id", self._agent_id]


async def is_ready(url: str) -> bool:
    """Whether ``url``/readiness answers 200 within 2 s."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{url}/readiness")).status_code == httpx.codes.OK
    except (httpx.HTTPError, OSError, TimeoutError):
        return False
