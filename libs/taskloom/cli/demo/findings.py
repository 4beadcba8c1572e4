"""What the acts bring home for the stories that are told afterwards."""

import asyncio
from typing import Any

from msgspec import Struct, field

from taskloom.cli.demo.board import Row
from taskloom.client import Event, Task, Why
from taskloom.client.goal_answers import Goal


class Cancelled(Struct):
    """A cancelled process group: its events, and how many of its ``before`` processes are ``left``."""

    events: list[Event]
    before: int
    left: int


class Overtaking(Struct):
    """Titles in the order of submission and of start."""

    sent: list[str]
    started: list[str]


class Batch(Struct):
    tasks: int
    accepted_s: float
    seconds: float

    @property
    def per_s(self) -> float:
        return self.tasks / self.seconds


class Held(Struct):
    row: Row
    why: Why


class Log(Struct):
    """Results of the tasks over the log file."""

    lines: int
    size_bytes: int
    by_service: str
    top_messages: str
    worst_hours: str
    statistics: dict[str, Any]


class Achieved(Struct):
    """A goal, what its executor was doing when it was killed, ``attempts`` of its ``tasks``, and the report it left."""

    goal: Goal
    killed_in: str
    tasks: int
    attempts: int
    report: str


class Findings(Struct):
    """Filled act by act; all are there when the acts are over."""

    facts: list[Task] = []
    log: Log | None = None
    retried: Task | None = None
    priced: Task | None = None
    answer: Task | None = None
    cancelled: Cancelled | None = None
    overtaking: Overtaking | None = None
    replies: dict[str, dict[str, Any]] = {}
    held: Held | None = None
    batch: Batch | None = None
    achieved: Achieved | None = None
    log_is_there: asyncio.Event = field(default_factory=asyncio.Event)
