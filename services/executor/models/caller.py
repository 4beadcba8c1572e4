"""One question to the models: tries, waits, fallbacks, limits, usage, cost and a span, around the library's request."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from services.executor.models import prices
from services.executor.models.choice import Chosen
from services.executor.models.errors import task_error
from services.executor.models.limits import Places
from services.executor.models.port import Left, Say, hold, tokens_of
from services.executor.models.providers import Providers
from services.executor.models.settings import PROVIDERS, ModelSettings
from taskloom import telemetry
from taskloom.domain.values import Usage
from taskloom.kinds import TaskError

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import ModelRequestParameters

FIRST_WAIT_S: Final = 1.0
LEAST_TOKENS: Final = 16
"""An answer that the budget has less room for is not asked for."""

BROKE_OFF: Final = "\n[the answer broke off; asked again]\n"
log = telemetry.get_logger(__name__)
_calls = telemetry.counter("model_calls", "Calls of models, by provider and how they ended", ["provider", "how"])
_tokens = telemetry.counter("model_tokens", "Tokens of models, by provider and direction", ["provider", "direction"])
_seconds = telemetry.histogram("model_call_seconds", "Length of calls of models, by provider", ["provider"])


@dataclass(slots=True)
class Question:
    """What goes to the models. ``size``: estimated tokens of it. ``said`` grows: whether a piece was told already."""

    messages: "Sequence[ModelMessage]"
    parameters: "ModelRequestParameters"
    size: int
    max_tokens: int
    budget: Left | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    said: bool = False


@dataclass(slots=True)
class Answered:
    """``model``: whom it is from. ``notes``: what a reader should know about it."""

    response: "ModelResponse"
    model: Chosen
    usage: Usage
    notes: list[str]


class Caller:
    def __init__(self, settings: ModelSettings, places: Places | None = None) -> None:
        self._settings = settings
        self._providers = Providers(settings)
        self._places = places or Places(settings.model_concurrency, settings.model_calls_per_minute)
        self._keys = [key for key in map(settings.key_of, PROVIDERS) if key]

    async def close(self) -> None:
        await self._providers.close()

    async def ask(self, question: Question, chain: Sequence[Chosen], say: Say | None) -> Answered:
        """The first model's answer, or that of the next one when it has none; its text is said while it grows.

        Raises:
            TaskError: no model answered: the error of the first one, retryable if any of theirs is;
                ``budget_exceeded``: it was not asked.
        """
        failures: list[TaskError] = []
        for model in chain:
            await self._hold(question, model)
            try:
                answered = await self._tried(question, model, say)
            except TaskError as error:
                log.info("a model did not answer", model=str(model), error=error.type, reason=error.message)
                failures.append(error)
                continue
            if failures:
                answered.notes.append("did not answer: " + "; ".join(error.message for error in failures))
            return answered
        first = failures[0]
        told = [{"model": error.details["model"], "type": error.type} for error in failures]
        raise TaskError(
            first.type,
            "; ".join(error.message for error in failures),
            retryable=any(error.retryable for error in failures),
            details={**first.details, "models": told},
        ) from first

    async def _hold(self, question: Question, model: Chosen) -> None:
        """Makes the answer short enough for the budget, or refuses it before the call."""
        budget = question.budget
        if budget is None:
            return
        hold(budget, question.size + LEAST_TOKENS)
        if budget.tokens is not None:
            question.max_tokens = min(question.max_tokens, int(budget.tokens) - question.size)
        if budget.cost_usd is not None:
            await self._providers.model(model)
            cost = prices.cost_of(model, question.size, LEAST_TOKENS)
            if cost is not None and cost > budget.cost_usd:
                message = f"the call costs about {cost:.6f} USD, and {budget.cost_usd:.6f} of the budget are left"
                raise TaskError("budget_exceeded", message, retryable=False, details={"cost_usd": cost})

    async def _tried(self, question: Question, model: Chosen, say: Say | None) -> Answered:
        for number in range(1, self._settings.model_tries + 1):
            try:
                async with self._places.place():
                    return await self._once(question, model, say)
            except TaskError as error:
                wait_s = self._wait_s(error, number)
                if not error.retryable or number == self._settings.model_tries or wait_s > self._settings.model_wait_s:
                    raise
            if question.said and say is not None:
                await say(BROKE_OFF)
                question.said = False
            await asyncio.sleep(wait_s)
        raise AssertionError  # the last try returns or raises

    @staticmethod
    def _wait_s(error: TaskError, number: int) -> float:
        """As long as the server asks for; else 1 s, doubling, with up to a quarter more so that callers spread."""
        told = error.details.get("retry_after_s")
        if isinstance(told, int | float):
            return float(told)
        return FIRST_WAIT_S * float(2 ** (number - 1)) * random.uniform(1.0, 1.25)

    async def _once(self, question: Question, model: Chosen, say: Say | None) -> Answered:
        loop = asyncio.get_running_loop()
        began = loop.time()
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": model.provider,
            "gen_ai.request.model": model.name,
            "gen_ai.request.max_tokens": question.max_tokens,
        }
        how = "cancelled"
        with telemetry.span(f"chat {model.name}", kind="client") as span:
            span.set(**attributes)
            try:
                response = await self._request(question, model, say)
                how = "answered"
            except TaskError as error:
                how = error.type
                span.set(**{"error.type": how})
                raise
            except Exception as error:
                failed = task_error(error, str(model), self._keys)
                how = failed.type
                span.set(**{"error.type": how})
                raise failed from error
            finally:
                _calls.labels(model.provider, how).inc()
                _seconds.labels(model.provider).observe(loop.time() - began)
            usage, notes = self._counted(question, model, response)
            span.set(
                **{
                    "gen_ai.response.model": usage.model,
                    "gen_ai.usage.input_tokens": usage.input_tokens,
                    "gen_ai.usage.output_tokens": usage.output_tokens,
                }
            )
        return Answered(response, model, usage, notes)

    async def _request(self, question: Question, model: Chosen, say: Say | None) -> "ModelResponse":
        known = await self._providers.model(model)
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

        async with model_request_stream(
            known,
            question.messages,
            model_settings=self._settings_for(question, model),  # type: ignore[arg-type]
            model_request_parameters=question.parameters,
            instrument=False,
        ) as stream:
            async for event in stream:
                text = ""
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    text = event.part.content
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    text = event.delta.content_delta
                if text and say is not None:
                    question.said = True
                    await say(text)
            return stream.get()

    def _settings_for(self, question: Question, model: Chosen) -> dict[str, Any]:
        told: dict[str, Any] = {
            "max_tokens": question.max_tokens,
            "request_timeout": self._settings.model_timeout_s,
            "first_event_timeout": self._settings.model_first_s,
            **question.settings,
        }
        # Tries are counted here, not by the providers' own clients as well; Google's makes none unless it is told to.
        return told if model.provider == "google" else told | {"max_retries": 0}

    @staticmethod
    def _counted(question: Question, model: Chosen, response: "ModelResponse") -> tuple[Usage, list[str]]:
        notes = []
        tokens, answer = response.usage.input_tokens, response.usage.output_tokens
        if not tokens and not answer:
            tokens, answer = question.size, tokens_of(response.text or "")
            notes.append("the server did not count tokens: they are estimated")
        if response.finish_reason == "length":
            notes.append(f"the answer was cut at {question.max_tokens} tokens")
        cost = prices.cost_of(model, tokens, answer, response)
        if cost is None:
            notes.append(f"the price of {model} is not known: its cost is counted as 0")
        _tokens.labels(model.provider, "input").inc(tokens)
        _tokens.labels(model.provider, "output").inc(answer)
        return Usage(tokens, answer, cost or 0.0, response.model_name or model.name, model.provider), notes
