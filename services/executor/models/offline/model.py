"""Which rule answers which question, and what it is counted as."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from services.executor.models.offline import texts
from services.executor.models.offline.detect import orchestrate
from services.executor.models.offline.planner import Planner
from services.executor.models.port import OFFLINE, Call, LlmInput, Model, Reply, Say, ToolDescription, hold, tokens_of
from taskloom.domain.values import Usage

BYTES_PER_TOKEN: Final = 4
_MARK: Final = " […]"


class Offline(Model):
    """No model at all, and says so: ``taskloom-offline``. Tokens are estimated, it costs nothing."""

    @property
    def offline(self) -> bool:
        return True

    async def ask(self, wish: LlmInput, tools: Sequence[ToolDescription], say: Say) -> Reply:
        asked = tokens_of(msgspec.json.encode(wish).decode()) if wish.op != "answer" else tokens_of(wish.message)
        hold(wish.budget, asked)
        text, more = _answer(wish, tools)
        if wish.max_tokens is not None:
            text = _within(text, wish.max_tokens)
        for piece in pieces(text):
            await say(piece)
        usage = Usage(asked, tokens_of(text), 0.0, OFFLINE, "offline")
        wished = wish.model
        if wished is not None and (wished.model or wished.provider):
            more["note"] = f"no model is configured here: {wished.model or wished.provider} was not asked"
        return Reply(text, OFFLINE, "offline", usage, **more)

    async def close(self) -> None:
        """It holds nothing."""


def pieces(text: str) -> list[str]:
    """About a line each, so that a reader sees the answer grow."""
    return re.findall(r".{1,80}(?:\s+|$)|\S{1,80}", text, re.DOTALL)


def _answer(wish: LlmInput, tools: Sequence[ToolDescription]) -> tuple[str, dict[str, Any]]:
    if wish.op == "plan":
        steps = Planner(tools).plan(wish)
        return _told(steps), {"steps": steps, "repaired": False}
    if wish.op == "turn":
        return _turn(wish, tools)
    if wish.op == "detect":
        yes, why = orchestrate(wish.subject)
        return f"{'YES' if yes else 'NO'}: {why}", {"orchestrate": yes}
    if wish.op == "summarize":
        return texts.summarize(wish), {}
    if wish.op == "report":
        return texts.report(wish), {}
    return (texts.answer(wish.message) if wish.op == "answer" else texts.reason(wish)), {}


def _turn(wish: LlmInput, tools: Sequence[ToolDescription]) -> tuple[str, dict[str, Any]]:
    """One call that fits the step; another tool after one that failed; words when there is a result, or no tool."""
    if not wish.last and not any(result.status == "success" for each in wish.exchange for result in each.results):
        tried = [f"{call.server}/{call.tool}" for each in wish.exchange for call in each.calls]
        if chosen := Planner(tools).call(wish, tried):
            tool, args = chosen
            call = Call(f"call-{len(wish.exchange) + 1}", tool.server, tool.name, args)
            return f"Calling {tool.server}/{tool.name}.", {"calls": [call]}
    return texts.after_calls(wish), {"calls": []}


def _told(steps: Sequence[dict[str, Any]]) -> str:
    lines = []
    for number, step in enumerate(steps, 1):
        how = f"{step['server']}/{step['tool']}" if step["tool"] else step["type"]
        lines.append(f"{number}. {step['description']} ({how})")
    return "\n".join(lines)


def _within(text: str, tokens: int) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= tokens * BYTES_PER_TOKEN:
        return text
    return data[: max(0, tokens * BYTES_PER_TOKEN - len(_MARK.encode()))].decode("utf-8", "ignore") + _MARK
