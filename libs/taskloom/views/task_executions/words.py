"""What a search looks for, split into words as the migration's function ``task_words`` splits what is searched."""

import re
from typing import Final

_BETWEEN: Final = re.compile(r"[\x01-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+")
_HUMPS: Final = (re.compile(r"([a-z0-9])([A-Z])"), re.compile(r"([A-Z])([A-Z][a-z])"))


def words_of(text: str) -> list[str]:
    """Runs of letters and digits in their order, each once; ``ConnectTimeoutError`` is three."""
    spaced = _BETWEEN.sub(" ", text.replace("\0", " "))
    for hump in _HUMPS:
        spaced = hump.sub(r"\1 \2", spaced)
    return list(dict.fromkeys(spaced.split()))


def tsquery_of(words: list[str]) -> str:
    """For PostgreSQL's ``to_tsquery``: something begins with each of these."""
    return " & ".join(f"'{word}':*" for word in words)


def like(text: str) -> str:
    """The text with what LIKE would take for a pattern escaped."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
