"""Commands that an agent runs: under the executor's supervision, with their output as the task's own."""

import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from taskloom.kinds import TaskError, current_context

QUIET: Final = {
    "PYTHONPATH": "",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
"""The commands work on another project: they must not import what the agent imports, nor do as its user is used to."""


async def run(
    *argv: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, stdin: str = "", ok: int = 0
) -> tuple[int, str]:
    """Exit code and stdout. The process dies with the attempt: when it is cancelled, and when the agent is killed.

    Raises:
        TaskError: the exit code is above ``ok``.
    """
    ctx = current_context()
    words = [str(word) for word in argv]
    await ctx.write(f"$ {' '.join(Path(word).name if word == sys.executable else word for word in words)}\n")
    process = await ctx.spawn(
        words, cwd=None if cwd is None else str(cwd), env={**QUIET, **(env or {})}, stdin=stdin.encode()
    )
    said = bytearray()
    last = b""
    async for stream, data in process.output():
        await ctx.write(data, "stderr" if stream == "stderr" else "stdout")
        if stream == "stdout":
            said += data
        last = data
    ended = await process.wait()
    if not 0 <= ended.code <= ok:
        reason = last.decode(errors="replace").strip().rpartition("\n")[2]
        raise TaskError("command_failed", f"{' '.join(words[:4])} … ended with {ended.code}: {reason}"[:500])
    return ended.code, said.decode(errors="replace")


async def git(*words: str | Path, cwd: Path | None = None) -> str:
    """What git says, without the line's end."""
    _, said = await run("git", *words, cwd=cwd)
    return said.strip()


async def clone(repository_url: str, target: Path, revision: str = "") -> str:
    """A fresh clone at a branch or commit, else at the default branch; returns the commit."""
    await git("clone", "--quiet", repository_url, target)
    if revision:
        await git("checkout", "--quiet", revision, cwd=target)
    return await git("rev-parse", "HEAD", cwd=target)


async def python(*words: str | Path, **options: Any) -> tuple[int, str]:
    return await run(sys.executable, *words, **options)


async def pytest(checkout: Path) -> dict[str, int]:
    """Runs the checkout's tests: how many passed, failed and were skipped."""
    report = checkout.with_name(f"{checkout.name}-tests.xml")
    await python("-m", "pytest", "--quiet", f"--junitxml={report}", cwd=checkout, ok=1)
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    count = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in suites:
        for name in count:
            count[name] += int(suite.get(name, "0"))
    failed = count["failures"] + count["errors"]
    return {"passed": count["tests"] - failed - count["skipped"], "failed": failed, "skipped": count["skipped"]}
