"""Claim check: values over 64 KiB are stored once, by their hash, and travel as a reference."""

from hashlib import sha256
from typing import Any, Final

import msgspec

CLAIM_OVER_BYTES: Final = 64 * 1024
MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""Largest single value. Above it a submission or result is refused with a clear error."""

_KEY: Final = "$claim"
CLAIM_TEXT: Final = '{"$claim":'
"""How the text of a claim begins."""

_HEX: Final = frozenset("0123456789abcdef")


def claim(digest: str, size: int) -> dict[str, Any]:
    """The reference that stands in for a stored value: ``{"$claim": "sha256:…", "bytes": n}``."""
    return {_KEY: f"sha256:{digest}", "bytes": size}


def is_claim(value: Any) -> bool:
    """True for a reference, and for whatever looks like one."""
    return isinstance(value, dict) and _KEY in value


def claimed_digest(value: Any) -> str | None:
    """Hex digest that a value refers to, or None when it is no claim."""
    if isinstance(value, dict) and isinstance(value.get(_KEY), str) and value[_KEY].startswith("sha256:"):
        return str(value[_KEY][7:])
    return None


def is_digest(text: str) -> bool:
    """True for a SHA-256 in hex."""
    return len(text) == 64 and not set(text) - _HEX


def check_in(value: Any) -> tuple[Any, tuple[str, bytes] | None]:
    """The value itself, or, when its JSON is over 64 KiB, a claim and the ``(digest, bytes)`` to store.

    A value that only looks like a claim is stored too, whatever its size: its reference, followed later, gives that
    value back, and never what somebody wrote into it.
    """
    encoded = msgspec.json.encode(value)
    if len(encoded) <= CLAIM_OVER_BYTES and not is_claim(value):
        return value, None
    digest = sha256(encoded).hexdigest()
    return claim(digest, len(encoded)), (digest, encoded)
