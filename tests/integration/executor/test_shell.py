"""Shell commands over the real broker: order, size, stopping, and never a process left behind."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from services.executor.proctable import members
from taskloom.domain.task.commands import ReportOutputStarted, ReportStarted, ReportStopped, ReportStopSignalled
from taskloom.testing.eventually import eventually
from tests.integration.executor.rig import Rig

pytestmark = pytest.mark.integration

SIX_LINES = "echo 1; echo 2 >&2; echo 3; echo 4 >&2; echo 5 >&2; echo 6"


async def test_six_lines_over_both_streams_come_in_order_fifty_times(rig: Rig) -> None:
    orders = [rig.order("shell", {"cmd": SIX_LINES}) for _ in range(50)]
    await rig.send(*orders)
    for order in orders:
        done = await rig.end(order)
        chunks = await rig.output(order, done.output.last_seq)
        lines = [(line, chunk.stream) for chunk in chunks for line in chunk.text.split()]
        streams = ["stdout", "stderr", "stdout", "stderr", "stderr", "stdout"]
        assert lines == list(zip("123456", streams, strict=True))
        assert [chunk.seq for chunk in chunks] == list(range(1, done.output.chunks + 1))
        assert done.output.bytes == 12


async def test_environment_directory_and_stdin_reach_the_command_and_the_services_settings_do_not(
    rig: Rig, tmp_path: Path
) -> None:
    command = 'echo "$GREETING $(cat) from $PWD"; env | grep -c "^TASKLOOM_DATABASE" ; echo $TASKLOOM_TASK_ID'
    given = {"cmd": command, "env": {"GREETING": "hallo"}, "cwd": str(tmp_path), "stdin": "wörld"}
    order = await rig.begin("shell", given, attempt=2)
    done = await rig.end(order)
    assert done.result == f"hallo wörld from {tmp_path}\n0\n{order.task_id}"
    assert done.exit_code == 0


async def test_a_failing_command_tells_its_exit_code_and_the_end_of_stderr(rig: Rig) -> None:
    failed = await rig.run("shell", {"cmd": "echo fine; echo because >&2; exit 7"})
    assert (failed.error.type, failed.error.retryable, failed.exit_code) == ("exit_code", True, 7)
    assert "because" in failed.error.message
    assert failed.output.chunks == 2


async def test_a_command_that_cannot_be_started_fails_for_good(rig: Rig) -> None:
    failed = await rig.run("shell", {"cmd": "true", "cwd": "/no/such/place"})
    assert (failed.error.type, failed.error.retryable) == ("spawn_failed", False)


async def test_limits_are_set_for_the_command(rig: Rig) -> None:
    done = await rig.run("shell", {"cmd": "ulimit -n; ulimit -t", "limits": {"files": 64, "cpu_s": 7}})
    assert done.result == "64\n7"


async def test_fifty_megabytes_arrive_whole_in_bounded_memory(rig: Rig) -> None:
    assert rig.process is not None
    process = psutil.Process(rig.process.pid)
    await rig.run("shell", {"cmd": "true"})
    before = process.memory_info().rss
    order = await rig.begin("shell", {"cmd": "seq 1 6600000 | head -c 50000000"})
    peak = before
    while rig.ended(order) is None:
        peak = max(peak, process.memory_info().rss)
        await eventually(lambda: True, interval_s=0.02)
        async with rig._changed:
            await rig._changed.wait()
    done = await rig.end(order, 60)
    assert done.output.bytes == 50_000_000
    chunks = await rig.output(order, done.output.last_seq)
    whole = "".join(chunk.text for chunk in chunks)
    assert len(whole) == 50_000_000
    lines = whole.split("\n")[:-1]
    assert lines == [str(number) for number in range(1, len(lines) + 1)]
    assert peak - before < 120 * 2**20


async def test_output_that_is_not_text_arrives_byte_by_byte(rig: Rig) -> None:
    order = await rig.begin("shell", {"cmd": r"printf '\xff\x00\xfe'; printf 'gr\xc3\xbcn'"})
    done = await rig.end(order)
    chunks = await rig.output(order, done.output.last_seq)
    assert b"".join(chunk.data or chunk.text.encode() for chunk in chunks) == b"\xff\x00\xfegr\xc3\xbcn"


async def test_cancel_kills_grandchildren_that_ignore_the_first_signal_and_confirms_it(rig: Rig) -> None:
    command = "trap '' TERM; (trap '' TERM; sleep 987 & sleep 987) & echo $$; wait; sleep 987"
    order = await rig.begin("shell", {"cmd": command})
    await rig.heard(lambda: bool(rig.chunks[order.task_id]))
    group = int(rig.chunks[order.task_id][0].text)
    await eventually(lambda: len(members(group)) >= 3)
    await rig.cancel(order, grace_s=0.3)
    stopped = await rig.end(order)
    assert isinstance(stopped, ReportStopped)
    assert stopped.exit_code == -signal.SIGKILL
    assert members(group) == []
    told = rig.said(order, ReportStopSignalled)
    assert [(report.stage, report.signal) for report in told] == [("signalled", "SIGTERM"), ("escalated", "SIGKILL")]
    assert told[0].processes >= 3


async def test_a_command_that_listens_ends_at_the_first_signal(rig: Rig) -> None:
    order = await rig.begin("shell", {"cmd": "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"})
    await rig.heard(lambda: bool(rig.chunks[order.task_id]))
    await rig.cancel(order, grace_s=10)
    stopped = await rig.end(order, 8)
    assert isinstance(stopped, ReportStopped)
    assert stopped.exit_code == 0
    assert [report.stage for report in rig.said(order, ReportStopSignalled)] == ["signalled"]
    chunks = await rig.output(order, stopped.output.last_seq)
    assert "".join(chunk.text for chunk in chunks if chunk.stream == "stdout") == "up\nbye\n"


async def test_what_a_command_leaves_running_does_not_outlive_it(rig: Rig) -> None:
    done = await rig.run("shell", {"cmd": "sleep 986 & echo $$"})
    assert members(int(done.result)) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_process_outlives_the_executor(own_rig: Rig, number: int) -> None:
    rig = own_rig
    order = await rig.begin("shell", {"cmd": "(sleep 985 & setsid sleep 984 & sleep 985) & echo $$; wait"})
    await rig.heard(lambda: bool(rig.chunks[order.task_id]))
    group = int(rig.chunks[order.task_id][0].text)
    assert rig.process is not None
    family = psutil.Process(rig.process.pid).children(recursive=True)
    await eventually(lambda: len(members(group)) >= 3)
    assert len(family) >= 2
    rig.stop(number)
    await eventually(lambda: members(group) == [])
    await eventually(lambda: not any(_runs(process, "984") for process in psutil.process_iter()))
    await eventually(lambda: not any(process.is_running() for process in family))


def _runs(process: psutil.Process, argument: str) -> bool:
    try:
        return argument in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


async def test_an_executor_without_its_guardian_kills_the_groups_and_goes_on(rig: Rig) -> None:
    order = await rig.begin("shell", {"cmd": "(sleep 983) & echo $$; wait"})
    await rig.heard(lambda: bool(rig.chunks[order.task_id]))
    group = int(rig.chunks[order.task_id][0].text)
    assert rig.process is not None
    guardian = next(
        child for child in psutil.Process(rig.process.pid).children() if "guardian" in " ".join(child.cmdline())
    )
    os.kill(guardian.pid, signal.SIGKILL)
    failed = await rig.end(order)
    assert (failed.error.type, failed.error.retryable) == ("guardian_lost", True)
    await eventually(lambda: members(group) == [])
    assert (await rig.run("shell", {"cmd": "echo again"})).result == "again"


async def test_a_command_over_its_time_is_killed_and_reported_as_timed_out(rig: Rig) -> None:
    order = await rig.begin("shell", {"cmd": "echo $$; sleep 982 & sleep 982"}, start_to_close_s=0.5)
    late = await rig.end(order)
    assert (late.timeout, late.limit_s) == ("start_to_close", 0.5)
    assert members(int(rig.chunks[order.task_id][0].text)) == []


async def test_peaks_of_cpu_and_memory_are_measured(rig: Rig) -> None:
    command = 'python3 -c "x = bytearray(80_000_000)\nimport time\nwhile time.process_time() < 1.5: pass"'
    done = await rig.run("shell", {"cmd": command})
    assert done.resources.memory_mb > 75
    assert done.resources.cpu_s > 1.0
    assert done.resources.samples >= 1


async def test_start_comes_first_then_the_first_output_then_the_end(rig: Rig) -> None:
    order = await rig.begin("shell", {"cmd": "echo out; echo err >&2"})
    await rig.end(order)
    kinds = [type(report) for report in rig.reports[order.task_id]]
    assert kinds[:2] == [ReportStarted, ReportOutputStarted]
    assert rig.report_ids[order.task_id] == [
        f"{order.task_id}/1/{what}" for what in ("started", "output-started", "completed")
    ]
