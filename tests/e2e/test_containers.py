"""Containers through both doors, nodelink's and the native one: gateway, orchestrator, executor and an engine."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskloom.local.home import Home
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.nodelink import check, stream, whole
from tests.e2e.support import Api, Json, door, further_executor
from tests.integration.executor.engine import IMAGE, Engine, engine

pytestmark = pytest.mark.e2e
BOX = "box"
WAIT_S = 60.0
GATED = "echo begun; echo aside >&2; while [ ! -e /gate/open ]; do sleep 0.1; done; echo done"
SECRET = "nobody-tells-this-0815"
LASTING = "echo begun; sleep 3600"


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Engine]:
    with engine() as started:
        if isinstance(started, str):
            pytest.skip(started)
        yield started


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


async def box(http: httpx.AsyncClient, **fields: Any) -> str:
    """Id of a task that nodelink's door has made."""
    answer = await http.post("/tasks/docker", json={"agent_id": BOX, "timeout": 120, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task_id"])


def run(command: str | list[str], **fields: Any) -> Json:
    return {"operation": "run", "image": IMAGE, "command": command, "pull": "never", **fields}


async def native(api: Api, **given: Any) -> str:
    return await api.submit(kind="docker", input=given, executor_id=BOX, queue=BOX, retry={"max_attempts": 2})


def of_task(dockerd: Engine, task_id: str) -> list[Json]:
    return dockerd.containers(f"label=taskloom.task={task_id}")


async def test_containers_run_are_followed_and_stopped_through_both_doors_once_an_engine_answers(
    running_system: RunningSystem, api: Api, dockerd: Engine, tmp_path: Path
) -> None:
    gate, link = tmp_path / "gate", tmp_path / "docker.sock"
    gate.mkdir()
    settings = {"queues": BOX, "docker_host": f"unix://{link}", "docker_mounts": gate, "heartbeat_s": 0.5}
    settings |= {"files_url": f"file://{running_system.home}/files"}
    settings |= {"secrets_key": Home(running_system.home).secrets_key()}
    async with further_executor(running_system, tmp_path, BOX, **settings):
        await without_an_engine_both_doors_say_so(api)
        link.symlink_to(dockerd.host.removeprefix("unix://"))
        await announced(api)
        await output_comes_while_it_runs(api, gate)
        async with asyncio.TaskGroup() as group:
            group.create_task(a_cancel_and_a_time_limit_leave_no_container(api, dockerd))
            group.create_task(failures_say_what_is_wrong(api))
            group.create_task(what_was_left_running_is_read_and_stopped(api, dockerd))
            group.create_task(files_and_stdin_go_in_and_artifacts_come_out(api))
        assert dockerd.containers() == []


async def without_an_engine_both_doors_say_so(api: Api) -> None:
    refused = await api.http.post("/tasks/docker", json={"agent_id": BOX, **run("true")})
    assert (refused.status_code, refused.json()["details"]) == (409, f"agent does not run docker tasks: {BOX}")
    recorded = (await api.http.get(f"/tasks/{refused.json()['task_id']}")).json()
    assert (recorded["status"], recorded["agent_id"]) == ("failed", BOX)
    refused = await api.http.post("/api/v1/tasks", json={"kind": "docker", "input": run("true")})
    assert (refused.status_code, refused.json()["field"]) == (400, "kind")
    assert "TASKLOOM_DOCKER_HOST" in refused.json()["error"]


async def output_comes_while_it_runs(api: Api, gate: Path) -> None:
    mounts = [{"source": str(gate), "target": "/gate"}]
    asked, given = await asyncio.gather(
        box(api.http, **run(GATED, mounts=mounts)), native(api, **run(GATED, mounts=mounts))
    )
    begun = await stream(api.http, asked, limit=2)
    assert {event.data["type"]: event.data["output"] for event in begun} == {"stdout": "begun\n", "stderr": "aside\n"}
    assert not any(event.body["isFinal"] for event in begun)
    assert (await api.http.get(f"/tasks/{asked}")).json()["status"] == "in_progress"
    assert asked in [each["task_id"] for each in (await api.http.get(f"/agents/{BOX}/tasks")).json()["tasks"]]
    (gate / "open").touch()
    rest = await stream(api.http, asked, begun[-1].id)
    assert whole(rest) == "done\n"
    end = check(await stream(api.http, asked))
    assert (end["status"], end["shellExecute"]["exitCode"]) == ("completed", 0)
    done = await api.ended(given, WAIT_S)
    assert (done["state"], done["result"], done["executor_id"]) == ("completed", "begun\ndone", BOX)
    chunks = (await api.get(f"/tasks/{given}/output"))["chunks"]
    assert "".join(chunk["text"] for chunk in chunks if chunk["stream"] == "stderr") == "aside\n"


async def a_cancel_and_a_time_limit_leave_no_container(api: Api, dockerd: Engine) -> None:
    asked, given = await asyncio.gather(box(api.http, **run(LASTING)), native(api, **run(LASTING)))
    late = await box(api.http, **run(LASTING) | {"timeout": 2})
    for task_id in (asked, given):
        await stream(api.http, task_id, limit=1, timeout_s=WAIT_S)
        assert len(of_task(dockerd, task_id)) == 1
    reading = asyncio.create_task(stream(api.http, asked))
    answer = await api.http.delete(f"/tasks/{asked}")
    assert (answer.status_code, answer.json()) == (200, {"message": "task cancelled"})
    assert (await api.control(given, "cancel")).is_success
    end = check(await reading)
    assert (end["cancelled"], end["taskCancel"]) == (True, {"message": "cancelled by user"})
    assert (await api.ended(given, WAIT_S))["state"] == "cancelled"
    assert check(await stream(api.http, late))["status"] == "timeout"
    for task_id in (asked, given, late):
        assert of_task(dockerd, task_id) == []


async def failures_say_what_is_wrong(api: Api) -> None:
    wrong, missing = run("echo because >&2; exit 7"), run("true") | {"image": "no/such:image"}
    failed = check(await stream(api.http, await box(api.http, **wrong)))
    assert (failed["status"], failed["shellExecute"]["exitCode"]) == ("failed", 7)
    absent = check(await stream(api.http, await box(api.http, **missing)))
    assert (absent["status"], absent["shellExecute"]["exitCode"]) == ("failed", 1)
    assert "no/such:image" in absent["shellExecute"]["stderr"]
    told = await api.ended(await native(api, **missing), WAIT_S)
    assert (told["state"], told["error_type"], told["attempt"]) == ("failed", "image_missing", 1)
    for body in (
        {"operation": "run", "image": "Not An Image"},
        {"operation": "stop", "image": IMAGE},
        {"operation": "run"},
    ):
        refused = await api.http.post("/tasks/docker", json={"agent_id": BOX, **body})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid request")
        refused = await api.http.post("/api/v1/tasks", json={"kind": "docker", "input": body})
        assert refused.status_code == 400
        assert refused.json()["field"].startswith("input.")


async def files_and_stdin_go_in_and_artifacts_come_out(api: Api) -> None:
    assert (await api.http.put("/api/v1/files/boxed", content=b"from a file\n")).is_success
    given = run(
        "cat in/boxed - > out.txt; echo $TOKEN",
        files=[{"path": "in/boxed", "file": "boxed"}],
        artifacts=["*.txt"],
        stdin="from stdin\n",
        env={"TOKEN": {"secret": "boxed"}},
    )
    assert (await api.http.put("/api/v1/secrets/boxed", json={"value": SECRET})).is_success
    for task_id in await asyncio.gather(native(api, **given), box(api.http, **given)):
        done = await api.ended(task_id, WAIT_S)
        assert (done["state"], done["result"]) == ("completed", "***")
        assert done["response"]["artifacts"] == [{"path": "out.txt", "size_bytes": 23}]
        content = await api.http.get(f"/api/v1/tasks/{task_id}/artifacts/out.txt")
        assert content.text == "from a file\nfrom stdin\n"
        assert SECRET not in repr([done, await api.events(task_id)])


async def what_was_left_running_is_read_and_stopped(api: Api, dockerd: Engine) -> None:
    assert (await api.http.put("/api/v1/secrets/left", json={"value": SECRET})).is_success
    begun = await box(api.http, **run("echo up $TOKEN; sleep 3600", detach=True, env={"TOKEN": {"secret": "left"}}))
    assert check(await stream(api.http, begun))["status"] == "completed"
    name = (await api.task(begun))["response"]["container_id"]
    try:
        following = await box(api.http, operation="logs", id=name, follow=True)
        assert whole(await stream(api.http, following, limit=1)) == "up ***\n"
        stopped = await box(api.http, operation="stop", id=name, grace_s=0)
        assert check(await stream(api.http, stopped))["status"] == "completed"
        assert check(await stream(api.http, following))["status"] == "completed"
        other = check(await stream(api.http, await box(api.http, operation="start", id="nobody")))
        assert other["status"] == "failed"
        assert "nobody" in other["error"]
    finally:
        dockerd.ask("rm", "--force", name)


async def announced(api: Api) -> None:
    """Returns when the executor's signs of life say that it runs containers."""

    async def is_announced() -> bool:
        found = (await api.get("/executors"))["executors"]
        return any(each["executor_id"] == BOX and "docker" in each["kinds"] for each in found)

    await eventually(is_announced, WAIT_S)
