"""The offline model's judgements and texts: only what it was told, and it says what it is."""

import asyncio
from typing import Any

import msgspec
import pytest

from services.executor.models.offline import Offline
from services.executor.models.offline.detect import orchestrate
from services.executor.models.port import LlmInput, Reply
from taskloom.kinds import TaskError

CONTEXT = {
    "summary": "The log is large.",
    "findings": {"Find errors": "disk full: 12 times\nnetwork down: 3 times"},
    "toolResults": [{"toolName": "logs/count", "result": {"lines": 4711}}],
    "messageHistory": [{"role": "user", "content": "Please hurry"}],
}


def ask(**wish: Any) -> tuple[Reply, str]:
    said: list[str] = []

    async def say(piece: str) -> None:
        said.append(piece)

    return asyncio.run(Offline().ask(msgspec.convert(wish, LlmInput), (), say)), "".join(said)


@pytest.mark.parametrize(
    "message",
    [
        "find the five most frequent errors in this log, group them by hour, and write a report",
        "Analyze all issues in my GitHub repo and create a summary report",
        "Migrate all TODO comments to GitHub issues",
        "Keep refining the draft until it reads well",
        "Run `a`, run `b`, run `c`, run `d`, run `e`, run `f`",
        "Read the 40 reports and compare their figures",
        "For each customer send an email",
    ],
)
def test_work_of_many_steps_is_orchestrated(message: str) -> None:
    assert orchestrate(message)[0]


@pytest.mark.parametrize(
    "message",
    [
        *("", "   ", "hi", "Thanks a lot!", "What is the capital of France?", "How do I write a loop in Python?"),
        *("Summarize this text", "Fetch https://example.com and show the title", "Tell me a joke"),
    ],
)
def test_a_question_or_one_or_two_things_are_answered_at_once(message: str) -> None:
    assert not orchestrate(message)[0]


def test_the_judgement_says_which_rule_it_followed() -> None:
    reply, text = ask(op="detect", message="Tell me a joke")
    assert (reply.orchestrate, text) == (False, "NO: 1 thing to do")


@pytest.mark.parametrize("op", ["reason", "report", "summarize", "answer", "turn", "detect", "plan"])
def test_every_answer_says_which_model_gave_it_and_what_it_used(op: str) -> None:
    reply, said = ask(op=op, goal="Find errors", message="Find errors", context=CONTEXT)
    assert (reply.model_used, reply.provider, said) == ("taskloom-offline", "offline", reply.text)
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens == -(-len(reply.text.encode()) // 4)
    assert reply.usage.cost_usd == 0


@pytest.mark.parametrize("op", ["reason", "report"])
def test_a_text_quotes_what_is_known_and_says_that_no_model_was_asked(op: str) -> None:
    reply, _ = ask(op=op, goal="Which errors are frequent?", context=CONTEXT)
    assert "disk full: 12 times" in reply.text
    assert "4711" in reply.text
    assert "no model was asked" in reply.text


def test_what_the_offline_model_said_before_is_not_said_about_it_again() -> None:
    first = ask(op="reason", step={"id": "step-2", "description": "Think"}, context=CONTEXT)[0].text
    text = ask(op="report", goal="Find errors", context={"findings": {"Think": first}})[0].text
    assert text.count("no model was asked") == 1
    assert text.count("Think") == 1
    assert "disk full: 12 times" in text


def test_without_anything_known_nothing_is_made_up() -> None:
    assert "Nothing was found before this step" in ask(op="reason", goal="Name the king")[0].text
    assert "Nothing was found." in ask(op="report", goal="Name the king")[0].text
    assert ask(op="summarize", goal="Name the king")[0].text == "Nothing was found so far."


def test_a_summary_has_at_most_500_words_and_keeps_the_summary_before_and_the_newest() -> None:
    results = [{"toolName": f"tool-{number}", "result": "word " * 300} for number in range(200)]
    text = ask(op="summarize", context={"summary": "Before.", "toolResults": results})[0].text
    assert len(text.split()) <= 500
    assert text.startswith("Before.")
    assert "tool-199" in text


def test_an_answer_is_no_longer_than_its_limit() -> None:
    reply, _ = ask(op="answer", message="ä" * 500, max_tokens=20)
    assert reply.usage.output_tokens <= 20
    assert reply.text.endswith("[…]")


@pytest.mark.parametrize("budget", [{"tokens": 3}, {"cost_usd": 0.0}])
def test_what_does_not_fit_into_the_budget_is_refused_before_it_is_done(budget: dict[str, float]) -> None:
    with pytest.raises(TaskError) as refused:
        ask(op="reason", goal="Find errors", budget=budget)
    assert (refused.value.type, refused.value.retryable) == ("budget_exceeded", False)
