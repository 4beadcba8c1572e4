"""README and docs: code blocks marked ``run`` are run in order against a live system; what is named exists.

A block ```` ```sh run ```` or ```` ```python run ```` must end well. A block ```` ```text same ```` after it is what it
printed, words with digits in them apart (ids, times, counts).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from services.executor.link.settings import AgentSettings
from services.executor.settings import ExecutorSettings
from services.gateway.settings import GatewaySettings
from services.orchestrator.settings import OrchestratorSettings
from services.projection.settings import ProjectionSettings
from taskloom.cli.main import VERBS
from taskloom.local.settings import LocalSettings
from taskloom.testing.processes import RunningSystem

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
LIMIT_S: Final = 60
COMPOSE_VARIABLES: Final = {
    "TASKLOOM_AGENT_ID",
    "TASKLOOM_HTTP_PORTS",
    "TASKLOOM_POSTGRES_PASSWORD",
    "TASKLOOM_API_KEY",
    "TASKLOOM_URL",
    "TASKLOOM_IMAGE",
}
"""Read by docker-compose.yml and the examples, not by a service."""


class Block(NamedTuple):
    """``info``: the words after the fence; ``line``: where the fence is."""

    info: tuple[str, ...]
    text: str
    line: int


def blocks(document: str) -> Iterator[Block]:
    text = (ROOT / document).read_text()
    for found in re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(tuple(found[1].split()), found[2], text[: found.start()].count("\n") + 1)


def prose(document: str) -> str:
    return re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)


def shell_text(document: str) -> str:
    return "".join(block.text for block in blocks(document) if block.info[:1] == ("sh",))


def masked(text: str) -> list[str]:
    return [re.sub(r"\S*\d\S*", "#", line) for line in text.rstrip().splitlines()]


@pytest.mark.e2e
@pytest.mark.parametrize("document", [name for name in DOCUMENTS if any("run" in b.info for b in blocks(name))])
def test_code_of_the_document_runs_and_prints_what_it_says(
    document: str, running_system: RunningSystem, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed (Debian: apt-get install curl)")
    printed = ""
    for block in blocks(document):
        where = f"{document}, line {block.line}"
        if "run" in block.info:
            if "kcat" in block.info and shutil.which("kcat") is None:
                continue  # an optional tool (Debian: apt-get install kcat)
            printed = run(block, running_system, tmp_path, where)
        elif "same" in block.info:
            assert masked(printed) == masked(block.text), where


def run(block: Block, system: RunningSystem, folder: Path, where: str) -> str:
    text = block.text.replace("http://127.0.0.1:8080", system.url).replace("127.0.0.1:9092", system.bootstrap)
    python = [sys.executable, "-W", "error", "-c", text]
    shell = ["bash", "-euo", "pipefail", "-c", text]
    environment = dict(os.environ) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TASKLOOM_KAFKA_BOOTSTRAP": system.bootstrap,
        "TASKLOOM_DATABASE_DSN": system.dsn,
    }
    command = {"python": python, "sh": shell}[block.info[0]]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{where}: {done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_are_blocks_that_run() -> None:
    assert sum("run" in block.info for name in DOCUMENTS for block in blocks(name)) >= 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", prose(document))

    missing = [link for link in links if not ((ROOT / document).parent / link).exists()]

    assert missing == []


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if not re.match(r"docs/decisions/\d", name)])
def test_files_that_are_named_exist(document: str) -> None:
    rooms = "libs|services|contracts|infra|tests|docs|examples|requirements|scripts"
    named = re.findall(rf"`((?:{rooms})/[\w./-]*\w/?)`", prose(document))

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_index_names_every_decision() -> None:
    folder = ROOT / "docs" / "decisions"

    listed = re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text())

    assert sorted(listed) == sorted(path.name for path in folder.glob("[0-9]*.md"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_that_are_named_exist(document: str) -> None:
    classes = (
        *(GatewaySettings, OrchestratorSettings, ExecutorSettings, AgentSettings, ProjectionSettings, LocalSettings),
    )
    known = {f"TASKLOOM_{name.upper()}" for settings in classes for name in settings.model_fields} | COMPOSE_VARIABLES

    named = set(re.findall(r"\bTASKLOOM_[A-Z_]*[A-Z]\b", (ROOT / document).read_text()))

    assert named - known == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_that_are_named_exist(document: str) -> None:
    text = shell_text(document) + "\n".join(re.findall(r"`([^`\n]+)`", prose(document)))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"(?:^|[\n=\w/] ?)\bmake ([a-z]+)", text)) <= set(targets)
    assert set(re.findall(r"(?<![\w./-])taskloom ([a-z][a-z-]+)(?![\w.])", text)) <= set(VERBS) | {"delete", "create"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_blocks_are_valid(document: str) -> None:
    for block in blocks(document):
        if block.info[:1] == ("python",):
            compile(block.text, f"{document}:{block.line}", "exec")
