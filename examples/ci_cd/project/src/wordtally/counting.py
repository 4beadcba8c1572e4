import re
from collections import Counter

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


def words(text: str) -> list[str]:
    """The words of a text in lower case, in order."""
    return [match.group().lower() for match in WORD.finditer(text)]


def tally(text: str) -> Counter[str]:
    """How often each word occurs."""
    return Counter(words(text))


def most_common(text: str, limit: int = 3) -> list[tuple[str, int]]:
    """The most frequent words, of equally frequent ones the alphabetically first."""
    return sorted(tally(text).items(), key=lambda entry: (-entry[1], entry[0]))[:limit]
