"""The guardian without an executor around it: nothing that a command starts outlives it, however it tries."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from services.executor import cgroups
from services.executor.processes import GuardedProcess, Guardian
from services.executor.proctable import descendants
from taskloom.kinds import Exit, Limits, TaskError
from taskloom.testing.eventually import eventually

ESCAPES = {
    "background": "sleep {mark} &",
    "new session": "setsid sleep {mark} &",
    "double fork in a new session": "(setsid bash -c 'sleep {mark} & disown' &)",
    "nohup in a new session without output": "setsid nohup sleep {mark} </dev/null >/dev/null 2>&1 &",
    "a daemon without its environment": "(env -i setsid /bin/sh -c '/bin/sleep {mark} >/dev/null 2>&1 &' &)",
}


@pytest.fixture(params=["auto", "off"])
async def guardian(request: pytest.FixtureRequest) -> AsyncIterator[Guardian]:
    if request.param == "auto" and not cgroups.capabilities("auto"):
        pytest.skip("this process may make no cgroup of version 2 here")
    guardian = Guardian(request.param)
    yield guardian
    await guardian.close()


def marked(mark: int) -> list[int]:
    """Processes that sleep for so many seconds."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if words[-1:] == [str(mark)] and words[0].endswith("sleep") and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def new_mark() -> int:
    return 900_000 + int.from_bytes(os.urandom(3), "big")


async def text_of(process: GuardedProcess) -> str:
    return b"".join([data async for _, data in process.output()]).decode()


async def run(guardian: Guardian, command: str) -> tuple[str, Exit]:
    process = await guardian.spawn(["bash", "-c", command])
    return await text_of(process), await process.wait()


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
async def test_what_escapes_its_group_is_killed_with_the_command(guardian: Guardian, escape: str) -> None:
    mark = new_mark()
    command = escape.format(mark=mark) + "\necho up; trap '' TERM; while :; do sleep 0.05; done"
    process = await guardian.spawn(["bash", "-c", command])
    await eventually(lambda: len(marked(mark)) == 1)
    assert await process.signal(signal.SIGCONT) >= 2
    await process.kill()
    assert marked(mark) == []
    assert (await process.wait()).code == -signal.SIGKILL


async def test_the_first_signal_reaches_who_left_the_session(guardian: Guardian) -> None:
    command = "setsid bash -c 'trap \"echo heard; exit\" TERM; while :; do sleep 0.02; done' & wait"
    process = await guardian.spawn(["bash", "-c", command])
    await eventually(lambda: len(descendants(process.pid)) >= 2)
    await process.signal(signal.SIGTERM)
    assert "heard" in await text_of(process)


async def test_what_a_command_leaves_in_another_session_is_killed_and_counted(guardian: Guardian) -> None:
    mark = new_mark()
    output, ended = await run(guardian, f"setsid nohup sleep {mark} >/dev/null 2>&1 & echo left")
    assert (output, ended.code, ended.leftover) == ("left\n", 0, 1)
    assert marked(mark) == []


async def test_what_leaves_ends_by_itself_within_its_second_is_no_leftover(guardian: Guardian) -> None:
    output, ended = await run(guardian, "setsid bash -c 'sleep 0.2; echo late' & echo early")
    assert (output, ended.leftover) == ("early\nlate\n", 0)


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
async def test_nothing_outlives_a_guardian_that_is_killed(escape: str) -> None:
    guardian, mark = Guardian("off"), new_mark()
    process = await guardian.spawn(["bash", "-c", escape.format(mark=mark) + "\nwait; sleep 60"])
    await eventually(lambda: len(marked(mark)) == 1)
    assert guardian._helper is not None
    os.kill(guardian._helper.pid, signal.SIGKILL)
    with pytest.raises(TaskError, match="supervisor"):
        await process.wait()
    await eventually(lambda: not marked(mark))
    await guardian.close()


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
async def test_nothing_outlives_an_executor_that_is_gone(guardian: Guardian, escape: str) -> None:
    mark = new_mark()
    await guardian.spawn(["bash", "-c", escape.format(mark=mark) + "\nwait; sleep 60"])
    await eventually(lambda: len(marked(mark)) == 1)
    await guardian.close()
    assert marked(mark) == []


async def test_a_command_that_kills_its_keeper_kills_itself_and_nobody_else(guardian: Guardian) -> None:
    mark = new_mark()
    other = await guardian.spawn(["bash", "-c", "read -t 60; echo other"], stdin=b"go")
    _, ended = await run(guardian, f"setsid sleep {mark} & kill -9 $PPID; sleep 60")
    assert ended.code == -signal.SIGKILL
    assert marked(mark) == []
    assert await text_of(other) == "other\n"


async def test_a_signal_to_the_keeper_that_is_no_kill_is_ignored(guardian: Guardian) -> None:
    output, ended = await run(guardian, "kill $PPID; kill -INT $PPID; kill -HUP $PPID; sleep 0.1; echo here")
    assert (output, ended.code) == ("here\n", 0)


async def test_a_process_that_keeps_moving_to_new_sessions_is_caught(guardian: Guardian) -> None:
    hop = 'export HOP=\'(setsid bash -c "sleep 0.01; eval \\"\\$HOP\\"" &)\'; eval "$HOP"; sleep 60'
    process = await guardian.spawn(["bash", "-c", hop])
    assert guardian._helper is not None
    helper = guardian._helper.pid
    seen: set[int] = set()

    def has_moved_on() -> bool:
        seen.update(descendants(helper))
        return len(seen) > 12

    await eventually(has_moved_on, interval_s=0.005)
    await process.kill()
    assert descendants(helper) == []


async def test_a_stopped_command_is_killed_all_the_same(guardian: Guardian) -> None:
    process = await guardian.spawn(["bash", "-c", "kill -STOP $$"])
    await eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    await process.kill()
    assert (await process.wait()).code == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts commands as somebody else")
async def test_a_command_runs_as_a_user_that_the_settings_allow() -> None:
    guardian = Guardian("auto", ("nobody",))
    try:
        assert (await run(guardian, "id -un; id -Gn; echo $HOME"))[0].split()[0] == "nobody"
        process = await guardian.spawn(["bash", "-c", "cat /proc/$PPID/environ /etc/shadow"], user="nobody")
        output = await text_of(process)
        assert output.count("Permission denied") == 2
        with pytest.raises(TaskError) as denied:
            await guardian.spawn(["true"], user="root")
        assert (denied.value.type, denied.value.retryable) == ("user_denied", False)
        private = Path("/root")
        with pytest.raises(TaskError, match="Permission denied"):
            await guardian.spawn(["true"], cwd=str(private))
    finally:
        await guardian.close()


async def test_a_limit_of_the_whole_group_is_refused_where_the_host_cannot_hold_it() -> None:
    guardian = Guardian("off")
    with pytest.raises(TaskError, match="cgroup") as refused:
        await guardian.spawn(["true"], limits=Limits(total_memory_mb=100))
    assert (refused.value.type, refused.value.retryable) == ("spawn_failed", False)
    await guardian.close()
