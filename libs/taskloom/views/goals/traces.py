"""What the events of a goal say in its traces. Six types, as the chat orchestrator names them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from taskloom.domain.goals import events as g
from taskloom.domain.workflow import events as w
from taskloom.views.goals.rows import MESSAGE_CHARS, Doing, GoalCheckpoint, TraceType, bounded, cut

SHOWN_CHARS: Final = 200
_OF_STEP: Final[dict[str, TraceType]] = {"tool-call": "tool-call", "checkpoint": "checkpoint"}
"""The type of the trace that ends a step, by the step's type; for others it is the answer of a model."""


class Told(Struct, frozen=True):
    """A trace without its number and time. ``step`` counts from 0, -1 for none."""

    type: TraceType
    message: str
    metadata: dict[str, Any] = {}
    plan: int = 0
    step: int = -1


LAST: Final = Told("decision", "There are too many traces; the task's events tell the rest")


def told(
    type_: TraceType, message: str, plan: int = 0, step: int = -1, metadata: Mapping[str, Any] | None = None
) -> Told:
    """A trace of a bounded size, without metadata that say nothing."""
    kept = {name: value for name, value in (metadata or {}).items() if value not in (None, "", {}, [], ())}
    return Told(type_, cut(message, MESSAGE_CHARS), bounded(kept), plan, step)


def planned(event: g.GoalPlanned) -> list[Told]:
    steps = f"{len(event.steps)} step{'' if len(event.steps) == 1 else 's'}"
    why = f": {event.reason}" if event.reason else ""
    message = (
        f"Task created with {steps}" if event.plan_version == 1 else f"Plan {event.plan_version} with {steps}{why}"
    )
    metadata = {"by": event.by, "reason": event.reason, "model": event.model, "plan": event.plan_version}
    return [told("decision", message, event.plan_version, metadata=metadata)]


def step_started(event: g.GoalStepStarted, description: str) -> list[Told]:
    message = f"Starting step {event.index + 1}: {description}"
    return [told("decision", message, event.plan_version, event.index, {"stepId": event.step_id})]


def turn_failed(event: g.GoalCallsChecked) -> list[Told]:
    if event.error is None:
        return []
    return [told("error", event.error.message, event.plan_version, event.index, {"error": event.error.type})]


def tool_called(call: g.MadeCall, plan: int, step: int) -> Told:
    name = f"{call.server}.{call.tool}"
    metadata = {
        "toolName": name,
        "args": call.args,
        "result": call.result,
        "status": call.status,
        "error": call.error,
        "durationMs": call.duration_ms,
    }
    message = f"Called tool: {name}" if call.status == "success" else f"Tool {name} failed: {call.error}"
    return told("tool-call", message, plan, step, metadata)


def step_ended(event: g.GoalStepEnded, type_: str, description: str) -> Told:
    number, place = event.index + 1, (event.plan_version, event.index)
    metadata = {"stepId": event.step_id, "description": description, "text": event.text, "model": event.model}
    if event.status == "failed":
        why = event.error.message if event.error is not None else "no reason was given"
        return told("error", f"Step {number} failed: {why}", *place, {**metadata, "error": why})
    if event.status == "skipped":
        return told("decision", f"Skipped step {number}", *place, metadata)
    return told(_OF_STEP.get(type_, "llm-response"), f"Completed step {number}", *place, metadata)


def summarized(event: g.GoalSummarized) -> list[Told]:
    message = f"The context was summed up: about {event.tokens_before} tokens became {event.tokens_after}"
    return [told("decision", message, metadata={"summary": event.text})]


def settled(event: g.GoalSettled) -> list[Told]:
    if event.achieved:
        return [told("decision", event.reason or "All steps completed")]
    return [told("error", event.reason or "Task failed")]


def asked(doing: Doing, path: str, plan: int, step: int) -> list[Told]:
    """A model, or a goal within this one, was asked for something."""
    if doing.kind == "goal":
        return [told("decision", f"Sub-goal: {doing.name}", plan, step, {"path": path})]
    metadata = {"op": doing.name, "model": doing.model, "path": path}
    return [told("llm-request", f"Asking the model: {doing.name}", plan, step, metadata)]


def answered(doing: Doing, result: Mapping[str, Any], at: datetime, plan: int, step: int) -> list[Told]:
    if doing.kind == "goal":
        return [told("decision", f"Sub-goal achieved: {doing.name}", plan, step, {"text": result.get("text")})]
    used = str(result.get("model_used") or "")
    metadata = {
        "op": doing.name,
        "model": used,
        "provider": result.get("provider"),
        "usage": result.get("usage"),
        "durationMs": _since(doing, at),
        "text": result.get("text"),
    }
    found = [told("llm-response", f"The model answered: {doing.name}", plan, step, metadata)]
    if doing.model and used and used != doing.model:
        instead = f"{doing.model} was asked for, {used} answered"
        found.append(told("decision", instead, plan, step, {"asked": doing.model, "used": used}))
    return found


def child_failed(doing: Doing, error: str, at: datetime, plan: int, step: int) -> Told:
    what = f"Sub-goal {doing.name}" if doing.kind == "goal" else f"The model's {doing.name}"
    return told("error", f"{what} failed: {error}", plan, step, {"error": error, "durationMs": _since(doing, at)})


def _since(doing: Doing, at: datetime) -> int:
    return round((at - doing.at).total_seconds() * 1000)


def checkpoint(saved: GoalCheckpoint, plan: int, step: int) -> list[Told]:
    message = f"Checkpoint saved after {saved.step} step{'' if saved.step == 1 else 's'}"
    return [told("checkpoint", message, plan, step, {"version": saved.version})]


def approval_requested(event: w.ApprovalRequested, plan: int) -> list[Told]:
    return [told("decision", "The plan waits for an approval", plan, metadata={"message": event.message})]


def approval_decided(event: w.ApprovalDecided, plan: int) -> list[Told]:
    word = "approved" if event.approved else "rejected"
    return [told("decision", f"The plan was {word}", plan, metadata={"by": event.by, "comment": event.comment})]


def retried(event: w.WorkflowRetried) -> list[Told]:
    where = "from its start" if event.start == "start" else "where it failed"
    return [told("decision", f"The goal goes on {where}", metadata={"number": event.number})]


def failed(error: str, plan: int) -> list[Told]:
    return [told("error", error, plan, metadata={"error": error})]
