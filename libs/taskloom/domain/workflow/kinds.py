"""Kinds of the tasks that a workflow's steps submit, as far as its definition says them outright."""

from collections.abc import Iterator
from typing import Any, Final

_NOT_WALKED: Final = frozenset({"metadata", "variables", "context", "input"})


def kinds_in(raw: Any, path: str = "input.definition") -> Iterator[tuple[str, str]]:
    """Path and kind of each step's template in a definition, those in bodies and child definitions included.

    A kind that is a template itself is known only when the step runs; one that is left out is ``query`` or, by the
    template's mode, ``goal``.
    """
    for place, template in templates_in(raw, path):
        kind = template.get("kind")
        if isinstance(kind, str) and kind and "{{" not in kind:
            yield f"{place}.kind", kind


def templates_in(raw: Any, path: str = "input.definition") -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and content of each step's template."""
    if isinstance(raw, list):
        for place, each in enumerate(raw):
            yield from templates_in(each, f"{path}[{place}]")
    elif isinstance(raw, dict):
        for name, each in raw.items():
            if name == "task_template" and isinstance(each, dict):
                yield f"{path}.{name}", each
            elif name not in _NOT_WALKED and isinstance(each, dict | list):
                yield from templates_in(each, f"{path}.{name}")
