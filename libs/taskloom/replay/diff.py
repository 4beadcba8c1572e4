"""``compare(a, b)``: two tasks or runs side by side, from their histories alone.

What they were submitted with is compared field by field, what they did step by step: steps are aligned by their paths.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from taskloom.domain.envelope import Recorded
from taskloom.domain.task.events import TaskSubmitted
from taskloom.domain.values import TaskSpec
from taskloom.domain.workflow import events as w
from taskloom.domain.workflow.references import FORKED
from taskloom.views.task_executions.fold import fold_all

MAX_EVENTS: Final = 20_000
"""Events of one side that are looked at."""

MAX_FIELDS: Final = 200
MAX_STEPS: Final = 500
MAX_SHOWN_CHARS: Final = 500
"""Of a value, as JSON: what is longer is compared whole and shown cut."""

_WHOSE: Final = ("tenant_id", "user_id", "key_id", "forked_from")
_LINEAGE: Final = ("metadata.forked_from", "metadata.forked_at")
_ENDS: Final[dict[type[w.StepEvent], str]] = {
    w.StepCompleted: "completed",
    w.StepRestored: "completed",
    w.StepFailed: "failed",
    w.StepSkipped: "skipped",
    w.StepCancelled: "cancelled",
}


class FieldDifference(Struct, frozen=True):
    """``path`` in the submission, as ``input.cmd``; a side without the field is null."""

    path: str
    a: Any
    b: Any


class StepSide(Struct, frozen=True):
    """A step on one side. ``seconds`` from its first event to its end, null while it is open; ``restored``: it was done
    before the fork. ``result`` is its JSON, cut."""

    status: str
    seconds: float | None
    result: str = ""
    error: str = ""
    restored: bool = False


class StepPair(Struct, frozen=True):
    """The step at ``path``; null on a side that never came to it. ``same``: status, result and error are."""

    path: str
    a: StepSide | None
    b: StepSide | None
    same: bool


class Side(Struct, frozen=True):
    """A task as of ``version``. ``seconds`` from submission to its end, null while it is open."""

    task_id: str
    version: int
    kind: str
    state: str
    attempts: int
    seconds: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float
    result: str = ""
    error: str = ""


class Difference(Struct, frozen=True):
    """``same``: neither a field nor a step nor the outcome differs. ``fields_total`` and ``steps_total`` count all that
    there are; the lists hold the first 200 and 500."""

    a: Side
    b: Side
    same: bool
    fields: list[FieldDifference]
    fields_total: int
    steps: list[StepPair]
    steps_total: int
    steps_different: int


def compare(a: Sequence[Recorded], b: Sequence[Recorded], *, only_different: bool = False) -> Difference:
    """Both histories begin with the task's first event. ``only_different`` leaves steps out that are the same."""
    fields = list(_fields(_spec(a), _spec(b)))
    steps_a, steps_b = _steps(a), _steps(b)
    pairs = [
        StepPair(path, one, other, _same(one, other))
        for path in dict.fromkeys([*steps_a, *steps_b])
        for one, other in [(steps_a.get(path), steps_b.get(path))]
    ]
    different = [pair for pair in pairs if not pair.same]
    side_a, side_b = _side(a), _side(b)
    outcome = (side_a.state, side_a.result, side_a.error) == (side_b.state, side_b.result, side_b.error)
    shown = different if only_different else pairs
    return Difference(
        *(side_a, side_b, outcome and not fields and not different),
        fields=fields[:MAX_FIELDS],
        fields_total=len(fields),
        steps=[structs.replace(pair, a=_cut_side(pair.a), b=_cut_side(pair.b)) for pair in shown[:MAX_STEPS]],
        steps_total=len(pairs),
        steps_different=len(different),
    )


def _spec(history: Sequence[Recorded]) -> TaskSpec:
    first = history[0].event
    assert isinstance(first, TaskSubmitted)
    return first.spec


def _fields(a: TaskSpec, b: TaskSpec) -> Iterator[FieldDifference]:
    one, other = ({path: value for path, value in _leaves(_told(spec)) if path not in _LINEAGE} for spec in (a, b))
    for path in sorted(one.keys() | other.keys()):
        if one.get(path) != other.get(path):
            yield FieldDifference(path, _shown(one.get(path)), _shown(other.get(path)))


def _told(spec: TaskSpec) -> dict[str, Any]:
    told: dict[str, Any] = {name: value for name, value in msgspec.to_builtins(spec).items() if name not in _WHOSE}
    told["input"] = {name: value for name, value in spec.input.items() if name != FORKED}
    return told


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """An empty object has none: it is like one that is not there."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, value


def _steps(history: Sequence[Recorded]) -> dict[str, StepSide]:
    """By path, in the order in which they began; the last time each of them did."""
    begun: dict[str, datetime] = {}
    found: dict[str, StepSide] = {}
    for recorded in history:
        event, at = recorded.event, recorded.meta.at
        if isinstance(event, w.WorkflowRetried) and event.start == "start":
            begun, found = {}, {}
        elif isinstance(event, w.StepEvent):
            status = _ENDS.get(type(event))
            if status is None:
                before = found.get(event.path)
                if before is None or before.seconds is not None:
                    begun[event.path] = at
                    found[event.path] = StepSide("running", None)
                continue
            took_s = (at - begun.get(event.path, at)).total_seconds()
            found[event.path] = StepSide(status, took_s, **_end_of(event))
    return found


def _end_of(event: w.StepEvent) -> dict[str, Any]:
    if isinstance(event, w.StepCompleted | w.StepRestored):
        return {"result": _json(event.result), "restored": isinstance(event, w.StepRestored)}
    if isinstance(event, w.StepFailed):
        return {"error": f"{event.error.type}: {event.error.message}"}
    return {}


def _same(a: StepSide | None, b: StepSide | None) -> bool:
    return a is not None and b is not None and (a.status, a.result, a.error) == (b.status, b.result, b.error)


def _side(history: Sequence[Recorded]) -> Side:
    row = fold_all(history)
    assert row is not None
    ended = row.completed_at or row.failed_at
    return Side(
        *(row.task_id, row.version, row.kind, row.state, row.attempt),
        seconds=None if ended is None else (ended - row.created_at).total_seconds(),
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=row.cost_usd,
        result=_cut(row.result or ("" if row.response is None else _json(row.response))),
        error=_cut(row.error),
    )


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value, order="sorted").decode()


def _shown(value: Any) -> Any:
    text = _json(value)
    return value if len(text) <= MAX_SHOWN_CHARS else _cut(text)


def _cut_side(side: StepSide | None) -> StepSide | None:
    return None if side is None else structs.replace(side, result=_cut(side.result), error=_cut(side.error))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}… ({len(text)} characters)"
