"""Which tool a clause means: by the words of the tool's name, its description and its arguments."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from services.executor.models.offline import values
from services.executor.models.offline.words import VERB_STEMS, normal, split, terms
from services.executor.models.port import ToolDescription

ENOUGH: Final = 0.75
DESCRIPTION_CHARS: Final = 600

_VALUE: Final = 0.35
_PATH: Final = 0.2
_DESCRIBED: Final = 0.6
_URL_NAMES: Final = frozenset({"url", "uri", "link", "address"})
_COMMAND_NAMES: Final = frozenset({"cmd", "command", "script"})
_ZONE_NAMES: Final = frozenset({"timezone", "zone", "tz"})
_PATH_NAMES: Final = frozenset({"path", "file", "filename", "source", "directory"})
_WEB: Final = frozenset(normal(word) for word in ("http", "fetch", "url", "web", "request"))
_REQUESTS: Final = frozenset(normal(word) for word in ("fetch", "send", "check", "call", "query", "show"))
_SQL: Final = frozenset({"sql"})
_SQL_STARTS: Final = ("select ", "with ", "show ", "explain ")


class _Known(Struct, frozen=True):
    tool: ToolDescription
    name: frozenset[str]
    words: frozenset[str]
    arguments: frozenset[str]


class Matcher:
    """Scores clauses against these tools. A word that many of them share counts for little."""

    def __init__(self, tools: Sequence[ToolDescription]) -> None:
        self._known = [_known(tool) for tool in sorted(tools, key=lambda tool: (tool.server, tool.name))]
        self._having = Counter(word for known in self._known for word in known.name | known.words)
        self.verbs = frozenset(word for tool in tools for word in split(tool.name)[:1])

    def fitting(self, clause: str) -> list[ToolDescription]:
        """Tools that the clause may mean, best first; equals by server and name."""
        said = frozenset(terms(values.bare(clause)))
        scored = [(self._score(clause, said, known), known.tool) for known in self._known]
        fit = [(score, tool) for score, tool in scored if score >= ENOUGH]
        return [tool for _, tool in sorted(fit, key=lambda each: -each[0])]

    def _score(self, clause: str, said: frozenset[str], known: _Known) -> float:
        hit = said & known.name
        named = self._weight(hit) / max(self._weight(known.name), 1e-9)
        if hit <= VERB_STEMS and len(known.name) > 1:
            named /= 2  # "write" alone says little about what is written
        covered = self._weight(said & (known.name | known.words)) / max(self._weight(said), 1e-9)
        return named + _DESCRIBED * covered + _evidence(clause, known)

    def _weight(self, words: frozenset[str]) -> float:
        many = len(self._known)
        return sum(math.log(1.0 + (1 + many) / (1 + self._having[word])) for word in sorted(words))


def _known(tool: ToolDescription) -> _Known:
    names = frozenset(terms(tool.name)) or frozenset(split(tool.name))
    properties = tool.schema.get("properties")
    arguments = frozenset(word for name in (properties if isinstance(properties, dict) else {}) for word in split(name))
    return _Known(tool, names, frozenset(terms(tool.description[:DESCRIPTION_CHARS])), arguments)


def _evidence(clause: str, known: _Known) -> float:
    """A value of the kind that the tool takes says more than words do."""
    told = [found.text.strip() for found in values.quoted(clause)]
    if known.name & _SQL and any(text.lower().startswith(_SQL_STARTS) for text in told):
        return 2 * _VALUE
    if known.arguments & _URL_NAMES and values.urls(clause):
        return ENOUGH if known.name & _WEB and _REQUESTS & frozenset(terms(clause)[:1]) else _VALUE
    if known.arguments & _COMMAND_NAMES and "`" in clause:
        return _VALUE
    if known.arguments & _ZONE_NAMES and values.zones(clause):
        return _VALUE
    if values.urls(clause) and not values.paths(clause):
        return -_VALUE  # what takes no address is not meant
    return _PATH if known.arguments & _PATH_NAMES and values.paths(clause) else 0.0
