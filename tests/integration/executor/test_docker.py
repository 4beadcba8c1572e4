"""Containers over a real Docker Engine: output, limits, stopping, and never a container left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.executor.proctable import children
from taskloom.domain.task.commands import ReportStarted, ReportStopped, ReportStopSignalled, ReportTimedOut
from taskloom.filestore import FileStore, key_of_artifact, key_of_file
from taskloom.testing.eventually import eventually
from tests.integration.executor.engine import IMAGE, Engine, engine
from tests.integration.executor.rig import Rig

pytestmark = pytest.mark.integration
OBEYS = "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.05; done"
IGNORES = "trap '' TERM; echo up; while true; do sleep 0.05; done"


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Engine]:
    with engine() as started:
        if isinstance(started, str):
            pytest.skip(started)
        yield started


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mounts")


@pytest.fixture(scope="module")
def executor(kafka_bootstrap: str, dockerd: Engine, mounts: Path) -> Iterator[Rig]:
    rig = Rig(kafka_bootstrap, f"test-{os.urandom(6).hex()}", mounts / "log")

    async def start() -> None:
        await rig.__aenter__()
        await start_executor(rig, dockerd, mounts)
        await rig.leave()

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(start())
    finally:
        loop.close()
    yield rig
    rig.stop()


@pytest.fixture
async def rig(executor: Rig) -> AsyncIterator[Rig]:
    async with Rig(executor.bootstrap, executor.prefix, executor.log, beside=executor) as rig:
        yield rig


async def start_executor(rig: Rig, dockerd: Engine, mounts: Path, **settings: Any) -> None:
    kept = {"files_url": f"file://{mounts}/store", "max_file_mb": 2}
    given = {"docker_host": dockerd.host, "docker_mounts": mounts, "docker_memory_mb": 64, "stop_grace_s": 0.5}
    await rig.start(**kept, **given, **settings)


def run(command: str | list[str], **fields: Any) -> dict[str, Any]:
    return {"operation": "run", "image": IMAGE, "command": command, "pull": "never", **fields}


async def test_output_of_both_streams_and_the_exit_code_come_back_and_the_container_goes(
    rig: Rig, dockerd: Engine
) -> None:
    assert "docker" in rig.heartbeats[-1].kinds
    command = "printf 'gr\\303\\274n\\n'; printf '\\377\\000'; echo bad >&2; echo $WHO in $PWD"
    order = await rig.begin("docker", run(command, env={"WHO": "me"}, cwd="/tmp"))
    done = await rig.end(order)
    chunks = await rig.output(order, done.output.last_seq)
    streams = {
        stream: b"".join(chunk.data or chunk.text.encode() for chunk in chunks if chunk.stream == stream)
        for stream in ("stdout", "stderr")
    }
    assert streams == {"stdout": "grün\n".encode() + b"\xff\x00" + b"me in /tmp\n", "stderr": b"bad\n"}
    assert done.exit_code == 0
    assert done.response["stdout_bytes"] == len(streams["stdout"])
    failed = await rig.run("docker", run("echo because >&2; exit 7"))
    assert (failed.error.type, failed.exit_code) == ("exit_code", 7)
    assert "because" in failed.error.message
    assert dockerd.containers() == []


async def test_characters_are_never_split_and_eight_megabytes_arrive_whole(rig: Rig) -> None:
    order = await rig.begin("docker", run("yes 'grün' | head -c 8000000"))
    done = await rig.end(order, 60)
    chunks = await rig.output(order, done.output.last_seq)
    assert all(chunk.text and not chunk.data for chunk in chunks[:-1])
    whole = b"".join(chunk.data or chunk.text.encode() for chunk in chunks)
    assert whole == ("grün\n".encode() * 1_400_000)[:8_000_000]


async def test_limits_and_mounts_hold_within_the_container(rig: Rig, mounts: Path) -> None:
    (mounts / "given").write_text("from the host")
    mount = {"source": str(mounts), "target": "/in"}
    done = await rig.run("docker", run("cat /in/given; touch /in/new 2>&1 || echo refused", mounts=[mount]))
    assert done.result.startswith("from the host")
    assert done.result.endswith("refused")
    assert not (mounts / "new").exists()
    denied = await rig.run("docker", run("true", mounts=[{"source": "/etc", "target": "/in"}]))
    assert (denied.error.type, denied.error.retryable) == ("mount_denied", False)
    eaten = await rig.run("docker", run("yes | tr '\\n' x | head -c 200000000 | grep z"))
    assert (eaten.error.type, eaten.exit_code) == ("out_of_memory", 137)
    many = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done"
    full = await rig.run("docker", run(many, limits={"pids": 20}))
    assert "fork" in full.error.message


async def test_files_go_in_and_what_fits_comes_out_whoever_the_container_runs_as(rig: Rig, mounts: Path) -> None:
    store = FileStore(f"file://{mounts}/store")
    await store.put(key_of_file("acme", "numbers"), b"7\n" * 1_000_000)
    files = [
        {"path": "in/numbers", "file": "numbers"},
        {"path": "in/deep/text", "text": "grün"},
        {"path": "bytes", "data": "/wA="},
    ]
    command = (
        "echo $PWD; id -u; head -n 3 in/numbers; mkdir -p out/a; cat in/deep/text bytes > out/a/both;"
        "echo no > out/no.log;"
        "ln out/a/both out/second; ln -s /bin/busybox out/link; echo top > top.txt; echo more >> in/deep/text"
    )
    asked = run(command, files=files, artifacts=["out/**", "in/deep/*", "*.txt"], user="65534:65534")
    order = await rig.begin("docker", asked, tenant_id="acme")
    done = await rig.end(order)
    assert done.result == "/workspace\n65534\n7\n7\n7"
    both = "grün".encode() + b"\xff\x00"
    kept = {"in/deep/text": "grünmore\n".encode(), "out/a/both": both, "out/no.log": b"no\n", "out/second": both}
    kept |= {"top.txt": b"top\n"}
    told = [{"path": path, "size_bytes": len(content)} for path, content in sorted(kept.items())]
    assert done.response["artifacts"] == told
    for path, content in kept.items():
        size, pieces = await store.read(key_of_artifact("acme", order.task_id, 1, path))
        assert (size, b"".join([piece async for piece in pieces])) == (len(content), content)


async def test_a_failing_container_leaves_artifacts_and_limits_of_files_hold(rig: Rig, dockerd: Engine) -> None:
    failed = await rig.run("docker", run("echo why > why.log; exit 3", artifacts=["*.log", "none/*"]))
    assert (failed.exit_code, failed.error.details["artifacts"]) == (3, [{"path": "why.log", "size_bytes": 4}])
    large = await rig.run("docker", run("yes | head -c 3000000 > large; echo x > small", artifacts=["*"]))
    assert (large.error.type, large.error.retryable) == ("artifact_too_large", False)
    assert "TASKLOOM_MAX_FILE_MB" in large.error.message
    many = await rig.run("docker", run("for i in $(seq 1001); do echo > $i; done", artifacts=["*"]), timeout_s=60)
    assert (many.error.type, many.error.retryable) == ("artifact_too_large", False)
    missing = await rig.run("docker", run("true", files=[{"path": "a", "file": "nobody"}]))
    assert (missing.error.type, missing.error.retryable) == ("file_missing", False)
    assert dockerd.containers() == []


async def test_stdin_is_read_to_its_end_or_as_far_as_the_container_likes(rig: Rig) -> None:
    whole = "".join(f"{number} größe\n" for number in range(100_000))
    done = await rig.run(
        "docker",
        run("cat > /tmp/all; head -n 1 /tmp/all; tail -n 1 /tmp/all; wc -c < /tmp/all", stdin=whole),
        timeout_s=60,
    )
    assert done.result.split("\n") == ["0 größe", "99999 größe", str(len(whole.encode()))]
    some = await rig.run("docker", run("head -n 1", stdin=whole), timeout_s=60)
    assert some.result == "0 größe"
    none = await rig.run("docker", run("cat; echo end"))
    assert none.result == "end"


async def test_what_a_container_used_is_told_with_its_end(rig: Rig) -> None:
    # As much work as takes some seconds here, so that a slower machine measures more often and not less.
    command = "x=$(yes | head -c 12000000); i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done; echo ${#x}"
    done = await rig.run("docker", run(command), timeout_s=120)
    used = done.resources
    assert used.samples >= 1
    assert 10 < used.memory_mb <= 64
    assert used.cpu_s > 0.1


@pytest.mark.parametrize(("command", "code"), [(OBEYS, 3), (IGNORES, 137)])
async def test_a_cancel_signals_then_kills_and_is_confirmed_when_the_container_is_gone(
    rig: Rig, dockerd: Engine, command: str, code: int
) -> None:
    order = await rig.begin("docker", run(command))
    await rig.heard(lambda: any("up" in chunk.text for chunk in rig.chunks[order.task_id]))
    await rig.cancel(order, grace_s=0.4 if code == 137 else 5)
    stopped = await rig.end(order)
    assert isinstance(stopped, ReportStopped)
    assert stopped.exit_code == code
    stages = [(each.stage, each.signal) for each in rig.said(order, ReportStopSignalled)]
    assert stages == [("signalled", "SIGTERM")] + ([("escalated", "SIGKILL")] if code == 137 else [])
    assert rig.said(order, ReportStopSignalled)[0].processes >= 1
    assert dockerd.containers() == []


async def test_a_time_limit_leaves_no_container(rig: Rig, dockerd: Engine) -> None:
    late = await rig.run("docker", run(IGNORES), start_to_close_s=1.0)
    assert isinstance(late, ReportTimedOut)
    assert dockerd.containers() == []


async def test_an_image_that_cannot_be_had_fails_for_good_and_says_so(rig: Rig, dockerd: Engine) -> None:
    missing = await rig.run("docker", {"operation": "run", "image": "no/such:image", "pull": "never"})
    assert (missing.error.type, missing.error.retryable) == ("image_missing", False)
    absent = {"operation": "run", "image": "127.0.0.1:1/no/such:image"}
    failed = await rig.run("docker", absent, timeout_s=60)
    assert (failed.error.type, failed.error.retryable) == ("image_pull_failed", True)
    unknown = await rig.run("docker", run(["/no/such/program"]))
    assert (unknown.error.type, unknown.exit_code) == ("exit_code", 127)
    assert "/no/such/program" in unknown.error.message
    assert dockerd.containers() == []


async def test_a_detached_container_is_read_stopped_and_started_by_its_tenant_alone(rig: Rig, dockerd: Engine) -> None:
    done = await rig.run("docker", run(OBEYS, detach=True), tenant_id="one")
    name = done.response["container_id"]
    try:
        assert done.response["status"] == "running"
        stranger = await rig.run("docker", {"operation": "logs", "id": name}, tenant_id="two")
        nobody = await rig.run("docker", {"operation": "logs", "id": "nobody"}, tenant_id="two")
        assert stranger.error.type == nobody.error.type == "no_such_container"
        stopped = await rig.run("docker", {"operation": "stop", "id": name}, tenant_id="one")
        assert (stopped.response["status"], stopped.response["container_exit_code"]) == ("exited", 3)
        order = await rig.begin("docker", {"operation": "logs", "id": name}, tenant_id="one")
        read = await rig.end(order)
        text = "".join(chunk.text for chunk in await rig.output(order, read.output.last_seq))
        assert text == "up\nbye\n"
        started = await rig.run("docker", {"operation": "start", "id": name}, tenant_id="one")
        assert started.response["status"] == "running"
    finally:
        dockerd.ask("rm", "--force", name)


async def test_a_kill_of_the_executor_leaves_no_container_and_neither_does_one_of_its_undertaker(
    kafka_bootstrap: str, dockerd: Engine, tmp_path: Path, topic_prefix: str
) -> None:
    async with Rig(kafka_bootstrap, topic_prefix, tmp_path / "log") as rig:
        await start_executor(rig, dockerd, tmp_path)
        order = await rig.begin("docker", run(IGNORES))
        await rig.heard(lambda: any("up" in chunk.text for chunk in rig.chunks[order.task_id]))
        assert len(dockerd.containers(f"label=taskloom.task={order.task_id}")) == 1
        rig.stop(signal.SIGKILL)
        await eventually(lambda: not dockerd.containers(f"label=taskloom.executor={rig.executor_id}"))

        await start_executor(rig, dockerd, tmp_path)
        assert rig.process is not None
        order = await rig.begin("docker", run(IGNORES))
        await rig.heard(lambda: any("up" in chunk.text for chunk in rig.chunks[order.task_id]))
        assert rig.said(order, ReportStarted)
        for pid in children(rig.process.pid):
            os.kill(pid, signal.SIGKILL)
        rig.stop(signal.SIGKILL)
        assert len(dockerd.containers(f"label=taskloom.executor={rig.executor_id}")) == 1
        await start_executor(rig, dockerd, tmp_path)  # what both left is removed by the executor's next start
        assert dockerd.containers(f"label=taskloom.executor={rig.executor_id}") == []


async def test_without_an_engine_the_kind_is_not_announced_and_comes_with_it(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str, dockerd: Engine
) -> None:
    link = tmp_path / "docker.sock"
    async with Rig(kafka_bootstrap, topic_prefix, tmp_path / "log") as rig:
        beat = await rig.start(docker_host=f"unix://{link}")
        assert "docker" not in beat.kinds
        failed = await rig.run("docker", run("true"))
        assert (failed.error.type, failed.error.retryable, failed.error.fault) == ("docker_unavailable", True, True)
        assert "TASKLOOM_DOCKER_HOST" in failed.error.message
        link.symlink_to(dockerd.host.removeprefix("unix://"))
        await rig.heard(lambda: "docker" in rig.heartbeats[-1].kinds, 20)
        done = await rig.run("docker", run("echo there"))
        assert done.result == "there"
