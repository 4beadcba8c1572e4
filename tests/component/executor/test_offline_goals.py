"""Goals as the domain runs them, with the offline model as the executor asks it: what the two tell each other fits."""

import asyncio
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from services.executor.kinds.llm import Llm
from services.executor.models.offline import Offline
from services.executor.tools.toolbox import ToolDescription
from taskloom.domain.values import ErrorInfo
from tests.component.executor.test_llm import Told
from tests.unit.domain.goals.play import GoalRun

TEXT = {"type": "string"}
GOAL = "Find the five most frequent errors in app.log, group them by hour, and write a report"
LOGS = {"logs": {"tools": None, "idempotent": ["frequent_errors", "group_by_hour"]}}
FOUND = [{"message": "disk full", "count": 3}]


def tool(name: str, required: list[str], **properties: Any) -> ToolDescription:
    about = name.replace("_", " ")
    return ToolDescription("logs", name, about, {"type": "object", "properties": properties, "required": required})


class Box:
    tools = (
        tool("frequent_errors", ["path"], path=TEXT, top={"type": "integer"}),
        tool("group_by_hour", ["path", "errors"], path=TEXT, errors={"type": "array"}),
        tool("write_report", ["path", "content"], path=TEXT, content={"type": "array"}),
    )

    async def describe(self, tenant_id: str, allowed: Any) -> list[ToolDescription]:
        return list(self.tools)


def model(about: dict[str, Any]) -> Any:
    """The handler's response to what the domain asks, which its announced schema lets through."""
    assert Llm.schema is not None
    Draft202012Validator(Llm.schema).validate(about)
    outcome = asyncio.run(Llm(Offline(), Box()).run(Told(**about)))  # type: ignore[arg-type]
    return msgspec.to_builtins(outcome.response)


def result(of: Any, name: str) -> dict[str, Any]:
    return {"server": "logs", "tool": name, "result": of, "status": "success", "duration_ms": 1, "truncated": False}


def answers(submission: dict[str, Any]) -> Any:
    name = submission["input"]["tool"]
    return result({"frequent_errors": FOUND, "group_by_hour": [{"hour": "08:00"}]}.get(name, {"path": "x"}), name)


def calls(run: GoalRun) -> list[tuple[str, dict[str, Any]]]:
    return [(made["input"]["tool"], made["input"]["args"]) for made in run.made]


def test_the_offline_models_plan_is_taken_as_it_is_and_its_steps_hand_on_their_results() -> None:
    run = GoalRun(GOAL, model, answers, tools=LOGS).play()
    assert run.state.status == "completed"
    assert calls(run) == [
        ("frequent_errors", {"path": "app.log", "top": 5}),
        ("group_by_hour", {"path": "app.log", "errors": FOUND}),
        ("write_report", {"path": "report.md", "content": [{"hour": "08:00"}]}),
    ]
    assert [plan.reason for plan in run.plans] == [""]
    assert "disk full" in str(run.goal.answer)
    assert run.ops == ["plan", "report"]


@pytest.mark.parametrize("found", [FOUND, [], [{"$from": "step-9"}]])
def test_a_new_plan_does_not_do_again_what_was_done(found: Any) -> None:
    failures = [ErrorInfo("tool_failed", "no such hour", retryable=False)]

    def once(submission: dict[str, Any]) -> Any:
        name = submission["input"]["tool"]
        if name == "group_by_hour" and failures:
            return failures.pop()
        return result(found, name) if name == "frequent_errors" else answers(submission)

    run = GoalRun(GOAL, model, once, tools=LOGS).play()
    assert run.state.status == "completed"
    names = [name for name, _ in calls(run)]
    # A result that reads as a reference does not stand in a plan: its step is done again, since its tool allows that.
    again = ["frequent_errors"] if found not in (FOUND, []) else []
    assert names == ["frequent_errors", "group_by_hour", *again, "group_by_hour", "write_report"]
    assert [args["errors"] for name, args in calls(run) if name == "group_by_hour"] == [found, found]
    assert len(run.plans) == 2


def test_an_open_step_is_a_turn_with_one_call_and_then_words() -> None:
    step = {"id": "step-1", "description": "Find the 2 most frequent errors in app.log", "type": "tool-call"}
    run = GoalRun(GOAL, model, answers, tools=LOGS, steps=[step]).play()
    assert run.state.status == "completed"
    assert calls(run) == [("frequent_errors", {"path": "app.log", "top": 2})]
    assert run.ops[:2] == ["turn", "turn"]
