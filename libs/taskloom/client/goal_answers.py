"""The server's answers about goals, as values."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class GoalStep(Struct, frozen=True, kw_only=True):
    """A step of a plan; ``number`` counts from 0. ``status``: pending, running, completed, failed or skipped."""

    number: int
    step_id: str
    type: str
    description: str
    status: str
    server: str = ""
    tool: str = ""
    args: dict[str, Any] = {}
    estimated_ms: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    text: str = ""
    calls: list[dict[str, Any]] = []
    usage: dict[str, Any] = {}
    model: str = ""
    error: str = ""


class GoalPlan(Struct, frozen=True, kw_only=True):
    """One version of the plan. ``by``: model, rules, client, reviewer or fallback."""

    version: int
    at: datetime
    by: str
    steps: list[GoalStep]
    reason: str = ""
    model: str = ""


class GoalTrace(Struct, frozen=True, kw_only=True):
    """``type``: tool-call, llm-request, llm-response, checkpoint, error or decision."""

    number: int
    type: str
    message: str
    at: datetime
    plan: int = 0
    step: int = -1
    metadata: dict[str, Any] = {}


class GoalUsage(Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    model_calls: int = 0
    tool_calls: int = 0


class Goal(Struct, frozen=True, kw_only=True):
    """A goal: ``plans`` are all versions, ``plan`` the number of the one that holds, 0 before the first; ``traces`` the
    newest ones, newest first."""

    task_id: str
    state: str
    goal: str
    plan: int
    plans: list[GoalPlan]
    progress: int
    current_step: int
    total_steps: int
    context: dict[str, Any]
    usage: GoalUsage
    created_at: datetime
    updated_at: datetime
    traces: list[GoalTrace] = []
    asked: dict[str, Any] = {}
    model_used: str = ""
    achieved: bool | None = None
    last_error: str = ""
    estimated_completion_at: datetime | None = None
    ended_at: datetime | None = None
