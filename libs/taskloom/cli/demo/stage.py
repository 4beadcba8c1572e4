"""Where the acts play: submitting, following every task on the board, and noting what did not go as it should."""

import asyncio
from contextlib import aclosing
from copy import copy
from typing import Final, Unpack

from taskloom.cli.demo.board import Board, Row
from taskloom.cli.demo.waiting import until
from taskloom.client import AsyncClient, Submission, Task

SESSION: Final = "demo"


class Stage:
    """One show. ``problems`` are in plain words; an empty list at the end is success."""

    def __init__(self, client: AsyncClient, board: Board, group: asyncio.TaskGroup) -> None:
        self.client = client
        self.board = board
        self.problems: list[str] = []
        self.place = 0
        self._group = group
        self._following: dict[str, asyncio.Task[None]] = {}

    def part(self, place: int) -> "Stage":
        """This stage for one act, whose rows stand together."""
        part = copy(self)
        part.place = place
        return part

    async def submit(self, title: str, *, expect: str = "completed", **task: Unpack[Submission]) -> Row:
        """Sends a task over HTTP and follows it."""
        task["session_id"], task["name"] = SESSION, title
        submitted = await self.client.submit(**task)
        return self.follow(title, task.get("kind", "query"), submitted.task_id, expect=expect)

    def follow(self, title: str, kind: str, task_id: str, *, expect: str = "completed") -> Row:
        """Puts a task on the board and keeps its row up to date, whoever sent it."""
        row = Row(title, kind, task_id, expect, place=self.place)
        self.board.add(row)
        self._following[task_id] = self._group.create_task(self._follow(row), name=f"follow {title}")
        return row

    async def _follow(self, row: Row) -> None:
        async with aclosing(self.client.stream(row.task_id)) as items:
            async for item in items:
                if row.followed.take(item):
                    self.board.changed(row)

    async def ended(self, row: Row) -> Task:
        """The task once its stream has ended, checked against what was expected of it."""
        await self._following[row.task_id]
        task = await self.client.get(row.task_id)
        self.check(task.state == row.expect, f"{row.title}: ended {task.state}, not {row.expect}. {task.error}".strip())
        return task

    async def reached(self, row: Row, *states: str) -> None:
        """Returns once the row is in one of ``states``, or has ended."""

        async def there() -> bool:
            return row.followed.state in states or row.followed.ended

        await until(there, f"{row.title}: {' or '.join(states)}")

    def check(self, good: bool, problem: str) -> None:
        if not good:
            self.problems.append(problem)
