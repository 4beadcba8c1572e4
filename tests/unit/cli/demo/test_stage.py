"""The demo finds out when something does not end as it should, and says so with its exit code."""

import asyncio
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from taskloom.cli.demo import run
from taskloom.cli.demo.board import Board
from taskloom.cli.demo.stage import Stage
from taskloom.cli.demo.waiting import DemoFailed
from taskloom.client import AsyncClient

SUBMITTED = {"task_id": "t1", "status": "STATUS_CODE_OK", "created_at": "2026-01-01T00:00:00Z"}
TASK = {
    **SUBMITTED,
    "kind": "echo",
    "queue": "default",
    "priority": 2,
    "attempt": 4,
    "max_attempts": 4,
    "version": 9,
    "status": "TASK_STATUS_FAILED",
    "state": "failed",
    "error": "it broke",
}
STREAM = b'id: 1-0\nevent: WORKFLOW_FAILED\ndata: {"message":"it broke"}\n\nid: 2-0\nevent: done\ndata: [DONE]\n\n'


def answer(request: httpx.Request) -> httpx.Response:
    if request.method == "POST":
        return httpx.Response(200, json=SUBMITTED)
    if "stream" in request.url.path:
        return httpx.Response(200, content=STREAM, headers={"content-type": "text/event-stream"})
    return httpx.Response(200, json=TASK)


@pytest.mark.parametrize(
    ("expect", "problems"), [("completed", ["a title: ended failed, not completed. it broke"]), ("failed", [])]
)
async def test_task_that_ends_otherwise_than_expected_is_a_problem(expect: str, problems: list[str]) -> None:
    board = Board(Console(file=StringIO()))
    transport = httpx.MockTransport(answer)
    async with AsyncClient("http://demo.test", transport=transport) as client, asyncio.TaskGroup() as group:
        stage = Stage(client, board, group)
        await stage.part(3).ended(await stage.part(3).submit("a title", expect=expect, kind="echo"))

    assert stage.problems == problems
    assert [row.followed.state for row in board.rows] == ["failed"]


@pytest.mark.parametrize("how", ["told", "raised"])
async def test_problems_are_printed_and_make_the_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, how: str
) -> None:
    async def show(*_args: Any) -> list[str]:
        if how == "raised":
            raise DemoFailed("a title: ended failed")
        return ["a title: ended failed"]

    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path))
    monkeypatch.setattr(run, "_show", show)

    assert await run.run_demo() == 1
    said = capsys.readouterr().out
    assert "✗ a title: ended failed" in said
    assert f"The logs are in {tmp_path / 'logs'}" in said
