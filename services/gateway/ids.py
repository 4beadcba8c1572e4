"""Names for what callers leave unnamed."""

import hashlib
from typing import Final

import uuid_utils

KEY_MAX_CHARS: Final = 256


def new_task_id() -> str:
    """A fresh id, rising with time, so that rows of one moment lie together in the indexes."""
    return f"task-{uuid_utils.uuid7()}"


def new_command_id() -> str:
    return str(uuid_utils.uuid7())


def derived_id(prefix: str, *parts: str) -> str:
    """The same id for the same parts, on every gateway and after every restart: 160 bits of SHA-256 over them."""
    digest = hashlib.sha256("\x00".join(parts).encode()).hexdigest()
    return f"{prefix}-{digest[:40]}"
