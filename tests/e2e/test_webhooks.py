"""Webhooks through the front door: signed, retried, logged, sent again, and lost by no crash."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Verifier

from taskloom.local.jars import ensure_jars
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from taskloom.testing.receiver import Receiver
from tests.e2e.support import Api, Json, door

pytestmark = pytest.mark.e2e

PRIVATE = {"TASKLOOM_WEBHOOK_ALLOW_PRIVATE": "true"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


async def webhook(api: Api, **body: object) -> Json:
    answer = await api.http.post("/api/v1/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def delivered(api: Api, task_id: str, count: int = 1, timeout_s: float = 30.0) -> list[Json]:
    async def look() -> list[Json] | None:
        found = (await api.get(f"/tasks/{task_id}/deliveries"))["deliveries"]
        done = [each for each in found if each["status"] == "COMPLETED"]
        return found if len(done) >= count else None

    return await eventually(look, timeout_s) or []


def of_task(receiver: Receiver, task_id: str) -> list[Json]:
    bodies = [json.loads(received.body) for received in receiver.received]
    return [body for body in bodies if body["data"]["task_id"] == task_id]


async def test_callbacks_and_webhooks_from_end_to_end(running_system: RunningSystem, receiver: Receiver) -> None:
    async with door(running_system, "webhooks") as api, door(running_system, "others") as others:
        made = await webhook(api, url=f"{receiver.url}?sub=1", events=["task.failed"], filter={"tag": "told"})
        path = f"/webhooks/{made['webhook_id']}"
        assert "secret" not in await api.get(path)
        assert (await others.get("/webhooks"))["total_count"] == 0
        assert (await others.http.get(f"/api/v1{path}")).status_code == 404

        # A test delivery, signed with the secret that was shown.
        test = (await api.http.post(f"/api/v1{path}/test")).json()["task_id"]
        await api.until(test, "completed")
        first = receiver.received[0]
        assert Verifier(made["secret"]).verify(first.body, first.headers)["type"] == "webhook.test"

        # A task's own callback; the receiver fails first, and the same message comes again.
        receiver.statuses = [500]
        task = await api.submit(kind="echo", input={"n": 1}, callback_url=receiver.url, metadata={"x": "1"})
        [delivery] = await delivered(api, task)
        assert (delivery["webhook_id"], delivery["event"], delivery["attempts"]) == ("callback", "task.completed", 2)
        tries = [each for each in receiver.received if each.headers["webhook-id"] == delivery["delivery_id"]]
        assert len(tries) == 2
        told = Verifier((await api.get("/callbacks/secret"))["secret"]).verify(tries[1].body, tries[1].headers)
        assert (told["data"]["task_id"], told["data"]["result"]) == (task, '{"n":1}')
        attempts = (await api.get(f"/tasks/{delivery['delivery_id']}/executions"))["executions"]
        assert [each["status"] for each in attempts] == ["failed", "completed"]

        # Sent again on request; other tenants cannot.
        again = f"/api/v1/deliveries/{delivery['delivery_id']}/redeliver"
        assert (await others.http.post(again)).status_code == 404
        assert (await api.http.post(again)).status_code == 202
        await eventually(lambda: len(of_task(receiver, task)) == 3)
        assert (await api.http.post(f"/api/v1/deliveries/{task}/redeliver")).status_code == 404

        # The subscription hears of failures with its tag, and of nothing else.
        bad: Json = {"kind": "shell", "input": {"cmd": "exit 3"}, "retry": {"max_attempts": 1}}
        failed = await api.submit(**bad, tags=["told"])
        other = await api.submit(**bad)
        [told_of] = await delivered(api, failed)
        assert told_of["webhook_id"] == made["webhook_id"]
        await api.ended(other)
        assert (await api.get(f"/tasks/{other}/deliveries"))["deliveries"] == []
        log = await api.get(f"{path}/deliveries")
        assert {each["task_id"] for each in log["deliveries"]} == {failed, test}
        # 410 ends a delivery at once.
        receiver.statuses = [410]
        gone = await api.submit(kind="echo", callback_url=receiver.url)

        async def given_up() -> bool:
            found = (await api.get(f"/tasks/{gone}/deliveries"))["deliveries"]
            return [(each["status"], each["attempts"]) for each in found] == [("FAILED", 1)]

        await eventually(given_up)

        # Deliveries are no tasks of the tenant's lists, counts and sessions; nobody submits them.
        shown = await api.get("/tasks", limit=100)
        assert {each["kind"] for each in shown["tasks"]} == {"echo", "shell"}
        assert shown["total_count"] == 4
        assert (await api.get("/sessions"))["total_count"] == 4
        forged = await api.http.post("/api/v1/tasks", json={"kind": "webhook", "input": {}})
        assert (forged.status_code, forged.json()["field"]) == (400, "kind")
        assert (await api.http.delete(f"/api/v1{path}")).status_code == 200
        assert (await api.get("/webhooks"))["webhooks"] == []


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    ensure_jars()
    running = RunningSystem(tmp_path / "home", PRIVATE)
    try:
        await running.start()
        yield running
    finally:
        await running.stop(20.0)


@pytest.mark.chaos
async def test_deliveries_survive_the_death_of_executor_and_orchestrator(
    system: RunningSystem, receiver: Receiver
) -> None:
    async with door(system) as api:
        receiver.gate.clear()
        tasks = [await api.submit(kind="echo", input={"n": n}, callback_url=receiver.url) for n in range(10)]
        await eventually(lambda: bool(receiver.received))  # a delivery is under way
        for name in ("executor-1", "orchestrator-1"):
            old = system.kill_process(name, signal.SIGKILL)
            await system.wait_replaced(name, old)
        receiver.gate.set()
        for task in tasks:
            [delivery] = await delivered(api, task, timeout_s=90)
            ids = {r.headers["webhook-id"] for r in receiver.received if json.loads(r.body)["data"]["task_id"] == task}
            assert ids == {delivery["delivery_id"]}


def test_after_all_deliveries_store_and_views_agree(running_system: RunningSystem) -> None:
    environment = {**os.environ, "TASKLOOM_HOME": str(running_system.home)}
    verify = [sys.executable, "-m", "taskloom", "verify", "--timeout", "20"]
    done = subprocess.run(verify, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
