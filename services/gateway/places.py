"""Where a reader of many tasks' events is, and the ids that say so.

A place is a position in each shard's log, and positions count the events of all tenants. So ids are sealed (AES-SIV,
RFC 5297) for the tenant that gets them: nobody reads, makes or moves one, and another tenant's does not open. Each has
a nonce of its own, so that two ids of one place differ too: else who asks often enough could count by how often the
place has moved. All ids have the same length.
"""

import secrets
import struct
from base64 import b64decode, urlsafe_b64encode
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from msgspec import Struct

KEY_BYTES: Final = 64
NONCE_BYTES: Final = 14
"""With the tag's 16 and nine for each shard a multiple of three, so that base64 has no idle bits and no padding."""

MARK: Final = "at-"
_BEGINNING: Final = "0"
_MOST_SHOWN: Final = 255


class Places(Struct):
    """By shard: the position up to which a reader has everything, and how many frames of the next event, which is then
    at ``positions[shard] + 1``, it has."""

    positions: list[int]
    shown: list[int]


class NotOpened(ValueError):
    """It looks like an id, and is none of this tenant's in this system."""


def at_positions(positions: list[int]) -> Places:
    return Places(list(positions), [0] * len(positions))


class StreamIds:
    """Ids of all streams of many tasks. ``key`` has 64 bytes, the same in all gateways and for good."""

    def __init__(self, key: bytes, shards: int) -> None:
        self._cipher = AESSIV(key)
        self._layout = struct.Struct(f">{'QB' * shards}")
        self._shards = shards

    def text(self, tenant_id: str, places: Places) -> str:
        """The id that ``read`` turns into the same places, for this tenant alone."""
        numbers = [
            number
            for position, shown in zip(places.positions, places.shown, strict=True)
            for number in (position, min(shown, _MOST_SHOWN))
        ]
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(self._layout.pack(*numbers), [tenant_id.encode(), nonce])
        return MARK + urlsafe_b64encode(nonce + sealed).decode()

    def read(self, tenant_id: str, text: str) -> Places | None:
        """What ``text`` made, or 0 for the very beginning; None when it is neither.

        Raises:
            NotOpened: it was made for another tenant, by another system, or is damaged.
        """
        text = text.strip()
        if text == _BEGINNING:
            return at_positions([0] * self._shards)
        if not text.startswith(MARK):
            return None
        try:
            raw = b64decode(text.removeprefix(MARK), altchars=b"-_", validate=True)
            opened = self._cipher.decrypt(raw[NONCE_BYTES:], [tenant_id.encode(), raw[:NONCE_BYTES]])
            numbers = self._layout.unpack(opened)
        except (ValueError, InvalidTag, struct.error) as error:
            raise NotOpened from error
        return Places(list(numbers[::2]), list(numbers[1::2]))
