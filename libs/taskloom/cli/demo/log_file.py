"""A web shop's log file, the same bytes for the same seed: work for pipelines and functions.

A line: time, level, service, path, status, milliseconds, request, host, agent, and a message to the end of the line.
"""

import random
from pathlib import Path
from typing import Final

SEED: Final = 20_260_301
MEGABYTES: Final = 50
BLOCK_LINES: Final = 5_000
BYTES_A_LINE: Final = 141
"""About; so that the last line is from the end of the day."""

SERVICES: Final = ("checkout", "payments", "search", "catalog", "accounts")
PATHS: Final = ("/cart", "/pay", "/search", "/items", "/login", "/orders")
GOOD: Final = ("served from cache", "served", "rendered", "stored", "queued for delivery")
BAD: Final = (
    "upstream timed out",
    "connection reset by peer",
    "no such customer",
    "card declined",
    "out of stock",
    "rate limit exceeded",
)
_CALLER: Final = "host=web-07.shop.example agent=shop-app/4.2.1(android-16;eu-west-1)"
_BAD_WEIGHTS: Final = (34, 21, 8, 19, 12, 6)
_ERROR_SHARE: Final = {"checkout": 0.02, "payments": 0.05, "search": 0.008, "catalog": 0.004, "accounts": 0.012}
_DAY_S: Final = 86_400


def write_log(path: Path, megabytes: int = MEGABYTES, seed: int = SEED) -> int:
    """Writes at least ``megabytes`` of lines, a day from first to last, and returns how many lines those are."""
    chance = random.Random(seed)
    wanted = megabytes * 1_000_000
    about = wanted // BYTES_A_LINE
    lines = size = 0
    with path.open("w", encoding="ascii", newline="\n") as log:
        while size < wanted:
            block = _block(chance, lines, about)
            size += log.write(block)
            lines += BLOCK_LINES
    return lines


def _block(chance: random.Random, first: int, about: int) -> str:
    services = chance.choices(SERVICES, (20, 12, 40, 18, 10), k=BLOCK_LINES)
    paths = chance.choices(PATHS, k=BLOCK_LINES)
    goods = chance.choices(GOOD, (40, 30, 15, 10, 5), k=BLOCK_LINES)
    bads = chance.choices(BAD, _BAD_WEIGHTS, k=BLOCK_LINES)
    rolls = [chance.random() for _ in range(BLOCK_LINES)]
    spread = [chance.random() for _ in range(BLOCK_LINES)]
    return "".join(
        _line(min(_DAY_S - 1, (first + n) * _DAY_S // about), first + n, *parts)
        for n, parts in enumerate(zip(services, paths, goods, bads, rolls, spread, strict=True))
    )


def _line(second: int, number: int, service: str, path: str, good: str, bad: str, roll: float, spread: float) -> str:
    at = f"2026-03-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"
    # Few requests take long: the inverse of an exponential distribution's tail, around 40 ms.
    took_ms = int(5 + 40 / (1.0001 - spread) ** 0.7)
    request = f"req-{number * 2_654_435_761 % 2**32:08x}"
    if roll < _ERROR_SHARE[service]:
        status = 504 if bad == "upstream timed out" else 500
        return f"{at} ERROR {service} {path} {status} {took_ms + 900} {request} {_CALLER} {bad}\n"
    return f"{at} INFO {service} {path} 200 {took_ms} {request} {_CALLER} {good}\n"
