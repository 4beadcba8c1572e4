"""``taskloom goal``, against a server that answers from a list."""

import json
from pathlib import Path
from typing import Any

from tests.unit.cli.conftest import Server
from tests.unit.cli.test_verbs import AT, run

TASKS = "/api/v1/tasks"
ACCEPTED = {"task_id": "g1", "workflow_id": "g1", "status": "STATUS_CODE_OK", "created_at": AT}


def step(number: int, status: str, **more: Any) -> dict[str, Any]:
    begun = {} if status == "pending" else {"started_at": AT, "ended_at": AT}
    named = {"number": number, "step_id": f"step-{number + 1}", "type": "llm-reasoning", "status": status}
    return {**named, "description": f"do {number + 1}", **begun, **more}


def goal(*plans: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    versions = enumerate(plans, start=1)
    return {
        "task_id": "g1",
        "state": "running",
        "goal": "Find [b]all errors",
        "plan": len(plans),
        "plans": [
            {"version": number, "at": AT, "by": "rules", "steps": steps, "reason": "no such file" if number > 1 else ""}
            for number, steps in versions
        ],
        "progress": 50,
        "current_step": 1,
        "total_steps": 2,
        "context": {},
        "usage": {"input_tokens": 10, "output_tokens": 5, "cost_usd": 0.25, "model_calls": 2, "tool_calls": 1},
        "created_at": AT,
        "updated_at": AT,
        "model_used": "taskloom-offline",
        "traces": [{"number": 1, "type": "tool-call", "message": "Called tool: logs.errors", "at": AT}],
        **more,
    }


def test_a_goal_is_begun_with_what_was_asked_for(server: Server, tmp_path: Path) -> None:
    server.answers[TASKS] = (200, ACCEPTED)
    plan = tmp_path / "plan.json"
    plan.write_text('[{"id": "step-1", "description": "look"}]')

    assert run("goal", "Find errors").stdout == "g1\n"
    options = ["--tools", "logs:errors,count", "--tools", "time", "--review", "--model", "openai/m", "--agent", "a1"]
    assert run("goal", "Find errors", *options, "--plan", f"@{plan}", "--tokens", "100", "--session", "s").stdout

    assert server.asked[0][2] == {
        "kind": "goal",
        "query": "Find errors",
        "input": {"goal": "Find errors", "tools": {}},
    }
    assert server.asked[1][2] == {
        "kind": "goal",
        "query": "Find errors",
        "session_id": "s",
        "budget": {"tokens": 100},
        "input": {
            "goal": "Find errors",
            "tools": {"logs": {"tools": ["errors", "count"]}, "time": {"tools": None}},
            "review": True,
            "agent_id": "a1",
            "model": {"provider": "openai", "model": "m"},
            "steps": [{"id": "step-1", "description": "look"}],
        },
    }
    assert "--plan" in run("goal", "Find errors", "--plan", "@nowhere").output


def test_a_goal_is_drawn_with_the_state_of_each_step(server: Server) -> None:
    done = step(0, "completed", type="tool-call", server="logs", tool="errors")
    server.answers[f"{TASKS}/g1/goal"] = (200, goal([done, step(1, "pending")]))

    drawn = run("goal", "show", "g1").stdout.splitlines()

    assert drawn == [
        "Find [b]all errors  running  1/2 steps, 50 %",
        "├── ✓ do 1  logs.errors  0.000 s",
        "├── ○ do 2  llm-reasoning",
        "├── tool-call: Called tool: logs.errors",
        "└── 2 calls of models, 1 of tools; 15 tokens, 0.2500 USD; taskloom-offline",
    ]
    assert json.loads(run("goal", "show", "g1", "--json").stdout)["plan"] == 1
    assert run("goal", "show", "g1", "--as-of", "7").exit_code == 0
    assert server.queries[-1] == {"as_of": ["7"], "traces": ["50"]}


def test_of_earlier_plans_the_steps_that_began_are_drawn(server: Server) -> None:
    first = [step(0, "failed", error="no such file\nat all"), step(1, "pending")]
    ended = {"ended_at": AT, "state": "failed", "last_error": "all is lost"}
    server.answers[f"{TASKS}/g1/goal"] = (200, goal(first, [step(0, "pending")], **ended))

    drawn = [line.rstrip() for line in run("goal", "show", "g1").stdout.splitlines()]

    assert drawn == [
        "Find [b]all errors  failed  1/2 steps, 50 %",
        "├── plan 1 by rules",
        "│   └── ✗ do 1  llm-reasoning  0.000 s  no such file",
        "├── plan 2 by rules: no such file",
        "│   └── ○ do 1  llm-reasoning",
        "├── all is lost",
        "└── 2 calls of models, 1 of tools; 15 tokens, 0.2500 USD; taskloom-offline",
    ]
