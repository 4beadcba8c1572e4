"""Templates over REST: looked at, stored, executed."""

from typing import Any

import httpx
import pytest

from taskloom.templates import TEMPLATES
from tests.component.gateway.memory import MemorySystem

TEMPLATES_PATH = "/api/v1/templates"
CI = {"repository_url": "https://example.org/r.git", "commands": {"build": "make", "test": "make test"}}


async def made(client: httpx.AsyncClient, name: str = "ci_cd", **body: Any) -> httpx.Response:
    return await client.post(f"{TEMPLATES_PATH}/{name}", json={"parameters": CI, **body})


async def test_templates_are_listed_with_parameters_and_an_example_that_fits(client: httpx.AsyncClient) -> None:
    listed = (await client.get(TEMPLATES_PATH)).json()
    assert [each["name"] for each in listed["templates"]] == ["ci_cd", "data_processing", "code_review", "monitoring"]
    for each in listed["templates"]:
        assert (await client.get(f"{TEMPLATES_PATH}/{each['name']}")).json() == each
        assert each["parameters"]["type"] == "object"
        assert (await client.post(f"{TEMPLATES_PATH}/{each['name']}", json=each["example"])).status_code == 200
    unknown = await client.get(f"{TEMPLATES_PATH}/nothing")
    assert (unknown.status_code, "ci_cd" in unknown.json()["error"]) == (404, True)


async def test_a_template_alone_changes_nothing(client: httpx.AsyncClient, system: MemorySystem) -> None:
    body = (await made(client)).json()
    assert (body["template"], body["definition"]["name"]) == ("ci_cd", "ci_cd")
    assert not {"saved", "run"} & body.keys()
    assert system.sent == []


async def test_a_template_is_stored_and_the_stored_revision_executed(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    body = (await made(client, save_as="shop", execute={"variables": {"x": 1}, "task_id": "run-1"})).json()
    assert (body["saved"]["id"], body["saved"]["revision"]) == ("shop", 1)
    assert (body["run"]["task_id"], body["run"]["definition_id"], body["run"]["revision"]) == ("run-1", "shop", 1)
    stored = (await client.get("/api/v1/workflows/shop")).json()
    assert stored["definition"] == body["definition"]
    assert system.rows["run-1"].metadata == {"definition_id": "shop"}
    late = await made(client, save_as="shop", expected_revision=0)
    assert late.status_code == 409


async def test_a_template_is_executed_without_being_stored(client: httpx.AsyncClient, system: MemorySystem) -> None:
    run = (await made(client, execute={"name": "mine", "tags": ["t"]})).json()["run"]
    row = system.rows[run["task_id"]]
    assert (row.name, row.tags, row.metadata) == ("mine", ("t",), {"template": "ci_cd"})
    assert "definition_id" not in run
    assert (await client.get("/api/v1/workflows")).json()["total_count"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"parameters": {}}, "parameters.repository_url"),
        ({"parameters": {**CI, "commands": {"x": "y"}}}, "parameters.commands.x"),
        ({"parameters": 3}, "parameters"),
        ({"bogus": 1}, "bogus"),
        ({"save_as": "a b"}, "save_as"),
        ({"execute": {"revision": 2}}, "execute.revision"),
        ({"execute": {"priority": 9}}, "execute.priority"),
        ({"execute": {"bogus": 1}}, "execute.bogus"),
        ({"execute": {"queue": "nobody"}, "save_as": "shop"}, "execute.queue"),
    ],
)
async def test_a_bad_body_is_refused_with_its_path(
    client: httpx.AsyncClient, system: MemorySystem, body: dict[str, Any], field: str
) -> None:
    answer = await made(client, **body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert system.rows == {}


async def test_the_tasks_of_an_example_have_work_to_do(client: httpx.AsyncClient) -> None:
    body = (await made(client, "monitoring", parameters=TEMPLATES["monitoring"].example)).json()
    loop = body["definition"]["steps"][0]
    assert (loop["max_iterations"], loop["loop_steps"][1]["wait_seconds"]) == (100, 60)
