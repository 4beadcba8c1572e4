"""Models over a network: what each wish asks for, and how its answer is read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from msgspec import structs

from services.executor.models import conversation, plans, sdk
from services.executor.models.caller import Answered, Caller, Question
from services.executor.models.choice import Chosen, chain
from services.executor.models.conversation import Names
from services.executor.models.port import LlmInput, Model, Reply, Say, ToolDescription
from services.executor.models.settings import ModelSettings
from taskloom.domain.values import Usage
from taskloom.kinds import TaskError

DETECT_TOKENS: Final = 200
"""For one word at the end: models that think before they answer count their thoughts."""

SUMMARY_TOKENS: Final = 1000


class Online(Model):
    """Asks the models of the settings."""

    def __init__(self, settings: ModelSettings, caller: Caller | None = None) -> None:
        self._settings = settings
        self._caller = caller or Caller(settings)

    @property
    def offline(self) -> bool:
        return False

    async def close(self) -> None:
        await self._caller.close()

    async def ask(self, wish: LlmInput, tools: Sequence[ToolDescription], say: Say) -> Reply:
        models = chain(self._settings, wish.model)
        turn = _Turn(self._caller, models, wish, tools)
        await turn.prepare(models[0].provider, self._limit(wish))
        if wish.op == "plan":
            return await _plan(turn, say)
        if wish.op == "turn":
            return await _turn(turn, say)
        if wish.op == "detect":
            return await _detect(turn, say)
        answered = await turn.ask(say)
        return turn.reply(answered, answered.response.text or "")

    def _limit(self, wish: LlmInput) -> int:
        if wish.op == "detect":
            return max(DETECT_TOKENS, wish.max_tokens or 0)
        return wish.max_tokens or (SUMMARY_TOKENS if wish.op == "summarize" else self._settings.model_max_tokens)


class _Turn:
    """One wish: its question, and what its answers have used."""

    def __init__(self, caller: Caller, models: list[Chosen], wish: LlmInput, tools: Sequence[ToolDescription]) -> None:
        self.wish = wish
        self.tools = tools
        self.names = Names(tools)
        over = len(tools) - conversation.MAX_TOOLS if wish.op == "turn" and not wish.last else 0
        self.notes = [f"{over} tools were not offered: a model takes {conversation.MAX_TOOLS}"] if over > 0 else []
        self._caller = caller
        self._models = models
        self._used = Usage()
        self._question: Question | None = None

    async def prepare(self, provider: str, limit: int) -> None:
        await sdk.ready(provider)
        wish = self.wish
        self._question = Question(
            conversation.messages_of(wish, self.tools, self.names),
            conversation.parameters_of(wish, self.names),
            conversation.size_of(wish, self.tools, self.names),
            limit,
            wish.budget,
        )

    async def ask(self, say: Say | None) -> Answered:
        assert self._question is not None
        answered = await self._caller.ask(self._question, self._models, say)
        self._count(answered)
        return answered

    async def again(self, before: Answered, wrong: Sequence[str], say: Say | None) -> Answered:
        """The same question with the answer to it and what is wrong with that, to the model that gave it."""
        assert self._question is not None
        question = self._question
        messages = conversation.again(question.messages, before.response, wrong)
        size = question.size + before.usage.output_tokens
        left = question.budget
        if left is not None and left.tokens is not None:
            spent = before.usage.input_tokens + before.usage.output_tokens
            left = type(left)(left.tokens - spent, left.cost_usd)
        answered = await self._caller.ask(
            replace(question, messages=messages, size=size, budget=left, said=False), [before.model], say
        )
        self._count(answered)
        return answered

    def _count(self, answered: Answered) -> None:
        used, more = self._used, answered.usage
        self._used = Usage(
            used.input_tokens + more.input_tokens,
            used.output_tokens + more.output_tokens,
            round(used.cost_usd + more.cost_usd, 9),
            more.model,
            more.provider,
        )
        self.notes += [note for note in answered.notes if note not in self.notes]

    def reply(self, answered: Answered, text: str) -> Reply:
        """The answer with all that was used for it."""
        usage = self._used
        reply = Reply(text, usage.model, usage.provider, usage)
        return _with(reply, note="; ".join(self.notes)) if self.notes else reply


async def _plan(turn: _Turn, say: Say) -> Reply:
    """A plan that cannot be used is shown to the model once, with what is wrong; then it is one thought."""
    answered = await turn.ask(None)
    steps, wrong = _planned(answered, turn)
    repaired = False
    if wrong:
        try:
            answered = await turn.again(answered, wrong, None)
            better, still = _planned(answered, turn)
            repaired = not still
            steps, wrong = (better or steps), still
        except TaskError as error:
            turn.notes.append(f"the plan could not be mended: {error.message}")
    if wrong:
        turn.notes.append("the plan has mistakes: " + "; ".join(wrong))
    if not steps:
        steps = plans.fallback(turn.wish)
        turn.notes.append("the model's plan could not be read: the goal is one step")
    text = plans.told(steps)
    await say(text)
    return _with(turn.reply(answered, text), steps=steps, repaired=repaired)


def _planned(answered: Answered, turn: _Turn) -> tuple[list[Any], list[str]]:
    response = answered.response
    told = [conversation.arguments(part) for part in response.tool_calls if part.tool_name == plans.PROPOSE]
    try:
        listed = plans.read(told[0] if told and told[0] is not None else response.text or "")
    except plans.Unreadable as error:
        return [], [f"the arguments of {plans.PROPOSE}: {error}" if told else str(error)]
    return plans.steps_of(listed, turn.wish, turn.tools)


async def _turn(turn: _Turn, say: Say) -> Reply:
    answered = await turn.ask(say)
    calls, wrong = conversation.calls_of(answered.response, turn.names)
    if wrong and not turn.wish.last:
        try:
            answered = await turn.again(answered, wrong, say)
            calls, wrong = conversation.calls_of(answered.response, turn.names)
        except TaskError as error:
            turn.notes.append(f"the calls could not be mended: {error.message}")
    turn.notes += wrong
    text = answered.response.text or ""
    if not text and not calls and wrong:
        text = "The model asked for calls that cannot be read."
        await say(text)
    return _with(turn.reply(answered, text), calls=[] if turn.wish.last else calls)


async def _detect(turn: _Turn, say: Say) -> Reply:
    """No when the model cannot be asked: the request is then answered at once."""
    try:
        answered = await turn.ask(say)
    except TaskError as error:
        if error.type == "budget_exceeded":
            raise
        told = turn.wish.model
        reply = Reply("NO", (told.model if told else "") or "none", (told.provider if told else "") or "none", Usage())
        return _with(reply, orchestrate=False, note=error.message)
    text = answered.response.text or ""
    words = text.upper().replace("*", " ").split()
    return _with(turn.reply(answered, text), orchestrate=bool(words) and words[0].startswith("YES"))


def _with(reply: Reply, **more: object) -> Reply:
    return structs.replace(reply, **more)
