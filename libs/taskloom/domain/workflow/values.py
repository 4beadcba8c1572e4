"""Large results: a run's state keeps a reference, and expressions see the value, which the shell has in memory.

Only what a step's task gave can be a reference: whoever made it stored the value. An object in a variable or a signal
that merely looks like one is an object.
"""

from typing import Any, Final, Protocol

from msgspec import Struct

_KEY: Final = "$claim"
_SCHEME: Final = "sha256:"
_REF: Final = "$ref"
"""Marks a reference among JSON data. An object of somebody's with this one key is wrapped, so that it stays one."""


class Ref(Struct, frozen=True, rename={"claim": _KEY}):
    """As JSON it is the claim of ``wire/claims.py``; ``bytes`` of the value as JSON."""

    claim: str
    bytes: int = 0

    @property
    def digest(self) -> str:
        return self.claim.removeprefix(_SCHEME)


def ref_of(result: Any) -> Ref | None:
    """The reference that the result of a step's task is; None when it is the value itself."""
    if not isinstance(result, dict) or not isinstance(result.get(_KEY), str) or not result[_KEY].startswith(_SCHEME):
        return None
    size = result.get("bytes")
    return Ref(result[_KEY], size if isinstance(size, int) else 0)


class Absent(Exception):
    """The value is not in memory yet: the decision has to wait for it."""


class Values(Protocol):
    """The shell's memory of large values."""

    def get(self, ref: Ref) -> Any:
        """The value.

        Raises:
            Absent: it has to be fetched first; the shell knows of the wish now.
            BadExpression: nobody has it any more.
        """

    def variables(self, ref: Ref) -> dict[str, Any]:
        """``variables`` of a result that has just come in; empty when it has none.

        Raises:
            BadExpression: nobody has it any more.
        """


class NoValues:
    """For runs without large results."""

    def get(self, ref: Ref) -> Any:
        raise Absent(ref)

    def variables(self, ref: Ref) -> dict[str, Any]:
        raise Absent(ref)


NO_VALUES: Final = NoValues()


def has_refs(value: Any) -> bool:
    if isinstance(value, Ref):
        return True
    if isinstance(value, dict):
        return any(has_refs(inner) for inner in value.values())
    return isinstance(value, list) and any(has_refs(inner) for inner in value)


def with_marks(value: Any) -> Any:
    """As JSON data from which ``without_marks`` gets the references back, and nothing that merely looks like one."""
    if isinstance(value, Ref):
        return {_REF: [value.claim, value.bytes]}
    if isinstance(value, dict):
        marked = {key: with_marks(inner) for key, inner in value.items()}
        return {_REF: marked} if _REF in marked and len(marked) == 1 else marked
    return [with_marks(inner) for inner in value] if isinstance(value, list) else value


def without_marks(value: Any) -> Any:
    if isinstance(value, list):
        return [without_marks(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if _REF in value and len(value) == 1:
        inner = value[_REF]
        return Ref(*inner) if isinstance(inner, list) else {key: without_marks(each) for key, each in inner.items()}
    return {key: without_marks(inner) for key, inner in value.items()}
