"""Arguments of a tool's call, filled by its schema from what the text says and from what earlier steps bring."""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from services.executor.models.offline import values
from services.executor.models.offline.words import listed, normal, split, stem, terms
from services.executor.models.port import ToolDescription

TITLE_CHARS: Final = 100
MAX_ARGUMENTS: Final = 64

_PATHS: Final = listed("path file filename filepath directory dir folder location")
_ENDS: Final = listed("source src from destination dest dst to target output")
_URLS: Final = listed("url uri link endpoint href")
_TITLES: Final = listed("title subject heading headline")
_DATA: Final = listed(
    "content contents text body data input inputs items results result value values records rows markdown html lines "
    "entries message report payload document json"
)
_ASKED: Final = listed("query question q term terms keyword keywords topic prompt search phrase pattern")
_COMMANDS: Final = listed("cmd command script sql statement code expression")
_AMOUNTS: Final = listed("top limit count n max maximum number size most first last k many amount top_n")
_ANAPHORA: Final = re.compile(r"\b(?:them|it|these|those|this|that|they|results?|findings?|output)\b", re.IGNORECASE)
_IDENTIFIER: Final = r"((?=\S*[a-z])(?=\S*[\d_-])[\w.-]+)(?![\w:/])"
_DATE: Final = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_TIME: Final = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b")
_WRITES: Final = normal("write")
_WRITTEN: Final = re.compile(r"\b(?:to|as|into|onto)\s+[\"'`]?$", re.IGNORECASE)
_SOURCE: Final = re.compile(r"(?:\b(?:of|for|from|about|on|in|over|with)|:)\s+[\"'`]?$", re.IGNORECASE)
LOOK_CHARS: Final = 12


class Source(Struct, frozen=True):
    """An earlier step whose result can be used. ``value``: what stands for it in ``args``; ``text``: it is a text."""

    words: frozenset[str]
    value: Any
    text: bool = False


class Scene(Struct, frozen=True):
    """What a clause's arguments can be made of; ``before`` is the text up to the clause."""

    goal: str
    clause: str
    before: str
    sources: Sequence[Source] = ()


class _Unfilled(Exception):
    pass


def fill(tool: ToolDescription, scene: Scene) -> dict[str, Any] | None:
    """Arguments of the call, or None when a required one has no source. Nothing is made up."""
    properties = tool.schema.get("properties")
    if not isinstance(properties, dict) or len(properties) > MAX_ARGUMENTS:
        return {} if not tool.schema.get("required") else None
    told = tool.schema.get("required")
    required = set(told) if isinstance(told, list) and all(isinstance(name, str) for name in told) else set()
    filler = _Filler(tool, scene, properties)
    args: dict[str, Any] = {}
    for name in sorted(properties, key=lambda name: name not in required):
        schema = properties[name] if isinstance(properties[name], dict) else {}
        try:
            args[name] = filler.value(name, schema, name in required)
        except _Unfilled:
            if name in required:
                return None
    return {name: args[name] for name in properties if name in args} if required <= set(properties) else None


