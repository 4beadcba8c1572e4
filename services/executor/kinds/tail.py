"""The last part of a long output, for a result that people read."""


class Tail:
    """Keeps the last ``limit`` bytes of what is added, and counts all of it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._kept += data
        if len(self._kept) > 2 * self._limit:
            del self._kept[: -self._limit]

    @property
    def truncated(self) -> bool:
        return self.size > self._limit

    def text(self) -> str:
        """The end of it as text without the last newline; broken characters become U+FFFD."""
        return bytes(self._kept[-self._limit :]).decode(errors="replace").removesuffix("\n")
