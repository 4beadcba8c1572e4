"""What a container uses, as the engine measures it once a second."""

import json
from typing import Any, Final

import aiohttp
from aiodocker import Docker, DockerError

from services.executor.containers.daemon import streamed

MIB: Final = 1024 * 1024


class Stats:
    """Peaks of memory (MiB, without the cache of files) and of CPU (percent of one core), and CPU seconds so far."""

    def __init__(self) -> None:
        self.cpu_percent = self.memory_mb = self.cpu_s = 0.0
        self.samples = 0

    def add(self, told: dict[str, Any]) -> None:
        """One measurement; that of a container which does not run has no figures and is left out."""
        memory, cpu = told.get("memory_stats") or {}, told.get("cpu_stats") or {}
        if "usage" not in memory:
            return
        self.samples += 1
        parts = memory.get("stats") or {}
        cache = parts.get("total_inactive_file", parts.get("inactive_file", 0))
        self.memory_mb = max(self.memory_mb, max(0, memory["usage"] - cache) / MIB)
        used = (cpu.get("cpu_usage") or {}).get("total_usage", 0)
        self.cpu_s = max(self.cpu_s, used / 1e9)
        before = told.get("precpu_stats") or {}
        # The engine's own formula: its share of what all cores of the host did since the measurement before.
        host = cpu.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
        own = used - (before.get("cpu_usage") or {}).get("total_usage", 0)
        if before.get("system_cpu_usage") and host > 0 and own > 0:
            cores = cpu.get("online_cpus") or 1
            self.cpu_percent = max(self.cpu_percent, round(100 * cores * own / host, 1))

    async def follow(self, docker: Docker, container_id: str) -> None:
        """Until the container ends. An engine that does not tell leaves no figures, and the container as it is."""
        try:
            async with streamed(docker, f"containers/{container_id}/stats", stream=True) as content:
                async for line in content:
                    self.add(json.loads(line))
        except (DockerError, aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return
