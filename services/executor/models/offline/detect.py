"""Whether a request is work for a goal: by the rules that a model would be asked to apply."""

import re
from typing import Final

from services.executor.models.offline import values
from services.executor.models.offline.clauses import clauses
from services.executor.models.offline.words import is_verb, split

MANY_CALLS: Final = 5
MANY_THINGS: Final = 10
LONG_CHARS: Final = 4_000

_QUESTION: Final = re.compile(
    r"^(?:what|who|when|where|why|which|how|is|are|do|does|did|can|could|would|should|will)\b", re.I
)
_CHAT: Final = re.compile(r"^(?:hi|hello|hey|thanks|thank you|good (?:morning|evening|day)|ok|okay|yes|no|bye)\b", re.I)
_MANY: Final = re.compile(
    r"\b(?:all|every|each|entire|whole|hundreds?|thousands?|millions?|dozens?|bulk|batch|large|huge)\b[\w\s-]{0,40}?\b"
    r"(?:files?|documents?|records?|rows?|issues?|pages?|items?|entries|messages?|comments?|tests?|users?|repos?|"
    r"repositor(?:y|ies)|logs?|images?|datasets?|data|tables?|customers?|orders?|tickets?|emails?)\b",
    re.I,
)
_DEPENDS: Final = re.compile(
    r"\b(?:then|afterwards|after that|based on (?:that|the|it|them)|using (?:the|these|those) results?|finally|"
    r"once (?:that|it|they)|step by step)\b|\b(?:and|,)\s+\w+\s+(?:them|it|these|those|the results?)\b",
    re.I,
)
_LOOPS: Final = re.compile(
    r"\b(?:until|repeat(?:edly)?|iterat\w+|refin\w+|keep \w+ing|retry|again and again|for each|for every|one by one|"
    r"loop)\b",
    re.I,
)
_WORKFLOW: Final = re.compile(
    r"\b(?:workflow|pipeline|end[- ]to[- ]end|migrat\w+|long[- ]running|overnight|in the background)\b", re.I
)


def orchestrate(message: str) -> tuple[bool, str]:
    """Whether to plan it as a goal, and the rule that says so.

    Yes: more than five things to do, many items or large data, steps that depend on each other, a loop or refinement,
    a workflow, or a text that is itself long. No: a question, one or two things to do, conversation.
    """
    text = message.strip()
    if not text:
        return False, "there is nothing to do"
    doing = [clause for clause in clauses(text) if _acts(clause.text)]
    if _CHAT.match(text) and not doing:
        return False, "conversation"
    if len(doing) > MANY_CALLS:
        return True, f"{len(doing)} things to do in a row"
    if len(doing) <= 1 and _QUESTION.match(text) and text.endswith("?"):
        return False, "a simple question"
    if not doing and _LOOPS.search(text) and any(is_verb(word) for word in split(text)):
        return True, "a loop or refinement"
    for rule, reason in (
        (_LOOPS, "a loop or refinement"),
        (_WORKFLOW, "a workflow"),
        (_MANY, "many items or much data"),
    ):
        if doing and rule.search(text):
            return True, reason
    if doing and any(number > MANY_THINGS for _, number in values.numbers(text)) and len(doing) > 1:
        return True, "many items"
    if len(doing) >= 3 or (len(doing) == 2 and _DEPENDS.search(text) and values.paths(text)):
        return True, "steps that depend on each other"
    if len(text) > LONG_CHARS:
        return True, "a long text to work on"
    return False, f"{len(doing)} thing{'s' * (len(doing) != 1)} to do"


def _acts(clause: str) -> bool:
    words = split(clause[:80])
    return bool(words) and is_verb(words[0])
