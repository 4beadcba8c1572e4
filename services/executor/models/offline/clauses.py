"""A goal cut into the things to do: list items, lines, sentences, "a, then b and c"."""

import re
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from services.executor.models.offline import values
from services.executor.models.offline.words import is_verb, split, terms

MAX_CLAUSES: Final = 500
LOOK_CHARS: Final = 200
"""How far behind a comma a verb is looked for."""

SUB_GOAL: Final = re.compile(r"^\s*sub-?goal\s*:\s*(?P<goal>.+)", re.IGNORECASE | re.DOTALL)
_LINES: Final = re.compile(r"\n+")
_ITEM: Final = re.compile(r"^\s*(?:step\s+)?(?:\d{1,3}[.):]|[-*•])\s+", re.IGNORECASE)
_INLINE_ITEM: Final = re.compile(r"(?:^|(?<=\s))\(?\d{1,2}[.)]\s+(?=[A-Za-z`\"'])")
_SENTENCE: Final = re.compile(r"(?<=[.;!?])\s+|;\s*")
_JOINT: Final = re.compile(
    r"\s*,\s+(?:and\s+|or\s+)?(?:then\s+)?|\s+and\s+then\s+|\s+then\s+|\s+and\s+|\s*:\s+", re.IGNORECASE
)
_LEAD: Final = re.compile(
    r"^(?:(?:and|then|also|finally|first|firstly|second|secondly|third|thirdly|next|lastly|last|afterwards|after that|"
    r"please|now|i want you to|i would like you to|can you|could you|would you|you should|we need to|let us|let's)"
    r"(?:\s*,\s*|\s+))+",
    re.IGNORECASE,
)


class Clause(Struct, frozen=True):
    """One thing to do. ``item``: which list item it is part of, from 0; -1 outside of lists."""

    text: str
    item: int = -1

    @property
    def description(self) -> str:
        return self.text[:1].upper() + self.text[1:] if self.text[:1].isalpha() else self.text


def clauses(goal: str, verbs: Collection[str] = ()) -> list[Clause]:
    """The goal's parts in order, at least one unless it is blank; at most 500. ``verbs``: more words to begin one."""
    found: list[Clause] = []
    item = -1
    for line in _LINES.split(goal[: values.MAX_TEXT]):
        for piece, starts in _items(line):
            item = item + 1 if starts else item
            if SUB_GOAL.match(piece):
                found.append(Clause(piece.strip(), item if starts else -1))
                continue
            for sentence in _cut(piece, _SENTENCE):
                found += [Clause(text, item if starts else -1) for text in _joined(sentence, verbs)]
    return _without_context(found)[:MAX_CLAUSES]


def _items(line: str) -> list[tuple[str, bool]]:
    """A line, or the items of a list that is written in one line; and whether each is an item."""
    kept = values.quoted(line)
    cuts = [match for match in _INLINE_ITEM.finditer(line) if not _inside(match.start(), kept)]
    if len(cuts) < 2:
        stripped = _ITEM.sub("", line)
        return [(stripped, stripped != line)]
    before = [(line[: cuts[0].start()], False)]
    ends = [*(match.start() for match in cuts[1:]), len(line)]
    return before + [(line[match.end() : end], True) for match, end in zip(cuts, ends, strict=True)]


def _cut(text: str, at: re.Pattern[str]) -> list[str]:
    pieces, start, kept = [], 0, values.protected(text)
    for match in at.finditer(text):
        if not _inside(match.start(), kept):
            pieces.append(text[start : match.start()])
            start = match.end()
    return [*pieces, text[start:]]


def _joined(sentence: str, verbs: Collection[str]) -> list[str]:
    """Parts of a sentence: it is cut only where a verb follows, so that "errors, warnings and notes" stays whole."""
    parts: list[str] = []
    start, kept = 0, values.protected(sentence)
    for match in _JOINT.finditer(sentence):
        if _inside(match.start(), kept):
            continue
        then = "then" in match[0].lower().split()
        whole = (
            len(split(_clean(sentence[start : min(match.start(), start + LOOK_CHARS)]))) > 1
        )  # "extract and parse the list" is one thing
        if then or (whole and _begins(sentence[match.end() : match.end() + LOOK_CHARS], verbs)):
            parts.append(sentence[start : match.start()])
            start = match.end()
    parts.append(sentence[start:])
    return [clean for part in parts if (clean := _clean(part))]


def _begins(rest: str, verbs: Collection[str]) -> bool:
    words = split(_LEAD.sub("", rest)[:80])
    return bool(words) and (is_verb(words[0]) or words[0] in verbs)


def _clean(text: str) -> str:
    return _LEAD.sub("", text.strip()).strip().rstrip(".;,:!").strip()


def _without_context(found: list[Clause]) -> list[Clause]:
    """Parts that only name something ("Log: /var/log/app.log") are no steps, unless there is nothing else."""
    doing = [clause for clause in found if len(terms(values.bare(clause.text))) >= 2 or _begins(clause.text, ())]
    return doing or found[:1]


def _inside(place: int, parts: list[values.Found]) -> bool:
    return any(part.start < place < part.end for part in parts)
