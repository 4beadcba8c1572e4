"""The agent of the CI/CD example: builds, tests and deploys a project that lies in a Git repository.

Its function gets every task of the three types. What it needs is in the task's metadata: the repository, and the
workflow's context and variables, as the steps before left them.
"""

import asyncio
import json
import shutil
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from examples.shared.commands import clone, pytest, python
from taskloom.client.tasks import Task, TaskType
from taskloom.kinds import TaskError

SAMPLE = "to be or not to be, that is the question: be it so"


async def perform(task: Task, context: dict[str, Any]) -> dict[str, Any]:
    """What a step gives: its own result, and ``variables`` for the steps after it."""
    work = Path(task.metadata["workflow_context"]["work_directory"])
    known = task.metadata["workflow_variables"]
    if task.task_type is TaskType.CODE_GENERATION:
        return await build(task.metadata["repository_url"], known.get("revision", ""), work)
    if task.task_type is TaskType.TESTING:
        return await check(Path(known["checkout"]))
    if task.task_type is TaskType.DEPLOYMENT:
        return await deploy(known, Path(task.metadata["workflow_context"]["deploy_directory"]))
    raise TaskError("unknown_work", f"this agent does not do {task.task_type}", retryable=False)


async def build(repository_url: str, revision: str, work: Path) -> dict[str, Any]:
    """Clones into a directory of its own, so that another attempt is not in the way, and builds a wheel there."""
    checkout = Path(tempfile.mkdtemp(prefix="build-", dir=work)) / "checkout"
    commit = await clone(repository_url, checkout, revision)
    dist = checkout.with_name("dist")
    await python("-m", "hatchling", "build", "--target", "wheel", "--directory", dist, cwd=checkout)
    [wheel] = dist.glob("*.whl")
    version = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["version"]
    found = {"commit": commit, "version": version, "wheel": str(wheel), "checkout": str(checkout)}
    return {"bytes": wheel.stat().st_size, "variables": found}


async def check(checkout: Path) -> dict[str, Any]:
    """Lints and tests. A failed test is a result, not a failure of the step: the workflow decides what follows."""
    _, said = await python("-m", "ruff", "check", "--output-format=json", "--no-cache", cwd=checkout, ok=1)
    issues = len(json.loads(said))
    tests = await pytest(checkout)
    passed = not tests["failed"] and not issues and tests["passed"] > 0
    counts = {"tests_passed": tests["passed"], "tests_failed": tests["failed"], "lint_issues": issues}
    return {"variables": {"test_status": "passed" if passed else "failed", **counts}}


async def deploy(built: dict[str, Any], target: Path) -> dict[str, Any]:
    current = await asyncio.to_thread(_switch, target, Path(built["wheel"]), built["commit"][:12])
    return {"variables": {"deployed": await _answer_of(current, built)}}


def _switch(target: Path, wheel: Path, name: str) -> Path:
    """Unpacks the wheel as a release of its own, and lets ``current`` point to it: at no moment is there half of it.

    Doing it twice leaves the same: the release is named after its commit.
    """
    release, current = target / "releases" / name, target / "current"
    if not release.exists():
        release.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=release.parent))
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(fresh)  # a pure wheel is what lies in site-packages
        try:
            fresh.rename(release)
        except OSError:  # another attempt was first
            shutil.rmtree(fresh)
    link = Path(tempfile.mkdtemp(dir=release.parent)) / "link"
    link.symlink_to(release.relative_to(target))
    link.replace(current)
    link.parent.rmdir()
    return current


async def _answer_of(current: Path, built: dict[str, Any]) -> dict[str, Any]:
    """Runs what is deployed now, which must be what was built."""
    asked = "import importlib.metadata as m, wordtally; print(m.version('wordtally'), wordtally.__file__)"
    env = {"PYTHONPATH": str(current)}
    _, said = await python("-c", asked, env=env)
    version, file = said.split()
    if version != built["version"] or not Path(file).is_relative_to(current):
        raise TaskError("wrong_release", f"{current} runs {version} from {file}, not {built['version']}")
    _, answer = await python("-m", "wordtally", env=env, stdin=SAMPLE)
    return {"version": version, "commit": built["commit"], "answer": answer.splitlines()}
