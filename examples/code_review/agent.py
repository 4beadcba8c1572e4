"""The agent of the code review example: checks a pull request, mends what it can, and asks a person for the rest.

A pull request is here two branches of a repository: ``file:///…/repository?base=main&head=discounts``. Each task works
on a clone of its own, so they do not disturb each other. A check that finds something is no failed step: it sets
``all_checks_passed`` to false, and the workflow decides what follows.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from examples.code_review.checks import Issue, dangerous_calls, without_eval
from examples.shared.commands import clone, git, pytest, python, run
from examples.shared.repository import AUTHOR
from taskloom.client import AsyncClient
from taskloom.client.tasks import Task, TaskType
from taskloom.kinds import TaskError

Found = dict[str, Any]


class PullRequest(msgspec.Struct, frozen=True):
    repository_url: str
    base: str
    head: str

    @classmethod
    def at(cls, url: str) -> "PullRequest":
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return cls(f"{parts.scheme}://{parts.netloc}{parts.path}", query["base"], query["head"])


async def perform(task: Task, context: Found) -> Found:
    """What a step gives: its own result, and ``variables`` for the steps after it."""
    told = task.metadata
    pull_request = PullRequest.at(told["pr_url"])
    if task.task_type is TaskType.CODE_REVIEW:
        return await ask_a_person(context["task_id"], pull_request, told["workflow_variables"])
    async with checkout_of(pull_request) as checkout:
        if told.get("check_type") == "lint":
            return verdict("lint", await lint(checkout, pull_request))
        if told.get("check_type") == "security":
            files = await changed(checkout, pull_request)
            return verdict("security", await asyncio.to_thread(security, checkout, files))
        if task.task_type is TaskType.TESTING:
            return await tests(checkout)
        if told.get("action") == "fix_issues":
            return await mend(checkout, pull_request)
    raise TaskError("unknown_work", f"this agent does not know {told}", retryable=False)


@asynccontextmanager
async def checkout_of(pull_request: PullRequest) -> AsyncIterator[Path]:
    """A clone at the head of the pull request; gone after the block."""
    with tempfile.TemporaryDirectory(prefix="review-") as place:
        checkout = Path(place) / "checkout"
        await clone(pull_request.repository_url, checkout, pull_request.head)
        yield checkout


async def changed(checkout: Path, pull_request: PullRequest) -> list[str]:
    """The Python files that the pull request changes or adds."""
    span = f"origin/{pull_request.base}...HEAD"
    names = await git("diff", "--name-only", "--diff-filter=d", span, "--", "*.py", cwd=checkout)
    return names.split()


async def lint(checkout: Path, pull_request: PullRequest) -> list[Issue]:
    files = await changed(checkout, pull_request)
    _, said = await python("-m", "ruff", "check", "--no-cache", "--output-format=json", *files, cwd=checkout, ok=1)
    return [
        Issue(str(Path(each["filename"]).relative_to(checkout)), each["location"]["row"], each["code"], each["message"])
        for each in json.loads(said)
    ]


def security(checkout: Path, files: list[str]) -> list[Issue]:
    return [issue for file in files for issue in dangerous_calls((checkout / file).read_text(), file)]


async def tests(checkout: Path) -> Found:
    counts = await pytest(checkout)
    failed = [Issue("tests", 0, "test", f"{counts['failed']} of the tests fail")] if counts["failed"] else []
    found = verdict("tests", failed)
    return found | {"variables": found["variables"] | {"tests_passed": counts["passed"]}}


def verdict(check: str, issues: list[Issue]) -> Found:
    """Checks run side by side, so none says that all passed: each only says when it did not."""
    told = [f"{issue.file}:{issue.line} {issue.code} {issue.message}" for issue in issues]
    return {"variables": {f"{check}_issues": told} | ({"all_checks_passed": False} if issues else {})}


async def mend(checkout: Path, pull_request: PullRequest) -> Found:
    """Mends, tests and pushes a commit. A second attempt finds nothing to mend, and makes no second commit."""
    await asyncio.to_thread(_mend_files, checkout, files := await changed(checkout, pull_request))
    await python("-m", "ruff", "check", "--no-cache", "--fix", "--quiet", *files, cwd=checkout, ok=1)
    if not await git("status", "--porcelain", cwd=checkout):
        return {"variables": {"fixed_by": await git("rev-parse", "HEAD", cwd=checkout)}}
    counts = await pytest(checkout)
    if counts["failed"]:
        raise TaskError("mending_breaks_tests", f"{counts['failed']} tests fail after mending", retryable=False)
    await run("git", "commit", "--quiet", "--all", "--message", "fix: what the checks found", cwd=checkout, env=AUTHOR)
    await git("push", "--quiet", "origin", f"HEAD:{pull_request.head}", cwd=checkout)
    return {"variables": {"fixed_by": await git("rev-parse", "HEAD", cwd=checkout)}}


def _mend_files(checkout: Path, files: list[str]) -> None:
    for path in (checkout / file for file in files):
        path.write_text(without_eval(path.read_text()))


async def ask_a_person(task_id: str, pull_request: PullRequest, known: Found) -> Found:
    """Waits for a person's decision on an approval. The approval is a run of its own, named after this task: another
    attempt waits for the same one."""
    question = f"{pull_request.head} into {pull_request.base}: {known['tests_passed']} tests passed. Take it?"
    step = {"step_type": "approval", "id": "take_it", "message": question, "on_reject": "continue"}
    async with AsyncClient() as client:
        asked = await client.submit(
            task_id=review_id(task_id),
            kind="workflow",
            name=question,
            input={"definition": {"name": "human review", "steps": [step]}},
        )
        answer = (await client.wait(asked.task_id)).response
    if not answer:
        raise TaskError("no_decision", f"nobody decided in {asked.task_id}", retryable=False)
    return {"variables": {"review": answer["results"]["take_it"]}}


def review_id(task_id: str) -> str:
    """Id of the run in which a person decides on a review task."""
    return f"review-{task_id.replace('~', '-')}"
