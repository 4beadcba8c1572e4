"""The text of API keys, ``sk_`` and 64 hex digits, and of agents' tokens, ``at_`` and as many.

256 random bits need no slow hash: SHA-256 is what is stored.
"""

import hashlib
import re
import secrets
from typing import Final

from msgspec import Struct

PREFIX_CHARS: Final = 8
_KEY: Final = re.compile(r"sk_[0-9a-f]{64}")
_TOKEN: Final = re.compile(r"at_[0-9a-f]{64}")
_OTHER_FORM: Final = "sk-shannon-"

DEV_TOKENS: Final = {"agent1": "secret_token1", "agent2": "secret_token2"}
"""Of agents that need no enrolment; good in open mode on loopback alone, where everybody may do everything anyway."""


class NewKey(Struct, frozen=True):
    """``text`` is for who asked, and is kept nowhere."""

    key_id: str
    text: str
    hash: str
    prefix: str


def new_key() -> NewKey:
    text = f"sk_{secrets.token_hex(32)}"
    return NewKey(f"key_{secrets.token_hex(8)}", text, _hash(text), text[:PREFIX_CHARS])


def looks_like_key(text: str) -> bool:
    return text.startswith(("sk_", _OTHER_FORM))


def hash_of(text: str) -> str | None:
    """SHA-256 in hex of a key's text, also in the form ``sk-shannon-…``; None for what cannot be a key."""
    if text.startswith(_OTHER_FORM):
        text = f"sk_{text.removeprefix(_OTHER_FORM)}"
    return _hash(text) if _KEY.fullmatch(text) else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def new_token() -> NewKey:
    """An agent's token: ``at_`` and 64 hex digits; ``key_id`` is empty, since it goes by the agent's id."""
    text = f"at_{secrets.token_hex(32)}"
    return NewKey("", text, _hash(text), text[:PREFIX_CHARS])


def token_hash_of(text: str) -> str | None:
    """SHA-256 in hex of an agent's token; None for what cannot be one."""
    return _hash(text) if _TOKEN.fullmatch(text) else None
