"""Secrets taken out of what an attempt tells: of streams, also across their pieces, and of results and errors."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

MASK: Final = "***"
_LINE_CHARS: Final = 8
"""Lines of a secret of several lines are masked one by one from this length on: programs print them indented."""


class Masker:
    """Knows secrets, and their forms in JSON and in a URL. What encodes them otherwise is not recognised."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._bytes: list[bytes] = []
        self._find: re.Pattern[str] | None = None
        self._find_bytes: re.Pattern[bytes] | None = None

    def __bool__(self) -> bool:
        return self._find is not None

    def add(self, secrets: Iterable[str]) -> None:
        for secret in secrets:
            self._forms |= set(_forms(secret))
        if not self._forms:
            return
        longest_first = sorted(self._forms, key=lambda form: (-len(form), form))
        self._bytes = [form.encode() for form in longest_first]
        self._find = re.compile("|".join(map(re.escape, longest_first)))
        self._find_bytes = re.compile(b"|".join(map(re.escape, self._bytes)))

    def text(self, text: str) -> str:
        return text if self._find is None else self._find.sub(MASK, text)

    def value(self, value: Any) -> Any:
        """The same JSON value with the secrets in its texts masked, those in the names of fields included."""
        if self._find is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(name): self.value(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def masked(self, data: bytes) -> bytes:
        return data if self._find_bytes is None else self._find_bytes.sub(MASK.encode(), data)

    def safe_end(self, data: bytes) -> int:
        """How much of the beginning of ``data`` can be told whatever follows: the rest may be a part of a secret."""
        end = min((self._tail_of(form, data) for form in self._bytes), default=len(data))
        moved = self._find_bytes is not None
        while moved and self._find_bytes is not None:
            moved = False
            for match in self._find_bytes.finditer(data):
                if match.start() < end < match.end():
                    end, moved = match.start(), True
        return end

    @staticmethod
    def _tail_of(form: bytes, data: bytes) -> int:
        """Where the longest end of ``data`` starts that is a beginning of ``form`` and not all of it."""
        for start in range(max(0, len(data) - len(form) + 1), len(data)):
            if form.startswith(data[start:]):
                return start
        return len(data)


class MaskedStream:
    """One stream of output. What may be the beginning of a secret waits for what follows."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        whole = self._held + data
        end = self._masker.safe_end(whole)
        self._held = whole[end:]
        return self._masker.masked(whole[:end])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._masker.masked(held)


def _forms(secret: str) -> Iterable[str]:
    parts = [secret, *(line.strip() for line in secret.splitlines() if len(line.strip()) >= _LINE_CHARS)]
    if stripped := secret.strip():
        parts.append(stripped)
    for part in parts:
        yield part
        yield json.dumps(part)[1:-1]
        yield json.dumps(part, ensure_ascii=False)[1:-1]
        yield quote(part, safe="")
