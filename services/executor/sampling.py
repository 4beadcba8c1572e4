"""Peaks of CPU and memory of attempts' processes, sampled once a second for those that live so long."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection
from typing import Final

import psutil

from services.executor.attempt import Attempt
from taskloom.domain.values import ResourceUse

PERIOD_S: Final = 1.0
MIB: Final = 1024 * 1024


class Sampler:
    """Sums over each process group. One pass over the process table serves all attempts."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}

    async def run(self, attempts: Callable[[], Collection[Attempt]]) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            groups = {
                process.pid: attempt for attempt in attempts() for process in attempt.processes if not process.ended
            }
            groups.pop(0, None)
            if groups:
                self.sample(groups, await asyncio.to_thread(_measure, frozenset(groups)))
            self._before = {pgid: before for pgid, before in self._before.items() if pgid in groups}

    def sample(self, groups: dict[int, Attempt], measured: dict[int, tuple[float, float]]) -> None:
        """Takes CPU seconds and resident bytes of each group into its attempt's peaks."""
        now = time.monotonic()
        for pgid, (cpu_s, memory) in measured.items():
            attempt = groups[pgid]
            peak = attempt.sampled or ResourceUse()
            percent = 0.0
            if pgid in self._before:
                since, cpu_before = self._before[pgid]
                percent = max(0.0, 100 * (cpu_s - cpu_before) / max(0.1, now - since))
            self._before[pgid] = (now, cpu_s)
            attempt.sampled = ResourceUse(
                cpu_percent=max(peak.cpu_percent, round(percent, 1)),
                memory_mb=max(peak.memory_mb, round(memory / MIB, 2)),
                cpu_s=max(peak.cpu_s, round(cpu_s, 3)),
                samples=peak.samples + 1,
            )


def _measure(groups: Collection[int]) -> dict[int, tuple[float, float]]:
    found: dict[int, tuple[float, float]] = {}
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            pgid = os.getpgid(pid)
            if pgid in groups:
                process = psutil.Process(pid)
                times, cpu_before, memory = process.cpu_times(), *found.get(pgid, (0.0, 0.0))
                cpu = times.user + times.system + times.children_user + times.children_system
                found[pgid] = (cpu_before + cpu, memory + process.memory_info().rss)
    return found
