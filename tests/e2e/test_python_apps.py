"""An app of decorated functions, run by ``taskloom executor --app``, submitted to from a program."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from taskloom.app import Mismatch, TaskFailed, register_definitions
from taskloom.client import AsyncClient, Client
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.data import shop_app
from tests.e2e.data.shop_app import Line, Order, Receipt
from tests.e2e.support import Api, FurtherExecutor, all_processes_gone, door, processes_with

pytestmark = pytest.mark.e2e

HERE: Final = Path(__file__).parent / "data"
EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "python" / "app.py"


class AppExecutor(FurtherExecutor):
    """``taskloom executor --app`` in a directory, beside a running ``taskloom up``: it finds that by its home."""

    def __init__(self, system: RunningSystem, log_home: Path, directory: Path, *arguments: str) -> None:
        super().__init__(system, log_home, f"app-{uuid4().hex[:8]}")
        self._directory = directory
        self._arguments = [*arguments, "--id", self.name]

    def command(self) -> list[str]:
        program = [sys.executable, "-m", "taskloom", "executor", *self._arguments]
        return ["env", f"--chdir={self._directory}", *program]

    def environment(self) -> dict[str, str]:
        return dict(os.environ) | {"TASKLOOM_HOME": str(self._system.home)}


@pytest.fixture(scope="module")
def log_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("apps")


@pytest.fixture
async def executor(running_system: RunningSystem, log_home: Path) -> AsyncIterator[AppExecutor]:
    executor = AppExecutor(running_system, log_home, HERE, "--app", "shop_app:app", "--slots", "20")
    try:
        await executor.start()
        yield executor
    finally:
        await executor.stop(15.0)


@pytest.fixture
def client(running_system: RunningSystem) -> Iterator[Client]:
    with Client(running_system.url) as client:
        yield client


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


ORDER: Final = Order("7", [Line(sku="a"), Line(sku="b", count=2)])


async def test_tasks_and_workflows_of_an_app_run_typed_from_end_to_end(
    running_system: RunningSystem, executor: AppExecutor, api: Api
) -> None:
    table = executor.log_path.read_text()
    assert "shop.charge" in table
    assert "workflow 1.2" in table
    listed = (await api.get(f"/executors/{executor.name}"))["kinds"]
    assert "shop.charge" in listed
    assert "shell" not in listed
    assert f"stored {shop_app.checkout.id}, revision 1" in table
    stored = await api.get(f"/workflows/{shop_app.checkout.id}")
    assert (stored["definition"], stored["version"]) == (shop_app.checkout.definition, "1.2")

    async with AsyncClient(running_system.url) as client:
        charged = await shop_app.charge.submit(client, ORDER, fail_times=1)
        receipt = await charged.result(30)
        assert receipt == Receipt("c-7-True", ok=True, amount=Decimal(10))
        assert (await charged.task()).attempt == 2

        weighed = await shop_app.weigh.submit(client, ["a"])
        told = await weighed.result(30)
        assert told["grams"] == 100
        assert told["pid"] != executor.pid
        assert (await weighed.task()).progress == 1.0
        assert [chunk.text async for chunk in client.output(weighed.task_id)] == ["on the scales\n"]

        await _checked_at_the_door(api)
        await _checked_at_the_edge(client)
        await _stopped(client)
        await _workflows(client, api)


async def _checked_at_the_door(api: Api) -> None:
    wrong = {"line": {"sku": "a", "count": 0}, "order_id": "7"}
    answer = await api.http.post("/api/v1/tasks", json={"kind": "shop.pack", "queue": "shop", "input": wrong})
    assert (answer.status_code, answer.json()["field"]) == (400, "input.line.count")
    steps = [{"step_type": "task", "id": "p", "task_template": {"kind": "shop.pack", "queue": "shop", "input": wrong}}]
    run = await api.submit(kind="workflow", input={"definition": {"name": "w", "steps": steps}})
    assert "input.line.count" in (await api.ended(run))["error"]


async def _checked_at_the_edge(client: AsyncClient) -> None:
    with pytest.raises(Mismatch, match=r"line\.count: .*greater"):
        await shop_app.pack.submit(client, Line.model_construct(sku="a", count=0), "7")
    with pytest.raises(TaskFailed, match=r"invalid_result: result: .*integer") as failed:
        await (await shop_app.lies.submit(client)).result(30)
    assert failed.value.task.attempt == 1


async def _stopped(client: AsyncClient) -> None:
    """A process is killed, a thread ends where it asks."""
    marker = f"endless-{uuid4().hex}"
    running = await shop_app.endless.submit(client, marker)
    waiting = await shop_app.patient.submit(client, 60)
    for handle in (running, waiting):
        await eventually(lambda handle=handle: _is(handle, "running"))  # type: ignore[misc]
    await eventually(lambda: processes_with(running.task_id))
    for handle in (running, waiting):
        await handle.cancel("enough")
        with pytest.raises(TaskFailed) as ended:
            await handle.result(30)
        assert ended.value.state == "cancelled"
    await all_processes_gone(running.task_id)


async def _is(handle: Any, state: str) -> bool:
    return bool((await handle.task()).state == state)


async def _workflows(client: AsyncClient, api: Api) -> None:
    good = await shop_app.checkout.options(title="Order 7").submit(client, ORDER, ask=True)

    async def asked() -> bool:
        answer = await api.http.post(f"/api/v1/tasks/{good.task_id}/approvals/approval", json={"approved": True})
        return answer.status_code == 202

    await eventually(asked)
    assert await good.result(60) == {
        "receipt": {"id": "c-7-True", "ok": True, "amount": "10"},
        "label": "to 7: 7:ax1",
        "grams": 200,
        "notes": ["0a", "1b"],
        "rounds": 3,
    }

    assert await register_definitions(client, shop_app.app) == {"shop.checkout": 1, "shop.packing": 1}
    assert await register_definitions(client, shop_app.app) == {"shop.checkout": 1, "shop.packing": 1}
    stored = await api.http.post(
        "/api/v1/workflows/shop.packing/execute", json={"variables": {"order": {"id": "9", "lines": [{"sku": "a"}]}}}
    )
    assert stored.is_success, stored.text

    bad = await shop_app.checkout.submit(client, Order("8", amount=Decimal(500)))
    with pytest.raises(TaskFailed, match=r"input\.seconds") as failed:
        await bad.result(60)
    assert failed.value.state == "failed"
    undone = [each for each in await api.events(bad.task_id) if each["type"] == "STEP_COMPENSATED"]
    assert [each["payload"]["path"] for each in undone] == ["charge"]


async def test_the_example_runs_as_its_head_says(running_system: RunningSystem, log_home: Path) -> None:
    executor = AppExecutor(running_system, log_home, EXAMPLE.parent, "--app", "app:app")
    try:
        await executor.start()
        done = subprocess.run(
            [sys.executable, "-W", "error", str(EXAMPLE)],
            env=dict(os.environ) | {"TASKLOOM_URL": running_system.url},
            capture_output=True,
            text=True,
            timeout=90,
        )
    finally:
        await executor.stop(15.0)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "order 1: paid 12.50, sent 3 parcels\norder 2: refused, the customer was told\n"


def test_a_wrong_app_ends_the_command_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskloom", "executor", "--app", "shop_app:shop"],
        cwd=HERE,
        env=dict(os.environ) | {"TASKLOOM_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --app shop_app:shop: shop_app has no 'shop'; it has shop_app:app\n"
