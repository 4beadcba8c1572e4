"""All faults of shape in a definition as JSON data: msgspec names the first alone, so each part is looked at alone."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from taskloom.domain.workflow import definition as d
from taskloom.domain.workflow.faults import Fault, malformed

_BODIES: Final = (
    *("sub_steps", "true_steps", "false_steps", "loop_steps", "map_steps", "compensation"),
    *("steps", "failure_steps"),
)


def faults(raw: Any, path: str) -> Iterator[Fault]:
    """The first fault of the definition itself and of each of its steps, those in bodies too; none when it has the
    shape of one."""
    yield from _part(raw, path, d.Definition, 0)


def _part(raw: Any, path: str, kind: Any, depth: int) -> Iterator[Fault]:
    bodies = _bodies(raw) if depth <= d.MAX_DEPTH else {}
    try:
        msgspec.convert({**raw, **{name: [] for name in bodies}} if bodies else raw, kind)
    except msgspec.ValidationError as error:
        yield malformed(error, path)
    except RecursionError:
        yield Fault(path, f"nests deeper than {d.MAX_DEPTH} levels")
    for name, steps in bodies.items():
        for at, step in enumerate(steps):
            yield from _part(step, f"{path}.{name}[{at}]", d.Step, depth + 1)


def _bodies(raw: Any) -> dict[str, list[Any]]:
    if not isinstance(raw, dict):
        return {}
    return {name: raw[name] for name in _BODIES if isinstance(raw.get(name), list)}
