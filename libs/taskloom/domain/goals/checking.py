"""Makes a plan of whatever was proposed. A model's plan is mended, and where nothing is left of it one step stands for
it; a client's or reviewer's is taken as it is or not at all."""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from msgspec import Struct, structs

from taskloom.domain.goals.inputs import MAX_DEPTH, GoalInput
from taskloom.domain.goals.plans import DEFAULT_ESTIMATE_MS, TYPES, PlannedStep, PlannedType
from taskloom.domain.goals.references import names_in
from taskloom.domain.goals.state import GoalState
from taskloom.domain.goals.texts import cut
from taskloom.domain.goals.tools import allows, bad_args, refusal

MAX_NOTES: Final = 5
_MAX_WORDS: Final = 2_000
_MAX_ESTIMATE_MS: Final = 86_400_000
_ID: Final = re.compile(r"step-[1-9][0-9]{0,3}\Z")
_MODEL: Final = ("provider", "model", "tier")
_TIERS: Final = frozenset({"small", "medium", "large"})


class Note(Struct, frozen=True):
    """What was changed in a plan, and where: ``[1].tool``."""

    place: str
    message: str


class Checked(Struct, frozen=True):
    steps: tuple[PlannedStep, ...]
    notes: tuple[Note, ...] = ()

    @property
    def reason(self) -> str:
        """The notes in a line; at most five of them."""
        told = "; ".join(f"steps{note.place}: {note.message}" for note in self.notes[:MAX_NOTES])
        more = len(self.notes) - MAX_NOTES
        return told + (f"; and {more} more" if more > 0 else "")


def fallback(given: GoalInput) -> tuple[PlannedStep, ...]:
    """One step of reasoning, with the goal as text."""
    return (PlannedStep("step-1", cut(given.goal, _MAX_WORDS)),)


def check_plan(given: GoalInput, proposed: Any, limit: int) -> Checked:
    """The steps of ``proposed`` that can be done, at most ``limit``, and what had to be changed; maybe none. Anything
    may come: no tool outside the goal's list comes out."""
    if not isinstance(proposed, (list, tuple)):
        return Checked((), (Note("", "they are no list"),))
    notes: list[Note] = []
    raw = list(proposed)
    if len(raw) > limit:
        notes.append(Note("", f"{len(raw)} steps, {limit} may be made: the rest was left out"))
    ids: dict[str, str] = {}
    steps: list[PlannedStep] = []
    for at, one in enumerate(raw[:limit]):
        if not isinstance(one, dict):
            notes.append(Note(f"[{at}]", "no object: left out"))
            continue
        step_id = f"step-{len(steps) + 1}"
        step, found = _step(given, one, step_id, ids)
        notes += [Note(f"[{at}]{place}", message) for place, message in found]
        steps.append(step)
        ids[_own_id(one, step_id)] = step_id
    return Checked(tuple(steps), tuple(notes))


def _own_id(raw: dict[str, Any], step_id: str) -> str:
    own = raw.get("id")
    return own if isinstance(own, str) and own else step_id


_Found = list[tuple[str, str]]


def _step(given: GoalInput, raw: dict[str, Any], step_id: str, ids: dict[str, str]) -> tuple[PlannedStep, _Found]:
    notes: _Found = []
    own = raw.get("id", step_id)
    if own != step_id:
        notes += [] if isinstance(own, str) and _ID.match(own) and own not in ids else [(".id", f"is {step_id} now")]
    step = PlannedStep(
        step_id,
        _words(raw, "description", notes),
        _type(raw, notes),
        _name(raw, "server", notes),
        _name(raw, "tool", notes),
        model=_model(raw.get("model")),
        estimated_ms=_estimate(raw.get("estimated_ms")),
    )
    if step.type == "tool-call":
        return _tool_call(given, step, raw.get("args", {}), ids, notes), notes
    if step.type == "sub-goal":
        return _sub_goal(given, step, raw, notes), notes
    return structs.replace(step, server="", tool=""), notes


def _words(raw: dict[str, Any], field: str, notes: _Found) -> str:
    value = raw.get(field, "")
    if not isinstance(value, str):
        notes.append((f".{field}", "is no text"))
        return ""
    return cut(value, _MAX_WORDS)


