"""Values that stand in a text: paths, addresses, quoted words, numbers."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from msgspec import Struct

from services.executor.models.offline.words import NUMBERS

MAX_TEXT: Final = 10_000
"""Of a longer text only so many characters are looked at."""

MAX_VALUES: Final = 200
"""Of each kind of value; what comes after is taken for words."""

_QUOTED: Final = re.compile(
    r"`([^`\n]{1,2000})`|\"([^\"\n]{1,2000})\"|“([^”\n]{1,2000})”|(?<!\w)'([^'\n]{1,2000})'(?!\w)"
)
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s<>\"'`,;]+[^\s<>\"'`,;.!?)\]]", re.IGNORECASE)
_PATH: Final = re.compile(
    r"(?<![\w/.~-])(?:~?/[\w.+@%=-]+(?:/[\w.+@%=-]+)*/?|\.{1,2}/[\w./+@%=-]+|[A-Za-z]:\\[\w.\\ -]*[\w.]"
    r"|[\w+@%=-]+(?:[/.][\w+@%=-]+)*\.[A-Za-z][A-Za-z0-9]{0,6}(?![\w/]))"
)
_NUMBER: Final = re.compile(r"(?<![\w.:/-])-?\d{1,15}(?:,\d{3})*(?:\.\d+)?(?![\w:/-])")
_COUNTED: Final = re.compile(rf"\b(?:{'|'.join(word for word in NUMBERS if word != 'one')})\b", re.IGNORECASE)
_EMAIL: Final = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_ZONE: Final = re.compile(r"\b(?:[A-Z][A-Za-z]+/[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_]+)?|UTC|GMT)\b")
_NOT_FILES: Final = frozenset({"e.g", "i.e", "a.m", "p.m", "vs"})


class Found(Struct, frozen=True):
    """One value and where it stands."""

    start: int
    end: int
    text: str


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    return islice(pattern.finditer(text[:MAX_TEXT]), MAX_VALUES)


def _found(match: re.Match[str]) -> Found:
    return Found(match.start(), match.end(), match[0])


def quoted(text: str) -> list[Found]:
    """What stands in quotation marks or backticks, without them."""
    return [
        Found(match.start(), match.end(), next(group for group in match.groups() if group is not None))
        for match in _matches(_QUOTED, text)
    ]


def urls(text: str) -> list[Found]:
    return [_found(match) for match in _matches(_URL, text)]


def emails(text: str) -> list[Found]:
    return [_found(match) for match in _matches(_EMAIL, text)]


def paths(text: str) -> list[Found]:
    """Paths and names of files, in quotes too; no addresses."""
    taken = [*urls(text), *emails(text)]
    found = []
    for match in _matches(_PATH, text):
        inside = any(other.start < match.end() and match.start() < other.end for other in taken)
        if not inside and match[0].lower().rstrip(".") not in _NOT_FILES:
            # A full stop that ends the sentence is no part of the path.
            kept = match[0].rstrip(".")
            found.append(Found(match.start(), match.start() + len(kept), kept))
    return found


def numbers(text: str) -> list[tuple[Found, float]]:
    """Digits and number words ("five"), in order; none out of quotes, paths or addresses."""
    taken = [*quoted(text), *urls(text), *paths(text)]
    digits = [(_found(match), float(match[0].replace(",", ""))) for match in _matches(_NUMBER, text)]
    words = [(_found(match), NUMBERS.get(match[0].lower(), 1)) for match in _matches(_COUNTED, text)]
    found = [*digits, *((where, float(number)) for where, number in words)]
    free = [each for each in found if not any(o.start < each[0].end and each[0].start < o.end for o in taken)]
    return sorted(free, key=lambda each: each[0].start)


def zones(text: str) -> list[str]:
    """Names of time zones: ``Europe/Berlin``, ``UTC``."""
    return [match[0] for match in _matches(_ZONE, text)]


def protected(text: str) -> list[Found]:
    """Parts that no cut may go through."""
    return [*quoted(text), *urls(text), *paths(text), *(found for found, _ in numbers(text))]


def bare(text: str) -> str:
    """The text without values: words that tell what to do."""
    zoned = [_found(match) for match in _matches(_ZONE, text)]
    for found in [*urls(text), *paths(text), *quoted(text), *zoned]:
        text = text[: found.start] + " " * (found.end - found.start) + text[found.end :]
    return text