class _Filler:
    """Values are taken one after the other, so that two numbers go to two arguments."""

    def __init__(self, tool: ToolDescription, scene: Scene, properties: Mapping[str, Any]) -> None:
        self._tool = tool
        self._scene = scene
        self._writes = _WRITES in terms(tool.name)[:1]
        self._quoted = [found.text for found in values.quoted(scene.clause)]
        self._numbers = [number for _, number in values.numbers(scene.clause)]
        told = values.paths(scene.clause)
        # What is only read from ("a report about app.log") is never what is written: it would be gone.
        self._paths = [found.text for found in told if not (self._writes and _follows(_SOURCE, scene.clause, found))]
        self._urls = [found.text for found in values.urls(scene.clause)]
        self._zones = values.zones(scene.clause)
        self._handed = False
        self._refers = bool(_ANAPHORA.search(scene.clause))

    def value(self, name: str, schema: Mapping[str, Any], required: bool) -> Any:
        """
        Raises:
            _Unfilled: nothing says what it is.
        """
        if "const" in schema:
            return schema["const"]
        kinds = _kinds(schema)
        if isinstance(schema.get("enum"), list):
            return self._choice(schema["enum"])
        if (said := self._said(name, kinds)) is not None:
            return said
        for kind, take in (
            ("integer", self._number),
            ("number", self._number),
            ("boolean", self._flag),
            ("string", self._string),
            ("array", self._array),
            ("object", self._data),
        ):
            if kind in kinds:
                return take(name, schema, required)
        return self._data(name, schema, required)

    def _said(self, name: str, kinds: Sequence[str]) -> Any:
        """``name=value`` and ``name: value``."""
        found = re.search(
            rf"(?<!\w){re.escape(name)}\s*[=:]\s*(\"[^\"]*\"|'[^']*'|`[^`]*`|[^\s,;]+)",
            self._scene.clause,
            re.IGNORECASE,
        )
        if found is None:
            # "the workflow nightly-build": a word that no prose has.
            found = re.search(
                rf"\b{re.escape(name)}\s+{_IDENTIFIER}",
                self._scene.clause,
                re.IGNORECASE,
            )
            if found is None or "string" not in kinds or set(split(name)) & (_PATHS | _TITLES):
                return None
        text = found[1].strip("\"'`").rstrip(".)")
        if set(kinds) & {"integer", "number"}:
            numbers = values.numbers(text)
            return _as(numbers[0][1], kinds) if numbers else None
        if "boolean" in kinds:
            return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(text.lower())
        return text if "string" in kinds else None

    def _choice(self, allowed: Sequence[Any]) -> Any:
        said = {stem(word) for word in split(values.bare(self._scene.clause))}
        for value in allowed:
            words = {stem(word) for word in split(str(value))}
            if words and words <= said:
                return value
        raise _Unfilled

    def _number(self, name: str, schema: Mapping[str, Any], required: bool) -> Any:
        hinted = set(split(name)) & _AMOUNTS or set(terms(name)) & set(terms(self._scene.clause))
        if self._numbers and (required or hinted):
            return _as(self._numbers.pop(0), _kinds(schema))
        raise _Unfilled

    def _flag(self, name: str, schema: Mapping[str, Any], required: bool) -> bool:
        words = set(terms(name))
        if words and words <= set(terms(self._scene.clause)):
            return not re.search(r"\b(?:not|without|no|don't|never)\b", self._scene.clause, re.IGNORECASE)
        raise _Unfilled

    def _string(self, name: str, schema: Mapping[str, Any], required: bool) -> Any:
        words = set(split(name))
        if "sql" in split(self._tool.name) and words & _ASKED:
            return self._verbatim(required)
        takers: tuple[tuple[frozenset[str], Callable[[bool], Any]], ...] = (
            (frozenset({"timezone", "zone", "tz"}), self._zone),
            (_PATHS, self._path),
            (_URLS, self._url),
            (frozenset({"date", "day"}), lambda _: self._pattern(_DATE)),
            (frozenset({"time"}), lambda _: self._pattern(_TIME)),
            (frozenset({"email", "recipient"}), self._email),
            (_TITLES, self._title),
            (_COMMANDS, self._verbatim),
            (_ASKED, self._asked),
        )
        for names, take in takers:
            if words & names:
                return take(required)
        if words & _ENDS and self._paths:
            return self._paths.pop(0)
        if self._quoted and (required or words & _DATA or set(terms(name)) & set(terms(self._scene.clause))):
            return self._quoted.pop(0)
        return self._data(name, schema, required)

    def _path(self, required: bool) -> str:
        if self._paths:
            return self._paths.pop(0)
        if not required:
            raise _Unfilled
        if self._writes:
            return self._new_path()
        if earlier := values.paths(self._scene.before):
            return earlier[-1].text if self._refers else earlier[0].text
        if anywhere := _read_paths(self._scene.goal):
            return anywhere[0]
        raise _Unfilled

    def _new_path(self) -> str:
        """What is written gets a name of its own beside what was read: never over it."""
        nouns = terms(self._tool.name)[1:] or ["result"]
        name = "-".join(nouns) + ".md"
        known = _read_paths(self._scene.goal)
        beside = posixpath.dirname(known[0]) if known else ""
        made = posixpath.join(beside, name)
        taken = {path.text for path in values.paths(self._scene.goal)}
        return made if made not in taken else posixpath.join(beside, f"new-{name}")

    def _url(self, required: bool) -> str:
        if self._urls:
            return self._urls.pop(0)
        if anywhere := values.urls(self._scene.before) or values.urls(self._scene.goal):
            return anywhere[0].text
        raise _Unfilled

    def _zone(self, required: bool) -> str:
        if self._zones:
            return self._zones.pop(0)
        raise _Unfilled

    def _pattern(self, pattern: re.Pattern[str]) -> str:
        if found := pattern.search(self._scene.clause):
            return found[0]
        raise _Unfilled

    def _email(self, required: bool) -> str:
        if found := values.emails(self._scene.clause) or values.emails(self._scene.goal):
            return found[0].text
        raise _Unfilled

    def _title(self, required: bool) -> str:
        if self._quoted:
            return self._quoted.pop(0)
        if not required:
            raise _Unfilled
        whole = " ".join(self._scene.goal.split())
        return whole if len(whole) <= TITLE_CHARS else whole[: TITLE_CHARS - 1].rstrip() + "…"

    def _verbatim(self, required: bool) -> str:
        """What is run is taken from quotation marks only: prose is no command."""
        if self._quoted:
            return self._quoted.pop(0)
        raise _Unfilled

    def _asked(self, required: bool) -> str:
        if self._quoted:
            return self._quoted.pop(0)
        found = re.search(r"\b(?:for|about|on|whether|how|what|why)\s+(.{1,500})", self._scene.clause, re.IGNORECASE)
        words = found[1] if found else self._scene.clause.partition(" ")[2]
        if words.strip():
            return words.strip()
        raise _Unfilled

    def _array(self, name: str, schema: Mapping[str, Any], required: bool) -> Any:
        words = set(split(name)) | {normal(word) for word in split(name)}
        if self._paths and words & {*_PATHS, *(normal(word) for word in _PATHS)}:
            return self._paths
        items = schema.get("items")
        if len(self._quoted) > 1 and "string" in _kinds(items if isinstance(items, dict) else {}):
            return self._quoted
        return self._data(name, schema, required)

    def _data(self, name: str, schema: Mapping[str, Any], required: bool) -> Any:
        """What an earlier step brought: the one that the argument is named after, else the one before."""
        texts_fit = "string" in _kinds(schema)
        usable = [source for source in self._scene.sources if texts_fit or not source.text]
        wanted = set(terms(name))
        named = [source for source in usable if wanted & source.words]
        general = bool(set(split(name)) & _DATA)
        if named:
            self._handed = True
            return named[-1].value
        if usable and (required or (general and self._refers and not self._handed)):
            self._handed = True
            return usable[-1].value
        if "string" in _kinds(schema) and required and ":" in self._scene.clause:
            return self._scene.clause.partition(":")[2].strip()
        raise _Unfilled


def _read_paths(text: str) -> list[str]:
    """Paths that are there to be read: none that something is written to, and none within a command."""
    commands = [found for found in values.quoted(text) if " " in found.text]
    return [
        found.text
        for found in values.paths(text)
        if not _follows(_WRITTEN, text, found) and not any(each.start <= found.start < each.end for each in commands)
    ]


def _follows(words: re.Pattern[str], text: str, found: values.Found) -> bool:
    return words.search(text[max(0, found.start - LOOK_CHARS) : found.start]) is not None


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """The types that a schema names; all that data can be when it names none."""
    told = schema.get("type")
    if isinstance(told, str):
        return [told]
    if isinstance(told, list):
        return [kind for kind in told if isinstance(kind, str)]
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        return [kind for option in options if isinstance(option, dict) for kind in _kinds(option)]
    return ["string", "array", "object"]


def _as(number: float, kinds: Sequence[str]) -> float | int:
    if number == int(number) or "number" not in kinds:
        return int(number)
    return number
