"""Retention beside a running system: what went is 410, its history is told, and it is back when it begins anew."""

import asyncio
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import TASKS, door

pytestmark = pytest.mark.e2e
AT_ONCE = "0.00000001"
"""Days: a millisecond."""


async def retention(system: RunningSystem, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "taskloom",
        "retention",
        *arguments,
        env={**os.environ, "TASKLOOM_DATABASE_DSN": system.dsn},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_what_is_retired_is_gone_from_the_lists_and_comes_back_when_it_is_retried(
    running_system: RunningSystem, tmp_path: Path
) -> None:
    tenant, flag = f"retired-{uuid.uuid4().hex[:8]}", tmp_path / "flag"
    run, lone = f"run-{tenant}", f"lone-{tenant}"

    def step(name: str, command: str, *needs: str) -> dict[str, Any]:
        template = {"kind": "shell", "input": {"cmd": command}, "retry": {"max_attempts": 1}}
        return {"step_type": "task", "id": name, "depends_on": list(needs), "task_template": template}

    async with door(running_system, tenant) as api:
        definition = {"name": "w", "steps": [step("a", "echo a"), step("b", f"test -e {flag}", "a")]}
        await api.submit(task_id=run, kind="workflow", session_id="s", input={"definition": definition})
        await api.submit(task_id=lone, kind="shell", session_id="s", input={"cmd": "echo lone"})
        assert [(await api.ended(name))["state"] for name in (run, lone)] == ["failed", "completed"]
        ages = ["--tenant", tenant, "--completed-days", AT_ONCE, "--failed-days", AT_ONCE]
        assert (await api.get("/tasks"))["total_count"] == 4
        await retention(running_system, *ages, "--apply")
        listed = await api.get("/tasks")
        assert (listed["tasks"], listed["total_count"]) == ([], 0)
        assert (await api.get("/sessions"))["sessions"] == []
        for path in (lone, f"{lone}/output", run, f"{run}/steps"):
            assert (await api.http.get(f"{TASKS}/{path}")).status_code == 410, path
        types = await api.types(lone)
        assert types[-1] == "STREAM_END"
        last = (await api.events(lone))[-1]["seq"]
        assert (await api.task(lone, as_of=last))["state"] == "completed"

        flag.touch()
        assert (await api.control(run, "retry")).status_code == 202

        async def run_completed() -> bool:
            answer = await api.http.get(f"{TASKS}/{run}")
            return answer.status_code == 200 and answer.json()["state"] == "completed"

        async def steps() -> dict[str, str]:
            return {each["path"]: each["status"] for each in (await api.get(f"/tasks/{run}/steps"))["steps"]}

        await eventually(run_completed, 120)

        async def all_steps_are_back() -> bool:
            return await steps() == {"a": "completed", "b": "completed"}

        await eventually(all_steps_are_back, 120)
        await retention(running_system, "restore", lone)
        assert (await api.task(lone))["state"] == "completed"
        assert (await api.http.get(f"{TASKS}/{lone}/output")).status_code == 410, "output does not come back"
        shown = (await api.get("/tasks"))["total_count"]
        assert (shown, (await api.get("/sessions"))["sessions"][0]["task_count"]) == (5, 5), "b was tried by two tasks"
