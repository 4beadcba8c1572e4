"""The rows of a goal: itself, the steps of its plans, and its traces. What comes from outside is cut to a size."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

TraceType = Literal["tool-call", "llm-request", "llm-response", "checkpoint", "error", "decision"]
StepStatus = Literal["pending", "running", "completed", "failed", "skipped"]

MAX_TRACES: Final = 5_000
"""Of one goal; its events have the others."""

MESSAGE_CHARS: Final = 500
METADATA_BYTES: Final = 4_096
"""JSON of one trace's metadata; a value in it that does not fit is cut to its beginning."""

ERROR_CHARS: Final = 4_096
TRACES_OF_AN_EVENT: Final = 1_000
"""Numbers kept for the traces of one event, so that a trace's number follows from its event."""


class Plan(Struct, frozen=True, omit_defaults=True):
    """One version of the plan. ``by``: model, rules, client, reviewer or fallback. ``steps`` as they were planned."""

    version: int
    at: datetime
    by: str
    steps: tuple[dict[str, Any], ...]
    reason: str = ""
    model: str = ""


class Doing(Struct, frozen=True, omit_defaults=True):
    """A task under way, by the path of its engine step: a call of a model, which was asked for ``name``, or a goal
    within this one."""

    kind: Literal["llm", "goal"]
    name: str
    at: datetime
    model: str = ""


class GoalCheckpoint(Struct, frozen=True):
    """A checkpoint: the state after event ``version``, when ``step`` steps of the plan had ended."""

    version: int
    step: int
    at: datetime


class Goal(Struct, frozen=True):
    """``asked``: what of its input people look for (model, tools, agent_id, mentions, history, review…). ``plan`` is
    the version that holds, 0 before the first. ``states`` are those of its steps; ``current`` is the index of the one
    under way, -1 for none. ``current_step`` counts the steps that ended; ``progress`` is in whole percents. Usage is
    what its calls of models took, and the goals within it. ``told`` counts the tool calls of the step under way that
    have their traces. ``summarized`` is the event up to which the context was summed up."""

    task_id: str
    tenant_id: str
    user_id: str
    session_id: str
    goal: str
    asked: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    plan: int = 0
    plans: tuple[Plan, ...] = ()
    states: tuple[str, ...] = ()
    current: int = -1
    current_since: datetime | None = None
    total_steps: int = 0
    current_step: int = 0
    progress: int = 0
    summary: str = ""
    summarized: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    model_calls: int = 0
    tool_calls: int = 0
    model_used: str = ""
    doing: dict[str, Doing] = {}
    told: int = 0
    checkpoints: tuple[GoalCheckpoint, ...] = ()
    traces: int = 0
    achieved: bool | None = None
    last_error: str = ""
    ended_at: datetime | None = None


class GoalStep(Struct, frozen=True):
    """A step of one version of the plan; ``number`` counts from 0. ``calls`` are those of tools, with their results;
    ``usage`` has input_tokens, output_tokens and cost_usd. ``ended`` is the version of the event that ended it."""

    task_id: str
    plan: int
    number: int
    step_id: str
    type: str
    description: str
    status: StepStatus = "pending"
    server: str = ""
    tool: str = ""
    args: dict[str, Any] = {}
    estimated_ms: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ended: int = 0
    text: str = ""
    calls: tuple[dict[str, Any], ...] = ()
    usage: dict[str, Any] = {}
    model: str = ""
    error: str = ""


class Trace(Struct, frozen=True):
    """``number`` rises with the goal's events. ``plan`` and ``step`` (from 0) name the step, -1 for none."""

    task_id: str
    number: int
    type: TraceType
    message: str
    at: datetime
    plan: int = 0
    step: int = -1
    metadata: dict[str, Any] = {}


def cut(text: str, chars: int) -> str:
    """The text, or its beginning with a mark that says so."""
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def bounded(values: dict[str, Any], limit: int = METADATA_BYTES) -> dict[str, Any]:
    """Metadata whose JSON is no longer than ``limit``: the largest values are replaced by the beginning of their JSON
    and their size."""
    sizes = {name: len(msgspec.json.encode(value)) for name, value in values.items()}
    total, kept = sum(sizes.values()), dict(values)
    for name in sorted(sizes, key=lambda each: -sizes[each]):
        if total <= limit:
            break
        room = max(64, limit // max(1, len(values)) - 64)
        if sizes[name] <= room:
            continue
        value = values[name]
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        kept[name] = {"cut": text.encode()[: room // 2].decode(errors="ignore"), "bytes": sizes[name]}
        total -= sizes[name] - room
    return kept
