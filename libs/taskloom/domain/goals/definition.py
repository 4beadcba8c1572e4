"""The workflow that a goal's run follows. It is made at submission and pinned, so that a run goes on alike under a
later release. Nothing of the goal stands in it but its time limit: all words are looked up while it runs.

::

    plans: until the goal is settled
      planning   a model proposes a plan (or it was given); a reviewer may edit it
      work       while a step is left
        summing    what was found is summed up when the context is nearly full
        stepping   begin, then one task, or turns of a model with the calls it asks for, then end
        keeping    a checkpoint each few steps
      reporting  what came of it, in words
      settle     the goal was achieved; or it failed; or another plan is made
"""

from typing import Any, Final

from taskloom.domain.goals.inputs import GoalInput
from taskloom.domain.goals.names import LLM_RETRY

VERSION: Final = "1"
NAME: Final = "goal"
MAX_ROUNDS: Final = 2_000
"""Rounds of plans over all lives of a goal: its retries are bounded, and each makes at most ``max_plans``."""

PARALLEL_CALLS: Final = 4
_TURN_S: Final = 600.0

_Json = dict[str, Any]


def definition_for(given: GoalInput) -> _Json:
    """The definition of one goal's run, as JSON."""
    limit = {} if given.timeout_s is None else {"timeout_seconds": given.timeout_s}
    return {
        "name": NAME,
        "version": VERSION,
        "steps": [_loop("plans", "not goal.settled", MAX_ROUNDS, _plan_round(given))],
        "output": {name: f"{{{{ goal.{name} }}}}" for name in ("steps", "plans", "usage", "findings")}
        | {"text": "{{ goal.answer }}"},
        **limit,
    }


def _plan_round(given: GoalInput) -> list[_Json]:
    return [
        _if("planning", "goal.wants_plan", _planning()),
        _if("reviewing", "goal.wants_review", [_review(), _act("reviewed", "review", "review")]),
        _loop("work", "goal.works", 2 * given.max_steps, _work_round(given)),
        _if("reporting", "goal.reports", [_ask("report", "ask_report"), _act("reported", "settle", "report")]),
        _act("settle", "settle"),
    ]


def _planning() -> list[_Json]:
    return [
        _if("detecting", "goal.wants_detect", [_ask("detect", "ask_detect"), _act("detected", "detect", "detect")]),
        _if("asking", "goal.asks", [_ask("propose", "ask_plan"), _act("plan", "plan", "propose")]),
        _if("giving", "goal.is_given", [_act("given", "plan")]),
    ]


def _review() -> _Json:
    return {"step_type": "approval", "id": "review", "message": "{{ goal.plan_text }}"}


def _work_round(given: GoalInput) -> list[_Json]:
    return [
        _if("summing", "goal.crowded", [_ask("sum", "ask_summary"), _act("summed", "summary", "sum")]),
        _if(
            "stepping",
            "goal.works",
            [
                _act("begin", "begin"),
                _if("one", "goal.current.single", [_one(), _act("end", "end", "do")], _other(given)),
            ],
        ),
        _if("keeping", "goal.checkpoint_due", [{"step_type": "checkpoint", "id": "kept"}]),
    ]


def _one() -> _Json:
    names = ("kind", "input", "query", "name", "retry", "executor_id", "queue", "budget")
    fields = {name: f"{{{{ goal.task.{name} }}}}" for name in names}
    return _task("do", fields)


def _other(given: GoalInput) -> list[_Json]:
    rounds = given.max_tool_rounds + 1
    talk = [_loop("converse", "goal.current.talks", rounds, _turn()), _act("ended", "end")]
    return [
        _if("talking", "goal.current.open", talk, [{"step_type": "checkpoint", "id": "mark"}, _act("marked", "end")])
    ]


def _turn() -> list[_Json]:
    names = ("kind", "input", "query", "name", "retry", "executor_id", "queue")
    calls = {
        "step_type": "map",
        "id": "calls",
        "items": "{{ goal.current.tasks }}",
        "task_template": {name: f"{{{{ item.{name} }}}}" for name in names},
        "max_parallel": PARALLEL_CALLS,
        "allow_failures": True,
    }
    return [
        _ask("turn", "ask_turn"),
        _act("checked", "calls", "turn"),
        _if("calling", "len(goal.current.tasks) > 0", [calls, _act("called", "results", "calls")]),
    ]


def _ask(step_id: str, name: str) -> _Json:
    fields = {
        "kind": "llm",
        "input": f"{{{{ goal.{name} }}}}",
        "name": step_id,
        "retry": LLM_RETRY,
        "timeouts": {"start_to_close_s": _TURN_S},
        "budget": "{{ goal.budget_left }}",
        "queue": "{{ goal.queue }}",
    }
    return _task(step_id, fields)


def _task(step_id: str, fields: _Json) -> _Json:
    return {"step_type": "task", "id": step_id, "on_failure": "continue", "task_template": fields}


def _act(step_id: str, act: str, of: str = "") -> _Json:
    return {"step_type": "goal", "id": step_id, "act": act, **({"of": of} if of else {})}


def _if(step_id: str, condition: str, then: list[_Json], otherwise: list[_Json] | None = None) -> _Json:
    branches = {"true_steps": then, **({"false_steps": otherwise} if otherwise else {})}
    return {"step_type": "conditional", "id": step_id, "condition": condition, **branches}


def _loop(step_id: str, condition: str, limit: int, steps: list[_Json]) -> _Json:
    return {
        "step_type": "loop",
        "id": step_id,
        "loop_condition": condition,
        "max_iterations": limit,
        "loop_steps": steps,
    }
