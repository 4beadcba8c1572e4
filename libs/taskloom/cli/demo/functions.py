"""Python functions that the demo's tasks call. The executor imports this module: TASKLOOM_PYTHON_MODULES names it."""

import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from taskloom.cli.demo.log_file import MEGABYTES, SEED, write_log
from taskloom.kinds import function

MODULE: Final = __name__
REPORT_EVERY_LINES: Final = 100_000


@function(process=True)
def generate(path: str, megabytes: int = MEGABYTES, seed: int = SEED) -> dict[str, Any]:
    """Writes the log file; runs in a process of its own."""
    began = time.monotonic()
    lines = write_log(Path(path), megabytes, seed)
    size = Path(path).stat().st_size
    print(f"{lines:,} lines, {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s", flush=True)
    return {"lines": lines, "bytes": size}


@function(process=True)
def latencies(path: str) -> dict[str, Any]:
    """Statistics over the milliseconds of all requests, and the errors by service."""
    took_ms: list[int] = []
    errors: Counter[str] = Counter()
    with Path(path).open(encoding="ascii") as log:
        for number, line in enumerate(log, start=1):
            _, level, service, _, _, milliseconds, _ = line.split(" ", maxsplit=6)
            took_ms.append(int(milliseconds))
            if level == "ERROR":
                errors[service] += 1
            if number % REPORT_EVERY_LINES == 0:
                print(f"{number:,} lines read", flush=True)
    cuts = statistics.quantiles(took_ms, n=100, method="inclusive")
    p50, p90, p99 = cuts[49], cuts[89], cuts[98]
    print(f"{len(took_ms):,} requests: p50 {p50:.0f} ms, p90 {p90:.0f} ms, p99 {p99:.0f} ms", flush=True)
    return {
        "requests": len(took_ms),
        "errors": dict(errors),
        "mean_ms": round(statistics.fmean(took_ms), 1),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
    }
