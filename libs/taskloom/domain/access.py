"""Roles and scopes. A scope opens routes; a role is the most that its bearer can have, and what it has by default.

An admin is one of its tenant. The owner is the installation's: it alone acts for other tenants.
"""

from collections.abc import Iterable
from typing import Final, Literal

Role = Literal["user", "admin", "owner"]

READ_WORKFLOWS: Final = "workflows:read"
WRITE_WORKFLOWS: Final = "workflows:write"
EXECUTE_AGENTS: Final = "agents:execute"
READ_SESSIONS: Final = "sessions:read"
WRITE_SESSIONS: Final = "sessions:write"
MANAGE_KEYS: Final = "api_keys:manage"
MANAGE_USERS: Final = "users:manage"
MANAGE_TENANT: Final = "tenant:manage"
DANGEROUS_SKILLS: Final = "skills:dangerous"

_WORK: Final = (READ_WORKFLOWS, WRITE_WORKFLOWS, EXECUTE_AGENTS, READ_SESSIONS, WRITE_SESSIONS)
_ALL: Final = (*_WORK, MANAGE_KEYS, MANAGE_USERS, MANAGE_TENANT, DANGEROUS_SKILLS)

USUAL_SCOPES: Final[dict[str, tuple[str, ...]]] = {"user": _WORK, "admin": _ALL, "owner": _ALL}
"""What a key gets when nobody says."""

ACCOUNT_SCOPES: Final[dict[str, tuple[str, ...]]] = {**USUAL_SCOPES, "user": (*_WORK, MANAGE_KEYS)}
"""What a person who signed in has: they make their own keys."""

_MOST: Final = {"user": frozenset((*_WORK, MANAGE_KEYS, DANGEROUS_SKILLS)), "admin": frozenset(_ALL)}
_RANK: Final = ("user", "admin", "owner")


def excess_scopes(role: str, scopes: Iterable[str]) -> list[str]:
    """Those of the scopes that the role cannot have, or that there are not."""
    most = _MOST.get(role, frozenset(_ALL) if role == "owner" else frozenset())
    return [scope for scope in scopes if scope not in most]


def outranks(role: str, other: str) -> bool:
    """True when ``other`` can do something that ``role`` cannot be trusted to hand out."""
    return _RANK.index(other) > _RANK.index(role)
