"""Words of a goal or a tool, normalised so that "hourly errors" meets ``errors_by_hour``."""

import re
from collections.abc import Iterable
from typing import Final


def listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_COUNTED: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
NUMBERS: Final = {word: number for number, word in enumerate(_COUNTED.split())} | {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "hundred": 100,
    "dozen": 12,
    "thousand": 1000,
}

STOP: Final = listed(
    "a an the this that these those them they it its in on at of for to from by with into onto as is are be was were "
    "and or then also please me my our your us i we you all any each every some most more very so if per after before "
    "finally next first last afterwards result results there here which what who how do does can could would should "
    "will not no up out about"
)

_SAME: Final = {
    "find": "search locate look discover seek grep detect",
    "fetch": "get retrieve download load pull read open",
    "write": "create make generate produce compose save store draft prepare wrote written",
    "remove": "delete erase drop",
    "run": "execute launch invoke start",
    "group": "bucket aggregate cluster categorize categorise sort",
    "count": "tally",
    "send": "post deliver mail email notify",
    "show": "list display print enumerate",
    "update": "change edit modify",
    "convert": "transform translate",
    "frequent": "frequently frequency common top",
    "error": "exception",
    "summary": "summarize summarise summaries",
    "analysis": "analyze analyse analyses",
    "compute": "calculate",
    "check": "verify validate inspect",
    "directory": "folder",
}

VERBS: Final = listed(
    "find search locate look discover seek grep detect fetch get retrieve download load pull read open write create "
    "make generate produce compose save store draft prepare remove delete erase drop run execute launch invoke start "
    "group bucket aggregate cluster categorize categorise sort count tally send post deliver mail email notify show "
    "list display print enumerate update change edit modify convert transform translate summarize summarise analyze "
    "analyse compute calculate check verify validate inspect compare rank filter extract parse scan collect gather "
    "merge combine join split test build deploy install copy move rename upload publish submit schedule plan review "
    "explain describe classify label map plot draw draft answer ask call query select insert export import migrate "
    "monitor measure investigate research identify determine decide rewrite refactor fix repair report sum add "
    "append clean normalize normalise compress archive backup restore tell give order book checkpoint wait stop "
    "keep repeat continue migrate reply outline explore study evaluate estimate suggest propose recommend organize "
    "organise format render"
)

_WORD: Final = re.compile(r"[A-Za-z]+|[0-9]+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DOUBLED: Final = re.compile(r"([bdgmnprt])\1$")
_VOWEL: Final = re.compile(r"[aeiouy]")


def stem(word: str) -> str:
    """The beginning that a word's forms share: ``errors`` and ``error``, ``grouping`` and ``group``."""
    word = word.lower()
    for ending, put in (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("ly", ""), ("es", "e"), ("s", "")):
        kept = word[: len(word) - len(ending)] + put
        if word.endswith(ending) and len(kept) >= 3 and _VOWEL.search(kept) and not word.endswith("ss"):
            word = _DOUBLED.sub(r"\1", kept) if ending in ("ing", "ed") else kept
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


_CANONICAL: Final = {stem(other): stem(word) for word, others in _SAME.items() for other in others.split()}
VERB_STEMS: Final = frozenset(_CANONICAL.get(stem(verb), stem(verb)) for verb in VERBS)


def normal(word: str) -> str:
    """The stem, or that of the word it means the same as."""
    stemmed = stem(word)
    return _CANONICAL.get(stemmed, stemmed)


def split(text: str) -> list[str]:
    """Words and numbers of a text or a name (``snake_case``, ``camelCase``), lower-case, in order."""
    return [word.lower() for word in _WORD.findall(_CAMEL.sub(" ", text))]


def terms(text: str) -> list[str]:
    """The words that say something, normalised, in order."""
    return [normal(word) for word in split(text) if word not in STOP and not word.isdigit() and word not in NUMBERS]


def overlap(some: Iterable[str], others: Iterable[str]) -> int:
    return len(set(some) & set(others))


def is_verb(word: str) -> bool:
    return word.lower() in VERBS
