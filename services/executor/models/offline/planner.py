"""A plan by rules: a goal's clauses, each with the tool it means, its arguments, or a thought when no tool fits."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from services.executor.models.offline.arguments import Scene, Source, fill
from services.executor.models.offline.clauses import SUB_GOAL, Clause, clauses
from services.executor.models.offline.matching import Matcher
from services.executor.models.offline.words import terms
from services.executor.models.port import LlmInput, ToolDescription, ToolResult

STEP_MS: Final = 30_000
CHECKPOINT_MS: Final = 1_000
MAX_DESCRIPTION: Final = 1_000
MAX_LITERAL_BYTES: Final = 16 * 1024

_CHECKPOINT: Final = re.compile(
    r"^(?:make |take |save |create |store )?(?:a |the )?(?:checkpoint|snapshot of (?:the )?(?:state|context))\b", re.I
)
_SUMMARY: Final = re.compile(r"^summari[sz]e (?:the )?(?:context|conversation|progress|work so far)\b", re.I)
_RESERVED: Final = frozenset({"$from", "secret"})


class Done(Struct, frozen=True):
    """What a new plan knows of the plans before it."""

    descriptions: frozenset[str] = frozenset()
    results: tuple[ToolResult, ...] = ()
    failed: str = ""
    failed_tool: str = ""
    repeatable: frozenset[str] = frozenset()


class Planner:
    """Plans one goal with these tools. Equal questions get equal plans."""

    def __init__(self, tools: Sequence[ToolDescription]) -> None:
        self._matcher = Matcher(tools)

    def parts(self, goal: str) -> list[Clause]:
        return clauses(goal, self._matcher.verbs)

    def plan(self, wish: LlmInput) -> list[dict[str, Any]]:
        """Planned steps as JSON values: from one to ``max_steps``, with only the tools that were given."""
        parts = self.parts(wish.goal)
        if not parts:
            return [_thought(1, wish.subject or "Answer")]
        if wish.max_steps == 1 and len(parts) > 1:
            # A sub-goal of the same text would be planned in the same way for ever.
            return [_thought(1, "; ".join(part.text for part in parts))]
        run = _Run(self._matcher, wish.goal, _done(wish, parts))
        for part in _fitted(parts, wish.max_steps):
            run.add(part)
        return run.steps or [_thought(1, f"Report what was found for: {wish.goal}")]

    def call(self, wish: LlmInput, without: Sequence[str]) -> tuple[ToolDescription, dict[str, Any]] | None:
        """The one call that a step's text asks for; ``without``: tools (``server/name``) that failed at it."""
        text = wish.subject
        sources = [
            Source(frozenset(terms(result.tool_name)), result.result, isinstance(result.result, str))
            for result in wish.known.tool_results
            if usable(result.result)
        ]
        for tool in self._matcher.fitting(text):
            if f"{tool.server}/{tool.name}" not in without:
                args = fill(tool, Scene(f"{text}\n{wish.goal}", text, "", sources))
                if args is not None:
                    return tool, args
        return None


