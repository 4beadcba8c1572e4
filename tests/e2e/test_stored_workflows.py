"""Stored workflows over real processes: saved, executed by revision, named by child steps, controlled as runs."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from taskloom.client import AsyncClient
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, Json, door
from tests.e2e.test_doors import Outsider, outsider

__all__ = ["outsider"]  # a fixture

pytestmark = pytest.mark.e2e

WORKFLOWS: Final = "/api/v1/workflows"


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


def name_of(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex[:8]}"


def echo(step: str, *needs: str, **given: Any) -> Json:
    template = {"kind": "echo", "input": given or {"step": step}}
    return {"step_type": "task", "id": step, "depends_on": list(needs), "task_template": template}


def workflow(*steps: Json, **fields: Any) -> Json:
    return {"name": "etl", "steps": list(steps), **fields}


async def save(api: Api, name: str, definition: Json, **fields: Any) -> Json:
    answer = await api.http.put(f"{WORKFLOWS}/{name}", json={"definition": definition, **fields})
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def execute(api: Api, name: str, **fields: Any) -> Json:
    answer = await api.http.post(f"{WORKFLOWS}/{name}/execute", json=fields)
    assert answer.status_code == 202, answer.text
    body: Json = answer.json()
    return body


async def test_each_run_keeps_the_revision_it_was_executed_with(api: Api) -> None:
    name = name_of("etl")
    step = echo("say", text="{{ variables.word }}")
    for number, word in enumerate(("old", "new"), start=1):
        saved = await save(api, name, workflow(step, version=f"{number}.0", variables={"word": word}))
        assert saved["revision"] == number
        seen = await api.get(f"/workflows/{name}")
        assert (seen["revision"], seen["definition"]["variables"]) == (number, {"word": word})
    runs = [await execute(api, name, **which) for which in ({"revision": 1}, {}, {"variables": {"word": "mine"}})]
    ended = [await api.ended(run["task_id"]) for run in runs]
    assert [run["revision"] for run in runs] == [1, 2, 2]
    assert [task["response"]["results"]["say"]["text"] for task in ended] == ["old", "new", "mine"]
    older = await api.get(f"/workflows/{name}", version="1.0")
    assert (older["revision"], older["definition"]["variables"]) == (1, {"word": "old"})
    listed = await api.get("/workflows", after=name[:-1], limit=100)
    assert name in [each["id"] for each in listed["workflows"]]

    async def all_listed() -> bool:
        found = await api.get(f"/workflows/{name}/runs")
        return {task["task_id"] for task in found["tasks"]} == {run["task_id"] for run in runs}

    await eventually(all_listed)
    assert (await api.http.delete(f"{WORKFLOWS}/{name}")).json()["removed"] is True
    assert (await api.http.get(f"{WORKFLOWS}/{name}")).status_code == 404
    assert (await api.http.post(f"{WORKFLOWS}/{name}/execute", json={})).status_code == 404


async def test_a_child_step_runs_the_stored_workflow_of_that_id(api: Api) -> None:
    inner, outer = name_of("inner"), name_of("outer")
    await save(api, inner, workflow(echo("deep"), output="{{ variables.x }}"))
    child = {"step_type": "child", "id": "call", "workflow": inner, "variables": {"x": 7}}
    await save(api, outer, workflow(child))
    run = await execute(api, outer)
    task = await api.ended(run["task_id"])
    assert (task["state"], task["response"]["results"]) == ("completed", {"call": 7})
    assert (await api.task(f"{run['task_id']}~call~deep"))["state"] == "completed"


async def test_a_run_is_controlled_under_its_own_path(api: Api) -> None:
    name = name_of("gates")
    signal = {"step_type": "signal", "id": "go", "signal": "go"}
    await save(api, name, workflow(signal, echo("after", "go", x="{{ variables.x }}"), variables={"x": 1}))
    run = (await execute(api, name))["task_id"]
    await api.until(run, "running")
    path = f"{WORKFLOWS}/{run}"
    assert (await api.http.post(f"{path}/pause", json={})).json()["state"] in ("pausing", "paused")
    paused = await api.get(f"/workflows/{run}/status")
    assert (paused["status"], paused["name"], paused["step_count"]) == ("paused", name, 2)
    assert (await api.http.post(f"{path}/resume")).status_code == 202
    assert (await api.http.patch(f"{path}/variables", json={"values": {"x": 2}})).status_code == 202
    assert (await api.get(f"/workflows/{run}/variables"))["variables"] == {"x": 2}
    assert (await api.http.post(f"{path}/signal", json={"name": "go"})).status_code == 202
    task = await api.ended(run)
    assert task["response"]["results"]["after"] == {"x": 2}
    done = await api.get(f"/workflows/{run}/status")
    assert (done["status"], done["progress_percentage"], done["completed_steps"]) == ("completed", 100.0, 2)
    assert (await api.http.post(f"{path}/cancel", json={})).status_code == 409
    wrong = await api.http.get(f"{WORKFLOWS}/{name}/status")
    assert (wrong.status_code, f"{name}/runs" in wrong.json()["error"]) == (404, True)

    cancelled = (await execute(api, name))["task_id"]
    assert (await api.http.post(f"{WORKFLOWS}/{cancelled}/cancel", json={"reason": "no"})).status_code == 202
    assert (await api.ended(cancelled))["state"] == "cancelled"
    assert (await api.get(f"/workflows/{cancelled}/status"))["status"] == "cancelled"


async def test_a_template_is_stored_and_its_steps_run_commands(api: Api) -> None:
    name = name_of("ci")
    commands = {step: f"echo {step} of {name}" for step in ("build", "test", "deploy")}
    body = {"parameters": {"repository_url": "r", "commands": commands}, "save_as": name, "execute": {}}
    answer = await api.http.post("/api/v1/templates/ci_cd", json=body)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    run = made["run"]["task_id"]
    assert (made["saved"]["id"], made["run"]["revision"]) == (name, 1)
    assert (await api.ended(run))["state"] == "completed"
    steps = (await api.get(f"/tasks/{run}/workflow"))["steps"]
    assert {step["status"] for step in steps} == {"completed"}
    [deploy] = [step["task_id"] for step in steps if step["path"].endswith("deploy")]

    async def deployed() -> bool:
        text = await api.http.get(f"/api/v1/tasks/{deploy}/output", params={"format": "text"})
        return text.text == f"deploy of {name}\n"

    await eventually(deployed)


async def test_the_client_and_the_command_line_store_and_run(
    api: Api, running_system: RunningSystem, tmp_path: Path
) -> None:
    name, file = name_of("etl"), tmp_path / "etl.json"
    file.write_text(json.dumps(workflow(echo("say", word="{{ variables.word }}"))))
    environment = dict(os.environ) | {"TASKLOOM_URL": running_system.url}

    async def taskloom(*words: str) -> str:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "taskloom", "workflows", *words, env=environment, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await program.communicate()
        assert program.returncode == 0, said
        return said.decode()

    assert await taskloom("save", str(file), "--id", name) == f"{name} is at revision 1 (version 1.0)\n"
    async with AsyncClient(running_system.url) as client:
        assert (await client.workflows.get(name)).definition == json.loads(file.read_text())
        run = await client.workflows.execute(name, variables={"word": "client"})
        assert (await client.wait(run.task_id, timeout_s=60)).response["results"] == {"say": {"word": "client"}}
        assert (await client.workflows.status(run.task_id)).status == "completed"
    told = await taskloom("run", name, "--var", "word=line", "--wait")
    assert "completed" in told
    assert '"word":"line"' in told


async def test_what_is_wrong_is_said_with_its_path(api: Api, running_system: RunningSystem) -> None:
    name = name_of("etl")
    faulty = await api.http.put(f"{WORKFLOWS}/{name}", json={"definition": workflow(echo("a", "nobody"))})
    assert (faulty.status_code, faulty.json()["field"]) == (400, "definition.steps[0].depends_on[0]")
    unknown = await api.http.post("/api/v1/tasks", json={"kind": "workflow", "input": {"workflow": name}})
    assert (unknown.status_code, unknown.json()["field"]) == (400, "input.workflow")
    await save(api, name, workflow(echo("a")))
    async with door(running_system, "other") as others:
        assert (await others.http.get(f"{WORKFLOWS}/{name}")).status_code == 404
        assert (await others.http.post(f"{WORKFLOWS}/{name}/execute", json={})).status_code == 404
    late = await api.http.put(f"{WORKFLOWS}/{name}", json={"definition": workflow(echo("b")), "expected_revision": 9})
    assert (late.status_code, late.json()["field"]) == (409, "expected_revision")


async def test_plain_kafka_records_save_execute_and_remove(api: Api, outsider: Outsider) -> None:
    name, run = name_of("etl"), name_of("run")

    async def told(verb: str, data: Any, *, about: str = "definition", key: str = name) -> Json:
        sent = await outsider.send(data, key=key, headers={"ce_type": f"taskloom.{about}.{verb}.v1"})
        return await outsider.reply(sent)

    saved = await told("save", {"definition": workflow(echo("a"))})
    assert (saved["task_id"], saved["data"]["revision"]) == (name, 1)
    refused = await told("save", {"definition": {"name": "x", "steps": []}})
    assert refused["refusal"]["field"] == "definition.steps"
    task: Json = {"kind": "workflow", "input": {"workflow": name}}
    assert "refusal" not in await told("submit", task, about="task", key=run)
    assert (await api.ended(run))["state"] == "completed"
    pinned = {"kind": "workflow", "input": {"workflow": name, "pinned": {}}}
    sent = await outsider.send(pinned, key=name_of("run"))
    assert (await outsider.reply(sent))["refusal"]["field"] == "input.pinned"
    assert (await told("remove", {}))["data"]["removed"] is True
    gone = await told("submit", task, about="task", key=name_of("run"))
    assert gone["refusal"]["field"] == "input.workflow"
