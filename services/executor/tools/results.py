"""What a tool answered, as a JSON value of bounded size."""

from typing import Any, Final

import msgspec

MAX_RESULT_BYTES: Final = 4 * 1024 * 1024
"""Of a result as JSON; a longer one is cut and marked. What is over 64 KiB travels as a claim, as all results do."""

MAX_ERROR_CHARS: Final = 4_096
WRAPPED: Final = "result"


def value_of(answer: Any) -> Any:
    """The structured content where there is some, else the text, else the blocks of content as they came.

    Servers made with the official SDK for Python put a list, text or number that a tool gives into an object that has
    ``result`` alone: then the value is what is in there.
    """
    structured = answer.structured_content
    if structured is not None:
        return structured[WRAPPED] if structured.keys() == {WRAPPED} else structured
    if all(block.type == "text" for block in answer.content):
        return text_of(answer)
    return [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in answer.content]


def text_of(answer: Any) -> str:
    """All text of an answer."""
    return "\n".join(block.text for block in answer.content if block.type == "text")


def cut(value: Any) -> tuple[Any, bool]:
    """The value, or the beginning of its text with a marker at the end; whether it was cut."""
    encoded = msgspec.json.encode(value)
    if len(encoded) <= MAX_RESULT_BYTES:
        return value, False
    whole = value.encode() if isinstance(value, str) else encoded
    # Escapes make JSON up to six times as long as the text: cut the text until its JSON fits.
    kept = whole[: MAX_RESULT_BYTES - 256].decode(errors="ignore")
    while len(msgspec.json.encode(kept)) > MAX_RESULT_BYTES - 256:
        kept = kept[: len(kept) // 2]
    return f"{kept}\n[cut here: the result has {len(whole)} bytes, {MAX_RESULT_BYTES} are kept]", True
