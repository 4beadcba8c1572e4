"""What an attempt used: the peaks that were sampled, and what was counted at the end of each thing that it ran."""

from collections.abc import Iterable

from taskloom.domain.values import ResourceUse
from taskloom.kinds.api import Supervised, TaskError


async def peaks(sampled: ResourceUse | None, started: Iterable[Supervised]) -> ResourceUse:
    """Over everything started, once it has ended."""
    best = sampled or ResourceUse()
    percent, memory_mb, samples, total = best.cpu_percent, best.memory_mb, best.samples, 0.0
    for each in started:
        try:
            ended = await each.wait()
        except TaskError:
            continue
        total += ended.cpu_s
        memory_mb = max(memory_mb, ended.memory_mb)
        percent, samples = max(percent, ended.cpu_percent), samples + ended.samples
    return ResourceUse(percent, round(memory_mb, 2), round(max(best.cpu_s, total), 4), samples)