def _name(raw: dict[str, Any], field: str, notes: _Found) -> str:
    value = raw.get(field) or ""
    if isinstance(value, str) and len(value) <= 256:
        return value
    notes.append((f".{field}", "is no name"))
    return ""


def _type(raw: dict[str, Any], notes: _Found) -> PlannedType:
    given = raw.get("type")
    if isinstance(given, str) and given in TYPES:
        return cast(PlannedType, given)
    meant: PlannedType = "tool-call" if raw.get("tool") else "llm-reasoning"
    if given is not None:
        notes.append((".type", f"is none of {', '.join(TYPES)}: taken for {meant}"))
    return meant


def _model(raw: Any) -> dict[str, Any]:
    chosen = raw if isinstance(raw, dict) else {}
    named = {name: cut(chosen[name], 256) for name in _MODEL if isinstance(chosen.get(name), str) and chosen[name]}
    return {name: text for name, text in named.items() if name != "tier" or text in _TIERS}


def _estimate(raw: Any) -> int:
    usable = isinstance(raw, (int, float)) and not isinstance(raw, bool) and 0 < raw <= _MAX_ESTIMATE_MS
    return max(1, int(raw)) if usable else DEFAULT_ESTIMATE_MS


def _tool_call(given: GoalInput, step: PlannedStep, args: Any, ids: dict[str, str], notes: _Found) -> PlannedStep:
    """With a tool that is not allowed it becomes reasoning; with arguments that cannot be used it is left open."""
    if not step.tool:
        return structs.replace(step, server=step.server if step.server in given.tools else "")
    if not allows(given.tools, step.server, step.tool):
        notes.append((".tool", f"{step.server}/{step.tool} is not allowed here: the step is reasoning now"))
        return structs.replace(step, type="llm-reasoning", server="", tool="")
    fault = bad_args(args)
    if not fault:
        args = _renamed(args, ids)
        missing = sorted(names_in(args) - set(ids.values()))
        fault = f"no earlier step has the id {missing[0]!r}"[:200] if missing else ""
    fault = fault or ("" if names_in(args) else refusal(given, step.server, step.tool, args))
    if fault:
        notes.append((".args", f"{fault}: the step is left open"))
        return structs.replace(step, tool="")
    return structs.replace(step, args=args)


def _renamed(value: Any, ids: dict[str, str]) -> Any:
    """References name steps by the ids that they have now."""
    if isinstance(value, list):
        return [_renamed(inner, ids) for inner in value]
    if not isinstance(value, dict):
        return value
    renamed = {key: _renamed(inner, ids) for key, inner in value.items()}
    named = renamed.get("$from")
    return {**renamed, "$from": ids.get(named, named)} if isinstance(named, str) else renamed


def _sub_goal(given: GoalInput, step: PlannedStep, raw: dict[str, Any], notes: _Found) -> PlannedStep:
    if given.depth >= MAX_DEPTH:
        notes.append((".type", f"goals nest {MAX_DEPTH} deep at most: the step is reasoning now"))
        return structs.replace(step, type="llm-reasoning", server="", tool="")
    text = _words(raw, "goal", notes) or step.description
    if not text:
        notes.append((".goal", "is empty: the step is reasoning now"))
        return structs.replace(step, type="llm-reasoning", server="", tool="")
    return structs.replace(step, goal=text, server="", tool="")


def faults_of(given: GoalInput, proposed: Any, limit: int) -> Iterator[Note]:
    """Why a plan that people made cannot be taken as it is."""
    checked = check_plan(given, proposed, limit)
    yield from checked.notes
    if not checked.steps and not checked.notes:
        yield Note("", "a plan needs at least one step")


def edit_fault(state: GoalState, modified_action: Any) -> Note | None:
    """What is wrong with a reviewer's edit of the plan, ``{"steps": [...]}``; None when it can be taken, or is none."""
    if modified_action is None:
        return None
    if not isinstance(modified_action, dict) or modified_action.keys() != {"steps"}:
        return Note("steps", "an edit of the plan is an object with its steps, and nothing else")
    for note in faults_of(state.given, modified_action["steps"], max(1, state.given.max_steps - state.steps_begun)):
        return Note(f"steps{note.place}", note.message)
    return None
