import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from taskloom.lifecycle import EXIT_FAULT, EXIT_SETTINGS, EXIT_START_UP, BackgroundEnded, Runtime, StartUpFailed
from taskloom.settings import ServiceSettings


def settings(**values: Any) -> ServiceSettings:
    return ServiceSettings(**values)


async def never() -> None:
    await asyncio.Event().wait()


async def serve(loop: Coroutine[Any, Any, None]) -> None:
    async with Runtime("test", settings(), signals=False) as runtime:
        runtime.background("work", loop)
        await runtime.run_until_stopped()


async def start_up(limit_s: float, *, stopped: bool = False) -> None:
    async with Runtime("test", settings(startup_timeout_s=limit_s), signals=False) as runtime:
        if stopped:
            asyncio.get_running_loop().call_soon(runtime.stop)
        await runtime.start("connect to Kafka", never())


async def test_a_failed_background_task_stops_the_service_with_its_error() -> None:
    async def loop() -> None:
        raise ValueError("the loop broke")

    with pytest.raises(ValueError, match="the loop broke"):
        await serve(loop())


async def test_a_background_task_that_just_ends_stops_the_service() -> None:
    async def loop() -> None:
        return

    with pytest.raises(BackgroundEnded, match="'work' ended by itself"):
        await serve(loop())


async def test_start_up_that_takes_too_long_says_at_which_step() -> None:
    with pytest.raises(StartUpFailed, match=r"TASKLOOM_STARTUP_TIMEOUT_S=0.05 s, at: connect to Kafka"):
        await start_up(0.05)


async def test_a_stop_during_start_up_ends_it() -> None:
    with pytest.raises(StartUpFailed, match="told to stop"):
        await start_up(60.0, stopped=True)


async def test_draining_undoes_in_reverse_order_and_waits_for_the_loop() -> None:
    happened: list[str] = []

    async def close() -> None:
        happened.append("closed")

    async with Runtime("test", settings(), signals=False) as runtime:

        async def loop() -> None:
            await runtime.stopping.wait()
            await asyncio.sleep(0)
            happened.append("loop ended")

        runtime.on_drain("close", close)
        runtime.background("work", loop())
        runtime.stop()
    assert happened == ["loop ended", "closed"]


async def test_a_loop_that_does_not_end_is_cut_off_and_the_rest_is_still_closed() -> None:
    happened: list[str] = []

    async def close() -> None:
        happened.append("closed")

    began = time.monotonic()
    async with Runtime("test", settings(drain_timeout_s=0.1), signals=False) as runtime:
        runtime.on_drain("close", close)
        task = runtime.background("work", never())
        runtime.stop()
    assert task.cancelled()
    assert happened == ["closed"]
    assert time.monotonic() - began < 30


async def test_a_drain_step_that_fails_does_not_keep_the_others_from_running() -> None:
    happened: list[str] = []

    async def fail() -> None:
        raise OSError("gone")

    async def close() -> None:
        happened.append("closed")

    async with Runtime("test", settings(), signals=False) as runtime:
        runtime.on_drain("close", close)
        runtime.on_drain("fail", fail)
    assert happened == ["closed"]


PROGRAM = """
import asyncio, sys
from taskloom.lifecycle import Runtime, main
from taskloom.settings import ServiceSettings

async def run(settings):
    async with Runtime("probe", settings) as runtime:
        if {mode!r} == "fault":
            raise RuntimeError("it broke")
        if {mode!r} == "slow":
            await runtime.start("wait for nothing", asyncio.Event().wait())
        print("up", flush=True)
        await runtime.run_until_stopped()

main("probe", ServiceSettings, run)
"""


def process(mode: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).format(mode=mode)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "environment", "code", "told"),
    [
        ("fault", {}, EXIT_FAULT, "it broke"),
        ("slow", {"TASKLOOM_STARTUP_TIMEOUT_S": "0.1"}, EXIT_START_UP, "wait for nothing"),
        ("up", {"TASKLOOM_PARTITIONS": "7"}, EXIT_SETTINGS, "TASKLOOM_PARTITIONS=7 must divide 64"),
    ],
)
def test_the_exit_code_says_what_went_wrong(mode: str, environment: dict[str, str], code: int, told: str) -> None:
    with process(mode, **environment) as child:
        _, errors = child.communicate(timeout=30)
    assert child.returncode == code
    assert told in errors


def test_sigterm_drains_and_exits_with_zero() -> None:
    with process("up") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 0, errors