class _Run:
    """The steps so far, and what they bring to those that follow."""

    def __init__(self, matcher: Matcher, goal: str, done: Done) -> None:
        self.steps: list[dict[str, Any]] = []
        self._matcher = matcher
        self._goal = goal
        self._done = done
        self._before = ""
        self._sources: list[Source] = []

    def add(self, clause: Clause | list[Clause]) -> None:
        if isinstance(clause, list):
            text = "\n".join(each.text for each in clause)
            self._append("sub-goal", clause[0].description, goal=text)
        elif found := SUB_GOAL.match(clause.text):
            self._append("sub-goal", clause.description, goal=found["goal"])
        elif _CHECKPOINT.match(clause.text):
            self._append("checkpoint", clause.description, estimated_ms=CHECKPOINT_MS)
        elif _SUMMARY.match(clause.text):
            self._append("summarization", clause.description)
        else:
            self._work(clause)
        self._before += "\n" + (clause.text if isinstance(clause, Clause) else "")

    def _work(self, clause: Clause) -> None:
        fitting = self._matcher.fitting(clause.text)
        if norm(clause.description) in self._done.descriptions and self._remember(clause, fitting):
            return
        if norm(clause.description) == self._done.failed:
            # The one that failed comes last: another that fits is tried before it.
            failed = self._done.failed_tool or (fitting[0].name if fitting else "")
            fitting = sorted(fitting, key=lambda tool: _means(failed, tool))
        for tool in fitting:
            args = fill(tool, Scene(self._goal, clause.text, self._before, self._sources))
            if args is not None:
                self._append("tool-call", clause.description, server=tool.server, tool=tool.name, args=args)
                self._bring(f"{tool.name} {clause.text}")
                return
        self._append("llm-reasoning", clause.description)
        self._bring(clause.text, text=True)

    def _remember(self, clause: Clause, fitting: Sequence[ToolDescription]) -> bool:
        """A step that is done is not done again; its result stands in the arguments of those that need it. Only where
        the result is too large to stand there, and its tool may be called twice, it is."""
        for result in reversed(self._done.results):
            if any(_means(result.tool_name, tool) for tool in fitting) and usable(result.result):
                words = frozenset(terms(f"{result.tool_name} {clause.text}"))
                self._sources.append(Source(words, result.result, isinstance(result.result, str)))
                return True
        return not fitting or f"{fitting[0].server}/{fitting[0].name}" not in self._done.repeatable

    def _bring(self, words: str, *, text: bool = False) -> None:
        self._sources.append(Source(frozenset(terms(words)), {"$from": self.steps[-1]["id"]}, text))

    def _append(self, kind: str, description: str, **more: Any) -> None:
        step = _thought(len(self.steps) + 1, description)
        self.steps.append(step | {"type": kind} | more)


def usable(value: Any) -> bool:
    """Whether a result may stand in arguments as it is: small, and nothing in it that could be read as a reference."""
    if isinstance(value, str):
        # A text that was cut ends in a mark that says so; half a result is none.
        return len(value) < MAX_LITERAL_BYTES - 256
    return len(msgspec.json.encode(value)) <= MAX_LITERAL_BYTES and not _refers(value)


def _refers(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(_RESERVED & value.keys()) or any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))


def _fitted(parts: Sequence[Clause], most: int) -> list[Clause | list[Clause]]:
    """At most ``most`` steps: items of a list become sub-goals, and what is over goes into the last one."""
    if len(parts) <= most:
        return list(parts)
    grouped: list[list[Clause]] = []
    for part in parts:
        if grouped and part.item >= 0 and grouped[-1][0].item == part.item:
            grouped[-1].append(part)
        else:
            grouped.append([part])
    if len(grouped) == 1:
        grouped = [[part] for part in parts]
    if len(grouped) > most:
        rest = [part for group in grouped[most - 1 :] for part in group]
        grouped = [*grouped[: most - 1], rest]
    return [group[0] if len(group) == 1 else group for group in grouped]


def _thought(number: int, description: str) -> dict[str, Any]:
    short = description if len(description) <= MAX_DESCRIPTION else description[: MAX_DESCRIPTION - 1] + "…"
    return {
        "id": f"step-{number}",
        "description": short,
        "type": "llm-reasoning",
        "server": "",
        "tool": "",
        "args": {},
        "goal": "",
        "model": {},
        "estimated_ms": STEP_MS,
    }


def _done(wish: LlmInput, parts: Sequence[Clause]) -> Done:
    """A first plan has nothing behind it. Of a later one the failed step is named, or the first that is not done."""
    if wish.failure is None:
        return Done()
    told = wish.failure.step
    step: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    known = [norm(part.description) for part in parts]
    found = {norm(description) for description in wish.known.findings} & set(known)
    failed = norm(str(step.get("description") or (told if isinstance(told, str) else "")))
    if failed not in known:
        failed = next((description for description in known if description not in found), "")
    # Steps run in order, so those before it are done, also where they left nothing to be found.
    found |= set(known[: known.index(failed)]) if failed else set()
    results = tuple(wish.known.tool_results)
    repeatable = frozenset(
        f"{server}/{name}" for server, tools in (wish.tools or {}).items() for name in tools.idempotent
    )
    return Done(frozenset(found - {failed}), results, failed, str(step.get("tool") or ""), repeatable)


def norm(description: str) -> str:
    return " ".join(description.lower().split())[:MAX_DESCRIPTION]


def _means(name: str, tool: ToolDescription) -> bool:
    return name in (tool.name, f"{tool.server}/{tool.name}", f"{tool.server}.{tool.name}")
