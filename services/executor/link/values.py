"""Large results of an agent, stored by a gateway over HTTP. Large inputs come with the order."""

from typing import Any, Final

import httpx

from services.executor.link.client import Link
from taskloom.client.connection import reads_environment
from taskloom.store.errors import StoreUnavailable
from taskloom.wire.claims import claimed_digest
from taskloom.wire.link import VALUES_PATH

TIMEOUT: Final = httpx.Timeout(120.0, connect=10.0)


class LinkValues:
    """Implements ``claims.Values``."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def put(self, value: bytes) -> str:
        """
        Raises:
            StoreUnavailable: the gateway did not take it now.
        """
        url = self._link.url
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=reads_environment(url)) as http:
                answer = await http.post(f"{url}{VALUES_PATH}", content=value, headers=self._link.headers)
                answer.raise_for_status()
                return str(answer.json()["digest"])
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise StoreUnavailable(f"{url} did not take a large value: {error!r}") from error

    async def resolve(self, value: Any) -> Any:
        """A reference that the gateway could not follow, an agent cannot either.

        Raises:
            StoreUnavailable: it is a reference.
        """
        if claimed_digest(value) is None:
            return value
        raise StoreUnavailable("the gateway could not read it when it passed the order on")
