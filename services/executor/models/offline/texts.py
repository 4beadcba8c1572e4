"""Texts made of what is known, by choosing and quoting: nothing in them comes from anywhere else."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from services.executor.models.offline.words import overlap, terms
from services.executor.models.port import GoalContext, LlmInput

NO_MODEL: Final = "Taskloom's offline assistant wrote this from what the steps found: no model was asked."
SUMMARY_WORDS: Final = 500
THOUGHT_LINES: Final = 12
LEAST_WORDS: Final = 10
LINE_CHARS: Final = 400
RESULT_CHARS: Final = 4_000
ANSWER_CHARS: Final = 2_000
_CUT: Final = " […]"


def answer(query: str) -> str:
    """Repeats a query with a count of its words, and says that no model was asked."""
    words = len(query.split())
    quoted = query if len(query) <= ANSWER_CHARS else query[:ANSWER_CHARS] + _CUT
    counted = f"{words} word{'s' * (words != 1)}, {len(query)} character{'s' * (len(query) != 1)}"
    return f"You asked: {quoted}\n({counted}. This is Taskloom's offline assistant: no model was asked.)"


def reason(wish: LlmInput) -> str:
    """What is known that has to do with the step, line by line as it was found."""
    lines = _best(list(_lines(wish.known)), f"{wish.subject} {wish.goal}", THOUGHT_LINES)
    head = f"{wish.subject or 'This step'}\n\n"
    if not lines:
        return head + "Nothing was found before this step that it could be answered from. " + NO_MODEL
    return head + "What was found so far:\n" + "\n".join(f"- {line}" for line in lines) + "\n\n" + NO_MODEL


def after_calls(wish: LlmInput) -> str:
    """What the calls of a turn brought."""
    told = []
    for each in wish.exchange:
        tools = {call.id: f"{call.server}/{call.tool}" for call in each.calls}
        for result in each.results:
            name = tools.get(result.id, "tool")
            if result.status == "success":
                told.append(f"{name} answered: {shown(result.result)}")
            else:
                told.append(f"{name} failed: {shown(result.error)}")
    return "\n".join(told) if told else reason(wish)


def summarize(wish: LlmInput) -> str:
    """At most 500 words: the summary before, findings, results, the newest messages, what the step needs."""
    known = wish.known
    parts = [known.summary] if known.summary else []
    parts += [f"{description}: {shown(text, LINE_CHARS)}" for description, text in known.findings.items()]
    parts += [f"{each.tool_name} gave: {shown(each.result, LINE_CHARS)}" for each in known.tool_results]
    parts += [f"{each.role} said: {shown(each.content, LINE_CHARS)}" for each in known.message_history[-10:]]
    if not parts:
        return "Nothing was found so far."
    # The newest ones where there are too many: what came before is in the summary before.
    chosen = parts[:1] + parts[1:][-(SUMMARY_WORDS // LEAST_WORDS - 1) :]
    share = SUMMARY_WORDS // len(chosen) - 1
    return "\n".join(_words(part, share) for part in chosen)


def report(wish: LlmInput) -> str:
    """The goal, what each step found, what tools gave."""
    known = wish.known
    parts = [f"# {_words(' '.join(wish.goal.split()), 30) or 'Report'}"]
    if known.summary:
        parts.append(known.summary)
    parts += [f"## {words}\n\n{_found(words, text)}" for words, text in known.findings.items()]
    told = {shown(text, RESULT_CHARS) for text in known.findings.values()}
    results = [(each.tool_name, shown(each.result, RESULT_CHARS)) for each in known.tool_results]
    rest = [f"### {name}\n\n{text}" for name, text in results if text not in told]
    parts += ["## Results of tools", *rest] if rest else []
    if wish.failure is not None:
        parts.append(f"## Failure\n\n{shown(wish.failure.error)}")
    if len(parts) == 1:
        parts.append("Nothing was found.")
    return "\n\n".join([*parts, f"({NO_MODEL})"])


def _found(description: str, text: Any) -> str:
    """A finding without what is said around it anyway."""
    return shown(text).removeprefix(description).replace(NO_MODEL, "").strip()


def shown(value: Any, most: int = RESULT_CHARS) -> str:
    """A value as text, cut with a mark that says so."""
    text = value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= most else text[:most] + _CUT


def _lines(known: GoalContext) -> Iterable[str]:
    texts = [known.summary, *(_found(words, text) for words, text in known.findings.items())]
    texts += [shown(each.result) for each in known.tool_results]
    for text in texts:
        for line in re.split(r"\n+|(?<=[.!?])\s+", text):
            if line.strip():
                yield line.strip()[:LINE_CHARS]


def _best(lines: list[str], wanted: str, most: int) -> list[str]:
    """Those with the most words in common, in their own order; the first ones where none has any."""
    words = terms(wanted)
    unique = list(dict.fromkeys(lines))
    ranked = sorted(range(len(unique)), key=lambda place: (-overlap(terms(unique[place]), words), place))
    return [unique[place] for place in sorted(ranked[:most])]


def _words(text: str, most: int) -> str:
    words = text.split()
    return text if len(words) <= most else " ".join(words[:most]) + _CUT
