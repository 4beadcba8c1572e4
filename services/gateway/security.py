"""Who calls, and where from. In open mode everybody on this machine is trusted, and says by header who they are; in
keys mode the gatekeeper knows.

A browser must not be a way in: any web page can send requests to 127.0.0.1. So a foreign ``Origin`` and, against DNS
rebinding, a foreign ``Host`` are refused while the gateway is bound to loopback.
"""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct, structs

from services.gateway.problems import BadRequest, Forbidden
from taskloom.domain.access import USUAL_SCOPES
from taskloom.domain.ids import DEFAULT_TENANT, is_valid_id
from taskloom.settings import SettingsError

OPEN_USER: Final = "00000000-0000-0000-0000-000000000002"
"""The user of a request without ``X-User-Id``: the fixed one of Shannon's development mode."""

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Caller(Struct, frozen=True):
    """Whose request it is; every read and every command is bound to the tenant.

    ``by``: how it is known. ``key_id``: of the API key that was sent, or that the token was made for. ``home_tenant``
    and ``home_user``: whose credentials they are, where they act for somebody else. ``login_id``: the sign-in of an
    account here that the token was made for.
    """

    tenant_id: str = DEFAULT_TENANT
    user_id: str = OPEN_USER
    role: str = "owner"
    scopes: frozenset[str] = frozenset(USUAL_SCOPES["owner"])
    key_id: str = ""
    by: Literal["open", "key", "token", "nobody"] = "open"
    username: str = ""
    email: str = ""
    home_tenant: str = ""
    home_user: str = ""
    login_id: str = ""

    def acting_for(self, tenant_id: str, user_id: str) -> "Caller":
        if (tenant_id, user_id) == (self.tenant_id, self.user_id):
            return self
        homes = {"home_tenant": self.tenant_id, "home_user": self.user_id}
        return structs.replace(self, tenant_id=tenant_id, user_id=user_id, **homes)


NOBODY: Final = Caller("", "", role="", scopes=frozenset(), by="nobody")
"""Who asks for a public route, or could not say who they are."""


class OpenAddressRefused(SettingsError):
    """Without keys the gateway serves only this machine."""


_ANYBODY: Final = Caller()


def caller_of(headers: Mapping[str, str]) -> Caller:
    """The caller that the headers ``X-Tenant-Id`` and ``X-User-Id`` name.

    Raises:
        BadRequest: one of them is no id.
    """
    tenant, user = headers.get("x-tenant-id"), headers.get("x-user-id")
    if not tenant and not user:
        return _ANYBODY
    for name, value in (("X-Tenant-Id", tenant), ("X-User-Id", user)):
        if value and not is_valid_id(value):
            raise BadRequest(f"{value!r} is not an id (1 to 128 of A-Z a-z 0-9 : _ - .)", field=name)
    return Caller(tenant or DEFAULT_TENANT, user or OPEN_USER)


def is_loopback(host: str) -> bool:
    """True when only this machine can reach the address ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, *, keys: bool, allow_open: bool) -> None:
    """Raises:
    OpenAddressRefused: others could reach ``host``, no keys are asked for, and nobody said that this is wanted.
    """
    if not keys and not is_loopback(host) and not allow_open:
        raise OpenAddressRefused(
            f"without keys anyone who reaches {host} could run commands here. Set TASKLOOM_AUTH=keys and make the "
            "first key with `taskloom keys create --tenant NAME --role owner`; or bind to 127.0.0.1 (TASKLOOM_HOST); "
            "or set TASKLOOM_ALLOW_OPEN=true when a proxy or network in front guards it"
        )


class BrowserGuard:
    """Refuses what only a browser on a foreign page would send. ``local_only``: the gateway is bound to loopback."""

    def __init__(self, *, local_only: bool, origins: tuple[str, ...] = ()) -> None:
        self._local_only = local_only
        self._origins = frozenset(origins)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """``headers`` with lower-case names, as ASGI has them.

        Raises:
            Forbidden: the origin or the host is foreign.
        """
        origin = headers.get(b"origin")
        if origin is not None and not self._knows(origin.decode("latin-1")):
            raise Forbidden(
                f"pages of {origin.decode('latin-1')} may not use this gateway; allow them in TASKLOOM_CORS_ORIGINS",
                field="Origin",
            )
        host = headers.get(b"host")
        if self._local_only and host is not None and not _is_local(host.decode("latin-1")):
            raise Forbidden(f"{host.decode('latin-1')} is not a name of this machine", field="Host")

    def _knows(self, origin: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        return self._local_only and origin != "null" and urlsplit(origin).hostname in _LOCAL_NAMES


@lru_cache(maxsize=256)  # parsing the address anew took 4 % of a submission's time
def _is_local(host: str) -> bool:
    name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name.lower())
