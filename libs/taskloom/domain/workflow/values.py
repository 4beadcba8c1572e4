"""Large results: a run's state keeps a reference, and expressions see the value, which the shell has in memory.

Only what a step's task gave can be a reference: whoever made it stored the value. An object in a variable or a signal
that merely looks like one is an object.
"""

from typing import Any, Final, Protocol

from msgspec import Struct

_KEY: Final = "$claim"
_SCHEME: Final = "sha256:"


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
