"""How long texts and values are cut before they go into a goal's events and context, and how tokens are counted."""

from typing import Any, Final

import msgspec

MAX_TEXT_BYTES: Final = 16 * 1024
"""A text or result in an event of a goal; the whole stands in the task that gave it."""

MAX_RESULTS_BYTES: Final = 256 * 1024
"""All results of one step's calls together, in an event."""

BYTES_PER_TOKEN: Final = 4
_SHARE: Final = 0.2
"""Part of the context window that one step may fill."""

_encoder: Final = msgspec.json.Encoder(order="deterministic")


def tokens_of(value: Any) -> int:
    """Estimated tokens of a text, or of a value as JSON: its UTF-8 bytes by four, rounded up. No tokenizer is asked, so
    that the number is the same everywhere and at each replay."""
    size = len(value.encode(errors="replace")) if isinstance(value, str) else len(_encoder.encode(value))
    return -(-size // BYTES_PER_TOKEN)


def cut(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    """The text, or as many of its first bytes and a marker that tells what is missing."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit:
        return text
    return (
        f"{encoded[:limit].decode(errors='ignore')}\n[cut: {limit} of {len(encoded)} bytes; the whole is in its task]"
    )


def cut_value(value: Any, limit: int = MAX_TEXT_BYTES) -> Any:
    """The value itself while its JSON is within the limit, else its beginning as text."""
    if isinstance(value, str):
        return cut(value, limit)
    encoded = _encoder.encode(value)
    return value if len(encoded) <= limit else cut(encoded.decode(), limit)


def as_text(value: Any) -> str:
    """A text as it is, nothing for null, everything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _encoder.encode(value).decode()


def text_limit(window: int) -> int:
    """Bytes of one text in a context of so many tokens."""
    return min(MAX_TEXT_BYTES, _share(window))


def result_limit(window: int, calls: int) -> int:
    """Bytes of each result when a step made so many calls."""
    return min(MAX_TEXT_BYTES, min(MAX_RESULTS_BYTES, _share(window)) // max(1, calls))


def _share(window: int) -> int:
    return int(window * BYTES_PER_TOKEN * _SHARE)
