"""``client.keys``: API keys."""

from __future__ import annotations

from typing import Protocol, TypeVar, Unpack

from taskloom.client import access_calls as calls
from taskloom.client.access_calls import KeyWish
from taskloom.client.calls import Call

T = TypeVar("T")


class Calls(Protocol):
    def call(self, call: Call[T]) -> T: ...


class Keys:
    """Every call may raise ``Unreachable`` or a kind of ``Refused``; with status 403 where the caller lacks a right."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    def create(self, **wish: Unpack[KeyWish]) -> calls.MadeKey:
        """The answer alone has the key. Nobody hands out more rights than they have."""
        return self._client.call(calls.create(wish))

    def page(self, after: str = "", limit: int = 100) -> calls.ApiKeyPage:
        """One page by id: the tenant's for admins, else one's own."""
        return self._client.call(calls.list_keys(after, limit))

    def get(self, key_id: str) -> calls.ApiKey:
        return self._client.call(calls.get(key_id))

    def rotate(self, key_id: str) -> calls.MadeKey:
        """It keeps its id and rights; the key that was shown before stops working."""
        return self._client.call(calls.rotate(key_id))

    def revoke(self, key_id: str, reason: str = "") -> None:
        """For good."""
        self._client.call(calls.revoke(key_id, reason))
