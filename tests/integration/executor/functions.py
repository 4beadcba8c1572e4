"""Functions that the tests' ``python`` tasks call."""

import asyncio
import os
import time
from pathlib import Path

from taskloom.kinds import TaskError, current_context, function


@function
def add(a: int, b: int = 0) -> int:
    return a + b


@function
async def greet(name: str) -> str:
    await current_context().write(f"hello {name}\n")
    await asyncio.sleep(0)
    return f"greeted {name}"


@function(process=True)
def compute(n: int) -> dict[str, int]:
    print("computing", flush=True)
    return {"sum": sum(range(n)), "pid": os.getpid()}


@function(process=True)
def spin() -> None:
    print("spinning", flush=True)
    while True:
        time.sleep(0.05)


@function
def wait_for_file(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return "seen" + (", cancelled" if current_context().cancelled.is_set() else "")


@function
def refuse() -> None:
    raise TaskError("refused", "no", retryable=False, details={"why": "test"})


@function
def leave() -> None:
    raise SystemExit(3)


@function
def not_json() -> object:
    return object()
