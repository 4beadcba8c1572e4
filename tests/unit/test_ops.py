import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from taskloom import telemetry
from taskloom.ops import OpsServer, OpsUnavailable


class Switch:
    def __init__(self) -> None:
        self.fault = ""

    async def check(self) -> None:
        if self.fault:
            raise RuntimeError(self.fault)


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
async def client(switch: Switch) -> AsyncIterator[httpx.AsyncClient]:
    server = OpsServer("127.0.0.1", 0, service="probe", checks={"database": switch.check})
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        yield client
    await server.stop()


async def test_ready_when_every_check_passes(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readiness")
    body = answer.json()
    assert (answer.status_code, body["status"], body["checks"]) == (200, "ready", {"database": "ok"})
    assert {"version", "time", "service"} <= set(body)


async def test_a_failing_check_is_named_with_its_reason(client: httpx.AsyncClient, switch: Switch) -> None:
    switch.fault = "no route to the database"
    answer = await client.get("/readiness")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "no route to the database"}


async def test_health_answers_although_not_ready(client: httpx.AsyncClient, switch: Switch) -> None:
    switch.fault = "no route to the database"
    assert (await client.get("/health")).status_code == 200


async def test_metrics_show_what_was_counted(client: httpx.AsyncClient) -> None:
    telemetry.counter("ops_test_things", "Things that this test counted").inc(3)
    answer = await client.get("/metrics")
    assert "taskloom_ops_test_things_total 3.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_other_paths_and_methods_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/tasks")).status_code == 404
    assert (await client.post("/health")).status_code == 405


async def test_a_check_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskloom.ops.CHECK_TIMEOUT_S", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    server = OpsServer("127.0.0.1", 0, service="probe", checks={"kafka": hang})
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        answer = await client.get("/readiness")
    await server.stop()
    assert (answer.status_code, answer.json()["checks"]) == (503, {"kafka": "no answer within 0.05 s"})


async def test_a_taken_port_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OpsUnavailable, match=f"cannot listen on 127.0.0.1:{port}.*TASKLOOM_OPS_PORT"):
            await OpsServer("127.0.0.1", port, service="probe", checks={}).start()
