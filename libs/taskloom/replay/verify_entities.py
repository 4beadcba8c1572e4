"""Aggregates that are no tasks: each row against the fold of its stored events."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from taskloom.domain.entities.entity import Entity, fold
from taskloom.domain.entities.sessions import Session
from taskloom.wire.recorded import chain_fault, unseal

_decode: Final = msgspec.json.Decoder(Entity).decode


def entity_faults(
    bodies: Sequence[bytes], stored: bytes | None, marks: Session | None
) -> Mapping[str, tuple[Any, Any]]:
    """What is stored and what should be, by where they differ; empty when all is well. ``marks``: a session's row in
    the table of marks, None when there is none."""
    if fault := chain_fault(bodies):
        return {"hash chain": (fault, "an unbroken chain")}
    try:
        expected = fold(unseal(body) for body in bodies)
    except Exception as error:  # noqa: BLE001 - whatever a changed event leads to, it is a difference
        return {"events": (str(error), "events that can be folded")}
    row = None if stored is None else _decode(stored)
    faults: dict[str, tuple[Any, Any]] = {} if row == expected else {"read row": (row, expected)}
    said = expected.value if expected is not None and isinstance(expected.value, Session) else None
    return faults if marks == said else {**faults, "session marks": (marks, said)}
