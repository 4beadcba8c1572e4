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


DELEGATED = os.environ.get("TASKLOOM_TEST_CGROUP", "")
"""A cgroup of version 2 without processes, whose parent hands on memory and pids (scripts/delegated_cgroup.sh)."""

needs_controllers = pytest.mark.skipif(not DELEGATED, reason="no cgroup is delegated (scripts/delegated_cgroup.sh)")


@pytest.fixture(params=["auto", "off", pytest.param(DELEGATED, id="delegated", marks=needs_controllers)])
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


MARKED = {name: escape for name, escape in ESCAPES.items() if "env -i" not in escape}


@pytest.mark.parametrize("escape", MARKED.values(), ids=MARKED.keys())
async def test_nothing_that_has_its_mark_outlives_keeper_and_guardian_killed_at_once(escape: str) -> None:
    guardian, mark = Guardian("off"), new_mark()
    other = await guardian.spawn(["bash", "-c", f"setsid sleep {mark + 1} & wait"])
    await eventually(lambda: len(marked(mark + 1)) == 1)
    assert guardian._helper is not None
    helper = guardian._helper.pid
    stopped = await guardian.spawn(["bash", "-c", f"{escape.format(mark=mark)}\nsleep 60"])
    await eventually(lambda: len(marked(mark)) == 1)
    keeper = psutil.Process(stopped.pid).ppid()
    for pid in (keeper, helper):
        os.kill(pid, signal.SIGSTOP)  # so that neither does its work while the other is killed
    for pid in (keeper, helper):
        os.kill(pid, signal.SIGKILL)
    for process in (stopped, other):
        with pytest.raises(TaskError, match="supervisor"):
            await process.wait()
    assert marked(mark) == marked(mark + 1) == []
    assert (await run(guardian, "echo goes on"))[0] == "goes on\n"
    await guardian.close()


async def test_what_an_executor_left_that_was_killed_with_all_that_watches_is_killed_at_the_next_start() -> None:
    name, mark = f"executor-{os.urandom(4).hex()}", new_mark()
    earlier, beside = Guardian("off", (), name), Guardian("off", (), name)
    process = await earlier.spawn(["bash", "-c", f"setsid sleep {mark} & sleep 60"])
    await beside.spawn(["sleep", str(mark + 1)])
    await eventually(lambda: len(marked(mark)) == len(marked(mark + 1)) == 1)
    assert earlier._helper is not None
    assert earlier._transport is not None
    earlier._transport.pause_reading()  # as one that does not hear of it any more
    keeper = psutil.Process(process.pid).ppid()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (keeper, earlier._helper.pid):
            os.kill(pid, number)
    earlier._helper.wait(20)
    assert len(marked(mark)) == 1
    later = Guardian("off", (), name)
    assert (await run(later, "echo up"))[0] == "up\n"
    assert marked(mark) == []
    assert len(marked(mark + 1)) == 1, "a guardian that lives keeps its commands"
    for guardian in (earlier, beside, later):
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


@needs_controllers
async def test_limits_of_the_whole_group_hold_for_all_that_a_command_starts() -> None:
    assert cgroups.capabilities(DELEGATED) == ("cgroup", "cgroup.memory", "cgroup.pids")
    guardian = Guardian(DELEGATED)
    try:
        eats = "setsid bash -c 'x=$(head -c 20000000 /dev/zero | tr \"\\0\" x); sleep 60' & "
        process = await guardian.spawn(["bash", "-c", eats * 4 + "wait"], limits=Limits(total_memory_mb=64))
        await text_of(process)
        ended = await process.wait()
        assert (ended.out_of_memory, ended.code) == (True, -signal.SIGKILL)
        within = await guardian.spawn(["bash", "-c", "echo fits"], limits=Limits(total_memory_mb=64))
        assert await text_of(within) == "fits\n"
        assert not (await within.wait()).out_of_memory
        forks = "for i in {1..50}; do sleep 60 & done; jobs -r | wc -l"
        process = await guardian.spawn(["bash", "-c", forks], limits=Limits(processes=10))
        async for _, data in process.output():
            if b"Resource temporarily unavailable" in data:
                break
        assert 5 <= len(descendants(process.pid)) < 10
        await process.kill()
    finally:
        await guardian.close()
