"""Tasks that are retried, changed and deleted, over real processes and through every door."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from taskloom.client import AsyncClient, Conflict, NotFound
from taskloom.client.tasks import Task, TaskAPI, TaskPriority, UpdateTaskRequest
from taskloom.testing.processes import RunningSystem
from tests.chaos.workload import verify
from tests.e2e.support import TASKS, Api, door

pytestmark = pytest.mark.e2e
FAR = "2999-01-01T00:00:00Z"


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


@pytest.fixture
async def client(running_system: RunningSystem) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(running_system.url) as client:
        yield client


@pytest.fixture
def run() -> str:
    return uuid.uuid4().hex[:8]


async def test_a_failed_task_runs_again_and_its_stream_goes_on(api: Api, client: AsyncClient, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    task_id = await api.submit(
        kind="shell", input={"cmd": f"test -e {flag}"}, retry={"max_attempts": 2, "initial_s": 0}
    )
    assert (await api.ended(task_id))["state"] == "failed"
    flag.touch()
    assert (await client.retry(task_id, "the flag is there")).state in ("ready", "assigned")
    task = await api.ended(task_id)
    assert (task["state"], task["attempt"], task.get("error")) == ("completed", 3, None)
    statuses = [each.status for each in await client.executions(task_id)]
    assert statuses == ["failed", "failed", "completed"]
    kinds = [item.type async for item in client.stream(task_id)]
    assert (kinds.count("WORKFLOW_FAILED"), kinds.count("TASK_RETRIED"), kinds[-1]) == (1, 1, "WORKFLOW_COMPLETED")
    with pytest.raises(Conflict):
        await client.retry(task_id)


async def test_a_run_that_failed_goes_on_within_its_steps_and_completes(
    api: Api, client: AsyncClient, run: str, tmp_path: Path
) -> None:
    flag, log = tmp_path / "flag", tmp_path / "log"

    def step(name: str, command: str, *needs: str) -> dict[str, Any]:
        once = {"max_attempts": 1}
        template = {"kind": "shell", "input": {"cmd": f"echo {name} >> {log}; {command}"}, "retry": once}
        return {"step_type": "task", "id": name, "depends_on": list(needs), "task_template": template}

    inner = {"name": "inner", "steps": [step("x", "true"), step("y", f"test -e {flag}", "x")]}
    wide = {"step_type": "map", "id": "m", "items": [0, 1], "task_template": {"kind": "shell"}}
    wide["task_template"] = {**step("m{{ item }}", f"[ {{{{ item }}}} = 0 ] || test -e {flag}")["task_template"]}
    child = {"step_type": "child", "id": "c", "definition": inner}
    steps = [step("a", "true"), wide, child, step("z", "true", "a", "m", "c")]
    await api.submit(task_id=run, tags=[run], kind="workflow", input={"definition": {"name": "w", "steps": steps}})
    assert (await api.ended(run))["state"] == "failed"
    assert (await client.workflows.status(run)).failed_steps == 2
    flag.touch()
    again = await client.bulk("retry", {"tag": run})
    assert (again.sent, again.refused, again.unanswered) == (1, [], 0)
    task = await api.ended(run)
    assert (task["state"], task["steps"]["failed"]) == ("completed", 0)
    lines = sorted(log.read_text().split())
    assert lines == ["a", "m0", "m1", "m1", "x", "y", "y", "z"]
    shown = {each.path: each for each in (await client.steps(run)).steps}
    assert {path: each.status for path, each in shown.items()} == dict.fromkeys(
        ("a", "c", "m", "m.0", "m.1", "z"), "completed"
    )
    assert (shown["m.1"].task_id, shown["m.0"].task_id) == (f"{run}~m.1..2", f"{run}~m.0")
    assert (await client.workflows.status(run)).restarts == 1
    with pytest.raises(Conflict):
        await client.workflows.retry(run)


async def test_a_waiting_task_moves_when_it_is_given_to_another_executor(
    api: Api, client: AsyncClient, run: str
) -> None:
    task_id = await api.submit(kind="echo", input={"n": 1}, executor_id=f"nobody-{run}", metadata={"run": run})
    assert (await client.why(task_id)).gates
    await api.task(task_id)  # Now the read side shows it, and a filter finds it.
    assert [each.task_id for each in (await client.list_tasks(assigned_to=f"nobody-{run}")).tasks] == [task_id]
    await client.update(task_id, assigned_to=None, metadata={"run": None, "moved": run}, description="freed")
    task = await api.ended(task_id)
    assert (task["state"], task["metadata"], task["description"]) == ("completed", {"moved": run}, "freed")
    with pytest.raises(Conflict, match="priority"):
        await client.update(task_id, priority=5)


async def test_a_running_task_is_deleted_after_it_has_stopped_and_its_history_stays(
    api: Api, client: AsyncClient
) -> None:
    task_id = await api.submit(kind="shell", input={"cmd": "sleep 60"})
    await api.until(task_id, "running")
    assert (await client.delete(task_id, "by mistake")).state == "cancelling"
    async with asyncio.timeout(60):
        async for _ in client.stream(task_id):
            pass
    assert (await client.delete(task_id)).state == "deleted"
    with pytest.raises(NotFound):
        await client.get(task_id)
    assert [event.type for event in await client.events(task_id)][-1] == "TASK_DELETED"
    assert (await client.timeline(task_id))[-1].message == "Deleted: by mistake"


async def test_one_wish_for_many_tasks(api: Api, client: AsyncClient, run: str) -> None:
    ids = [await api.submit(kind="echo", run_at=FAR, tags=[run]) for _ in range(20)]
    for task_id in ids:
        await api.task(task_id)  # Now the read side shows it, and a filter finds it.
    dry = await client.bulk("cancel", {"tag": run}, dry_run=True)
    assert (dry.matched, dry.sent) == (20, 20)
    changed = await client.bulk("update", {"tag": run}, changes={"priority": "urgent"})
    assert (changed.sent, changed.refused, changed.unanswered) == (20, [], 0)
    cancelled = await client.bulk("cancel", {"task_ids": ids[:5]}, reason="enough")
    assert (cancelled.sent, cancelled.refused) == (5, [])
    first = await client.bulk("delete", {"tag": run}, limit=15)
    assert first.next_cursor is not None
    rest = await client.bulk("delete", {"tag": run}, limit=15, cursor=first.next_cursor)
    assert (first.sent, rest.sent, rest.next_cursor) == (15, 5, None)
    for task_id in ids:
        assert (await api.http.get(f"{TASKS}/{task_id}")).status_code == 404
    assert (await client.list_tasks(tag=run)).tasks == []


async def test_the_task_api_updates_moves_retries_and_deletes(running_system: RunningSystem, run: str) -> None:
    async with TaskAPI(running_system.url) as tasks:
        task = Task(name="n", created_by="me", metadata={"cmd": "exit 1"}, max_retries=0, assigned_to=f"nobody-{run}")
        await tasks.create_task(task)
        change = UpdateTaskRequest(
            name="renamed", description="why", priority=TaskPriority.URGENT, tags={run}, metadata={"k": 1}
        )
        updated = await tasks.update_task(task.id, change)
        assert updated is not None
        assert (updated.name, updated.description, updated.priority) == ("renamed", "why", TaskPriority.URGENT)
        assert (updated.tags, updated.metadata, updated.assigned_to) == (
            {run},
            {"cmd": "exit 1", "k": 1},
            f"nobody-{run}",
        )
        [executor] = [each for each in await tasks.client.executors() if each.executor_id == "executor-1"]
        failed = await tasks.execute_task(task.id, executor.executor_id, timeout_s=60)
        assert (failed.is_successful(), failed.executor_id) == (False, executor.executor_id)
        again = await tasks.retry_task(task.id, timeout_s=60)
        assert again is not None
        assert again.execution_number == failed.execution_number + 1
        assert await tasks.delete_task(task.id)
        assert await tasks.get_task(task.id) is None
        unknown: UUID = uuid.uuid4()
        assert not await tasks.delete_task(unknown)
        assert await tasks.update_task(unknown, change) is None
        assert await tasks.retry_task(unknown) is None


async def test_after_all_that_store_and_views_agree(running_system: RunningSystem) -> None:
    await verify(running_system)


async def test_a_run_is_forked_half_way_and_laid_beside_its_source(api: Api, client: AsyncClient, run: str) -> None:
    steps = [
        {"step_type": "task", "id": "a", "task_template": {"kind": "echo", "input": {"n": 1}}},
        {
            "step_type": "task",
            "id": "b",
            "depends_on": ["a"],
            "task_template": {"kind": "echo", "input": {"n": "{{ variables.n }}", "a": "{{ steps.a.result.n }}"}},
        },
    ]
    source, fork = f"source-{run}", f"fork-{run}"
    body = {"definition": {"name": "p", "steps": steps, "variables": {"n": 1}}}
    await api.submit(task_id=source, kind="workflow", input=body)
    assert (await api.ended(source))["state"] == "completed"
    events = (await api.get(f"/tasks/{source}/events"))["events"]
    at = next(event["seq"] for event in events if event["message"].startswith("Step b"))
    forked = await client.fork(source, at, {"input": {"variables": {"n": 2}}}, new_id=fork)
    assert forked.task_id == fork
    assert (await api.ended(fork))["response"]["results"] == {"a": {"n": 1}, "b": {"n": 2, "a": 1}}
    diff = await client.diff(source, fork)
    assert [field.path for field in diff.fields] == ["input.variables.n"]
    assert {pair.path: pair.same for pair in diff.steps} == {"a": True, "b": False}
    with pytest.raises(NotFound):
        await client.fork(f"nobody-{run}")
