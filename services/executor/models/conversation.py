"""A wish as the library's messages and tools, and a response's calls back as ours."""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.executor.models import prompts
from services.executor.models.plans import PROPOSE, SCHEMA
from services.executor.models.port import MAX_CALLS, Call, LlmInput, Round, ToolDescription, tokens_of

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
    from pydantic_ai.models import ModelRequestParameters

MAX_NAME: Final = 64
MAX_TOOLS: Final = 128
"""More tools than providers take; what comes after in the list is left out of a turn."""

_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


class Names:
    """Tools by the names that providers take: letters, digits, _ and -, at most 64."""

    def __init__(self, tools: Sequence[ToolDescription]) -> None:
        self.tools: dict[str, ToolDescription] = {}
        for tool in tools[:MAX_TOOLS]:
            whole = _NO_NAME.sub("_", f"{tool.server}__{tool.name}")
            name, number = whole[:MAX_NAME], 1
            while name in self.tools:
                number += 1
                name = f"{whole[: MAX_NAME - 4]}_{number}"
            self.tools[name] = tool
        self._names = {(tool.server, tool.name): name for name, tool in self.tools.items()}

    def of(self, server: str, tool: str) -> str:
        return self._names.get((server, tool)) or _NO_NAME.sub("_", f"{server}__{tool}")[:MAX_NAME]

    def meant(self, name: str) -> tuple[str, str]:
        """Server and tool; a name that nobody offered has no server, so that it is refused as what it is."""
        found = self.tools.get(name)
        return (found.server, found.name) if found is not None else ("", name[:256])


def messages_of(wish: LlmInput, tools: Sequence[ToolDescription], names: Names) -> "list[ModelMessage]":
    """System prompt, question, and the rounds with tools so far."""
    from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

    first = SystemPromptPart(prompts.system(wish))
    question = UserPromptPart(prompts.question(wish, tools))
    if wish.op == "answer":
        said: list[ModelMessage] = [
            ModelResponse([TextPart(each.content)])
            if each.role == "assistant"
            else ModelRequest([UserPromptPart(each.content)])
            for each in wish.known.message_history[-prompts.MAX_HISTORY :]
        ]
        return [ModelRequest([first]), *said, ModelRequest([question])] if said else [ModelRequest([first, question])]
    messages: list[ModelMessage] = [ModelRequest([first, question])]
    if wish.op == "turn" and tools and not wish.last:
        for each in wish.exchange:
            messages += _round(each, names)
    return messages


def _round(done: Round, names: Names) -> "list[ModelMessage]":
    from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart

    results = {result.id: result for result in done.results}
    calls: list[Any] = []
    returns: list[Any] = []
    for call in done.calls:
        name, result = names.of(call.server, call.tool), results.get(call.id)
        calls.append(ToolCallPart(name, call.args, tool_call_id=call.id))
        if result is None:
            told = "The call was not made."
        elif result.status == "success":
            told = prompts.untrusted(f"{call.server}/{call.tool}", result.result)
        else:
            told = "The call failed.\n" + prompts.untrusted(f"{call.server}/{call.tool}", result.error)
        returns.append(ToolReturnPart(name, told, tool_call_id=call.id))
    return [ModelResponse(calls), ModelRequest(returns)] if calls else []


def parameters_of(wish: LlmInput, names: Names) -> "ModelRequestParameters":
    """The tools of a turn, or the one that takes a plan."""
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    if wish.op == "plan":
        plan = ToolDefinition(name=PROPOSE, parameters_json_schema=SCHEMA, description="Takes the plan.", strict=False)
        return ModelRequestParameters(function_tools=[plan], allow_text_output=True)
    if wish.op != "turn" or wish.last:
        return ModelRequestParameters()
    offered = [
        ToolDefinition(
            name=name,
            parameters_json_schema=_object(tool.schema),
            description=tool.description[: prompts.MAX_ABOUT],
            strict=False,
        )
        for name, tool in names.tools.items()
    ]
    return ModelRequestParameters(function_tools=offered, allow_text_output=True)


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    return schema if schema.get("type") == "object" else {"type": "object", "properties": {}, **schema}


def size_of(wish: LlmInput, tools: Sequence[ToolDescription], names: Names) -> int:
    """Estimated tokens of what is sent."""
    text = prompts.system(wish) + prompts.question(wish, tools)
    if wish.op == "answer":
        text += "".join(each.content for each in wish.known.message_history[-prompts.MAX_HISTORY :])
    if wish.op == "turn" and not wish.last:
        text += msgspec.json.encode([wish.exchange, list(names.tools.values())]).decode()
    return tokens_of(text)


def calls_of(response: "ModelResponse", names: Names) -> tuple[list[Call], list[str]]:
    """The calls that a response asks for, at most 16, and what is wrong with those that cannot be read."""
    calls: list[Call] = []
    wrong: list[str] = []
    for part in response.tool_calls[:MAX_CALLS]:
        args = arguments(part)
        if isinstance(args, dict):
            calls.append(Call(part.tool_call_id, *names.meant(part.tool_name), args))
        else:
            wrong.append(f"the arguments of {part.tool_name} are no JSON object")
    return calls, wrong


def arguments(part: "ToolCallPart") -> Any:
    """As the model wrote them; None when they are no JSON."""
    if not isinstance(part.args, str):
        return part.args or {}
    try:
        return json.loads(part.args) if part.args.strip() else {}
    except (ValueError, RecursionError):
        return None


def again(messages: "Sequence[ModelMessage]", response: "ModelResponse", wrong: Sequence[str]) -> "list[ModelMessage]":
    """The same with the answer and what is wrong with it. Its calls are told as words: some cannot be read."""
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

    said = response.text or ""
    for part in response.tool_calls:
        written = part.args if isinstance(part.args, str) else json.dumps(part.args)
        said += f"\n{part.tool_name}: {written[: prompts.MAX_PIECE]}"
    told = ModelResponse([TextPart(said.strip() or "(nothing)")])
    return [*messages, told, ModelRequest([UserPromptPart(prompts.mistakes(wrong))])]
