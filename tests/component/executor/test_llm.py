"""Kind ``llm`` as an executor runs it: streamed, counted, with the tools of the allow-list and no others."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from services.executor.kinds.llm import Llm
from services.executor.models.offline import Offline
from services.executor.tools.toolbox import ToolDescription
from taskloom.domain.tools import AllowedTools
from taskloom.kinds.inputs import InvalidInput
from taskloom.kinds.schemas import MAX_SCHEMA_BYTES, announced

TEXT = {"type": "string"}
SCHEMA = {"type": "object", "properties": {"path": TEXT, "top": {"type": "integer"}}, "required": ["path"]}
GOAL = "Find the five most frequent errors in /var/log/app.log"


class Told:
    """The part of an attempt that a turn of a model needs."""

    tenant_id = "acme"

    def __init__(self, **wish: Any) -> None:
        self.input = wish
        self.query = ""
        self.context: dict[str, Any] = {}
        self.said: list[tuple[str, str]] = []

    async def checkpoint(self, name: str = "") -> None:
        """Nobody holds it."""

    async def write(self, data: str, stream: str = "stdout") -> None:
        self.said.append((stream, data))


class Box:
    """A toolbox that answers with more than it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    async def describe(self, tenant_id: str, allowed: Mapping[str, Any] | None) -> Sequence[ToolDescription]:
        self.asked.append((tenant_id, allowed))
        return [
            ToolDescription("logs", "frequent_errors", "Most frequent errors.", SCHEMA),
            ToolDescription("logs", "find_frequent_errors", "Find most frequent errors.", SCHEMA),
            ToolDescription("other", "frequent_errors", "Find the five most frequent errors.", SCHEMA),
        ]


async def run(told: Told, box: Box | None = None) -> Any:
    return await Llm(Offline(), box).run(told)  # type: ignore[arg-type]


async def test_a_plan_has_only_tools_of_the_allow_list_and_is_streamed_and_counted() -> None:
    allowed = {"logs": {"tools": ["frequent_errors"], "idempotent": ["frequent_errors"]}}
    box, told = Box(), Told(op="plan", goal=GOAL, tools=allowed)
    outcome = await run(told, box)
    assert box.asked == [("acme", msgspec.convert(allowed, dict[str, AllowedTools]))]
    assert [(step["server"], step["tool"]) for step in outcome.response["steps"]] == [("logs", "frequent_errors")]
    assert "".join(text for _, text in told.said) == outcome.result == outcome.response["text"]
    assert {stream for stream, _ in told.said} == {"message"}
    assert (outcome.usage.model, outcome.usage.provider) == ("taskloom-offline", "offline")
    assert outcome.response["model_used"] == "taskloom-offline"
    assert outcome.response["usage"]["input_tokens"] == outcome.usage.input_tokens > 0
    assert outcome.response["repaired"] is False


async def test_a_turn_tells_its_calls_and_without_an_allow_list_there_are_no_tools() -> None:
    box = Box()
    outcome = await run(Told(op="turn", goal=GOAL, tools={"logs": {"tools": None}}), box)
    [call] = outcome.response["calls"]
    assert call["id"] == "call-1"
    assert call["server"] == "logs"
    assert call["args"] == {"path": "/var/log/app.log", "top": 5}
    nothing: list[dict[str, Any] | None] = [None, {}]
    for tools in nothing:
        assert (await run(Told(op="turn", goal=GOAL, tools=tools), box)).response["calls"] == []
    assert (await run(Told(op="turn", goal=GOAL, tools={"logs": {}}, last=True), box)).response["calls"] == []
    assert len(box.asked) == 1


@pytest.mark.parametrize(("op", "field"), [("detect", "orchestrate"), ("report", ""), ("answer", "")])
async def test_other_questions_answer_with_their_own_fields(op: str, field: str) -> None:
    response = (await run(Told(op=op, message="Tell me a joke"))).response
    assert {"text", "model_used", "provider", "usage"} | ({field} - {""}) == response.keys()


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"op": "dream"}, "input.op"),
        ({}, "input.op"),
        ({"op": "plan", "max_steps": 0}, "input.max_steps"),
        ({"op": "plan", "model": {"tier": "huge"}}, "input.model.tier"),
        ({"op": "turn", "tools": {"logs": {"tools": "all"}}}, "input.tools"),
    ],
)
async def test_a_wrong_input_is_refused_by_the_schema_and_by_the_handler(wish: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await run(Told(**wish))
    assert refused.value.field.startswith(field.rpartition(".")[0])
    schema = announced({"llm": Llm.schema or {}})["llm"]
    assert not Draft202012Validator(schema).is_valid(wish)


def test_the_schema_is_small_enough_to_be_announced_and_lets_inputs_through() -> None:
    assert Llm.schema is not None
    assert len(str(Llm.schema)) < MAX_SCHEMA_BYTES
    wish: dict[str, Any] = {
        "op": "turn",
        "model": None,
        "goal": "g",
        "step": {"id": "step-1", "description": "d"},
        "context": {
            "summary": "",
            "findings": {},
            "toolResults": [{"toolName": "x", "result": 1}],
            "messageHistory": [],
        },
        "tools": {"logs": {"tools": None, "idempotent": []}},
        "failure": None,
        "exchange": [{"calls": [{"id": "1", "server": "a", "tool": "b", "args": {}}], "results": [{"id": "1"}]}],
    }
    assert Draft202012Validator(Llm.schema).is_valid(wish)


def test_an_executor_starts_without_the_libraries_that_are_slow_to_import() -> None:
    code = (
        "import sys; from services.executor import app; from services.executor.kinds import handlers; "
        "from services.executor.settings import ExecutorSettings; "
        "found = handlers(ExecutorSettings(docker=False)); assert 'llm' in found; "
        "print([name for name in ('pydantic_ai', 'openai', 'anthropic', 'google.genai', 'mcp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
