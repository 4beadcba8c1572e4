"""An executor as a process over the real broker: registration, functions, HTTP, claims, pause, faults."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskloom.domain.task.commands import ReportCompleted, ReportFailed, ReportPaused, ReportStopped
from taskloom.lifecycle import EXIT_SETTINGS
from taskloom.local.kafka import EmbeddedKafka
from taskloom.store.claims import ClaimStore
from taskloom.testing.eventually import eventually
from taskloom.wire.claims import check_in, claimed_digest
from tests.integration.executor.rig import FUNCTIONS, Rig

pytestmark = pytest.mark.integration


async def test_an_executor_says_what_it_can_do_and_says_good_bye(new_rig: Rig) -> None:
    beat = await new_rig.start(slots=7, prefetch=3, queues="fast,slow", capabilities="gpu", labels='{"zone": "a"}')
    assert beat.executor_id == new_rig.executor_id
    assert {"echo", "sleep", "shell", "python", "http", "query", "llm"} <= set(beat.kinds)
    assert (beat.slots, beat.prefetch, beat.queues, beat.labels) == (7, 0, ("fast", "slow"), {"zone": "a"})
    assert {"gpu"} <= set(beat.capabilities) <= {"gpu", "cgroup", "cgroup.memory", "cgroup.pids"}
    assert beat.resources.cpu_cores >= 1
    order = await new_rig.begin("sleep", {"seconds": 60})
    await new_rig.heard(lambda: any(live.task_id == order.task_id for live in new_rig.heartbeats[-1].live))
    assert new_rig.stop() == 0
    await new_rig.heard(lambda: new_rig.heartbeats[-1].status == "stopped")
    assert "draining" in [heartbeat.status for heartbeat in new_rig.heartbeats]
    failed = await new_rig.end(order)
    assert (failed.error.type, failed.error.retryable) == ("executor_stopped", True)


async def test_work_meant_for_another_start_of_the_executor_is_not_run(rig: Rig) -> None:
    stale = rig.order("echo", {}, incarnation="an-older-one")
    fresh = rig.order("echo", {})
    await rig.send(stale, fresh)
    await rig.end(fresh)
    assert rig.reports[stale.task_id] == []


async def test_a_directive_that_cannot_be_read_stands_in_nobodys_way(rig: Rig) -> None:
    from taskloom.bus.publish import OutRecord
    from taskloom.wire.topics import partition_of
    from tests.integration.executor.rig import PARTITIONS

    partition = partition_of(rig.executor_id, PARTITIONS)
    poison = OutRecord(rig.topics.assignments, partition, rig.executor_id.encode(), b'{"type": "nonsense"')
    await rig._publisher.publish([poison])
    assert isinstance(await rig.run("echo", {"a": 1}), ReportCompleted)


@pytest.mark.parametrize(("name", "args", "response"), [("add", [2, 3], 5), ("greet", ["you"], "greeted you")])
async def test_functions_run_in_threads_and_in_the_loop(rig: Rig, name: str, args: list[Any], response: Any) -> None:
    done = await rig.run("python", {"function": f"{FUNCTIONS}:{name}", "args": args})
    assert done.response == response


async def test_a_function_with_a_process_of_its_own_answers_and_can_be_killed(rig: Rig) -> None:
    done = await rig.run("python", {"function": f"{FUNCTIONS}:compute", "args": [10]})
    assert rig.process is not None
    assert done.response["sum"] == 45
    assert done.response["pid"] != rig.process.pid
    order = await rig.begin("python", {"function": f"{FUNCTIONS}:spin"})
    await rig.heard(lambda: bool(rig.chunks[order.task_id]))
    await rig.cancel(order)
    assert isinstance(await rig.end(order), ReportStopped)


@pytest.mark.parametrize(
    ("name", "error_type", "retryable"),
    [
        ("refuse", "refused", False),
        ("leave", "SystemExit", True),
        ("not_json", "result_not_json", False),
        ("absent", "unknown_function", False),
    ],
)
async def test_functions_fail_with_a_named_error(rig: Rig, name: str, error_type: str, retryable: bool) -> None:
    failed = await rig.run("python", {"function": f"{FUNCTIONS}:{name}"})
    assert (failed.error.type, failed.error.retryable) == (error_type, retryable)


async def test_a_query_can_be_paused_in_its_sleep_within_a_second_and_resumed(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    order = await rig.begin("query", {}, query="hold on", context={"sleep_seconds": 6})
    await rig.heard(lambda: bool(rig.chunks[order.task_id]))
    asked_at = loop.time()
    await rig.pause(order)
    await rig.heard(lambda: bool(rig.said(order, ReportPaused)))
    assert loop.time() - asked_at < 4.0, "not before its next step"
    assert rig.ended(order) is None
    await rig.resume(order)
    done = await rig.end(order)
    assert "hold on" in done.result


class Site:
    """A tiny HTTP server: the path says the status."""

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            found = re.search(r"content-length: (\d+)", head.lower())
            sent = (await reader.readexactly(int(found[1]) if found else 0)).decode()
            method, path = head.split()[:2]
            if path == "/slow":
                await reader.read()  # until the client has given up
                return
            body = json.dumps({"method": method, "sent": json.loads(sent or "null")})
            headers = f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}"
            writer.write(f"HTTP/1.1 {path.strip('/')} X\r\n{headers}\r\n\r\n{body}".encode())
            await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_a_request_gives_status_and_body_and_its_failures_have_retry_classes(rig: Rig) -> None:
    async with Site() as url:
        done = await rig.run("http", {"url": url + "/200", "method": "POST", "json": [1]})
        assert (done.response["status"], done.response["body"]) == (200, {"method": "POST", "sent": [1]})
        expected = await rig.run("http", {"url": url + "/404", "expect_status": [404]})
        assert isinstance(expected, ReportCompleted)
        for path, extra, error_type, retryable in (
            ("/404", {}, "http_status", False),
            ("/429", {}, "http_status", True),
            ("/503", {}, "http_status", True),
            ("/slow", {"timeout_s": 0.2}, "http_timeout", True),
        ):
            failed = await rig.run("http", {"url": url + path, **extra})
            assert isinstance(failed, ReportFailed), path
            assert (failed.error.type, failed.error.retryable) == (error_type, retryable)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        failed = await rig.run("http", {"url": f"http://127.0.0.1:{unused.getsockname()[1]}/"})
    assert (failed.error.type, failed.error.retryable) == ("http_connect", True)


async def test_large_values_go_in_and_out_as_claims(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path, database_dsn: str
) -> None:
    large = {"text": "x" * 200_000}
    reference, stored = check_in(large)
    assert stored is not None
    async with (
        ClaimStore(database_dsn) as store,
        Rig(kafka_bootstrap, topic_prefix, tmp_path / "log", database_dsn) as rig,
    ):
        await store.put(stored[1])
        await rig.start()
        done = await rig.run("echo", reference)
        assert claimed_digest(done.response) == stored[0]
        assert await store.resolve(done.response) == large


@pytest.mark.chaos
async def test_reports_of_a_time_without_a_broker_arrive_when_it_is_back(
    rig: Rig, embedded_kafka: EmbeddedKafka
) -> None:
    order = await rig.begin("shell", {"cmd": "echo up; sleep 1.5; echo late"})
    await rig.heard(lambda: bool(rig.chunks[order.task_id]))
    assert embedded_kafka.pid is not None
    os.kill(embedded_kafka.pid, signal.SIGKILL)
    await eventually(lambda: embedded_kafka.exit_code() is not None)
    await asyncio.sleep(3)  # the command ends while the broker is away
    await embedded_kafka.start()
    done = await rig.end(order, 60)
    chunks = await rig.output(order, done.output.last_seq)
    assert "".join(chunk.text for chunk in chunks) == "up\nlate\n"


def test_a_module_that_cannot_be_imported_ends_the_start_with_its_name(kafka_bootstrap: str, topic_prefix: str) -> None:
    environment = {
        **os.environ,
        "TASKLOOM_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TASKLOOM_TOPIC_PREFIX": topic_prefix,
        "TASKLOOM_PYTHON_MODULES": "no_such_module_here",
    }
    command = [sys.executable, "-c", "from taskloom.cli.executor import executor; executor()"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == EXIT_SETTINGS
    assert "no_such_module_here" in ended.stdout + ended.stderr
