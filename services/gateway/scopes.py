"""Which scope each route needs: one table, by the beginning of the path. What stands nowhere is closed."""

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from services.gateway.problems import Forbidden
from services.gateway.security import Caller
from taskloom.domain.access import (
    EXECUTE_AGENTS,
    MANAGE_KEYS,
    MANAGE_TENANT,
    MANAGE_USERS,
    READ_SESSIONS,
    READ_WORKFLOWS,
    WRITE_SESSIONS,
    WRITE_WORKFLOWS,
)
from taskloom.wire import link

PUBLIC: Final = frozenset(
    {"/health", "/readiness", "/metrics", "/openapi.json", "/api/v1/openapi.json", "/docs"}
    | {"/api/v1/auth/register", "/api/v1/auth/refresh"}
    | {link.PATH, link.VALUES_PATH}
)
"""Asked for by probes, scrapers and generators, and before there is a key; agents show their tokens to their own door.
None of them names a tenant's things."""

PUBLIC_FILES: Final = "/docs/"
"""Below it are the files of the docs page."""

ANY: Final = ""
"""Whoever is known."""


class Rule(NamedTuple):
    """Scopes for GET and for everything else, for the path and all below it; the longest path that fits counts."""

    path: str
    read: str
    write: str


RULES: Final = (
    Rule("/api/v1/tasks", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/workflows", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/workflows/validate", READ_WORKFLOWS, READ_WORKFLOWS),
    Rule("/api/v1/templates", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/schedules", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/approvals", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/stream", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/sessions", READ_SESSIONS, WRITE_SESSIONS),
    Rule("/api/v1/queues", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/queue", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/metrics", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/usage", READ_WORKFLOWS, MANAGE_TENANT),
    Rule("/api/v1/quotas", READ_WORKFLOWS, MANAGE_TENANT),
    Rule("/api/v1/executors", READ_WORKFLOWS, EXECUTE_AGENTS),
    Rule("/api/v1/agents", READ_WORKFLOWS, EXECUTE_AGENTS),
    Rule("/api/v1/agents/{agent_id}/token", MANAGE_KEYS, MANAGE_KEYS),
    Rule("/api/v1/webhooks", MANAGE_TENANT, MANAGE_TENANT),
    Rule("/api/v1/callbacks", MANAGE_TENANT, MANAGE_TENANT),
    Rule("/api/v1/deliveries", WRITE_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/tasks", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/agents", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/stream", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/chat", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/files", READ_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/secrets", MANAGE_TENANT, MANAGE_TENANT),
    Rule("/api/v1/tool-servers", MANAGE_TENANT, MANAGE_TENANT),
    Rule("/api/v1/tool-servers/{server_name}/tools", WRITE_WORKFLOWS, WRITE_WORKFLOWS),
    Rule("/api/v1/audit", MANAGE_TENANT, MANAGE_TENANT),
    Rule("/api/v1/users", MANAGE_USERS, MANAGE_USERS),
    Rule("/api/v1/invitations", MANAGE_USERS, MANAGE_USERS),
    Rule("/api/v1/auth/api-keys", MANAGE_KEYS, MANAGE_KEYS),
    Rule("/api/v1/auth", ANY, ANY),
    Rule("/api/v1/health", ANY, ANY),
    # Not offered: the answer is one sentence.
    *(Rule(path, ANY, ANY) for path in ("/api/v1/swarm", "/api/v1/skills", "/api/v1/tools", "/api/v1/memory", "/v1")),
)


class Unlisted(LookupError):
    """A route that the table does not know."""


def is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_FILES)


@lru_cache(maxsize=1024)
def scope_of(method: str, path: str) -> str | None:
    """The scope that a route needs; ``ANY`` when being known is enough, None for a public one.

    Raises:
        Unlisted: no rule fits.
    """
    path = re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
    if is_public(path):
        return None
    fitting = [rule for rule in RULES if path == rule.path or path.startswith(f"{rule.path}/")]
    if not fitting:
        raise Unlisted(f"{method} {path} has no rule in services/gateway/scopes.py")
    rule = max(fitting, key=lambda each: len(each.path))
    return rule.read if method in ("GET", "HEAD") else rule.write


async def check_scope(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of every route.

    Raises:
        Forbidden: the caller lacks the scope; ``required_scope`` names it.
    """
    caller: Caller = connection.scope["state"]["caller"]
    if caller.by == "open":
        return
    method = connection.scope.get("method", "GET")
    try:
        needed = scope_of(str(method), str(connection.scope.get("path_template", "")))
    except Unlisted as error:
        raise Forbidden("this route is closed: no scope opens it") from error
    if needed and needed not in caller.scopes:
        raise Forbidden(f"this needs the scope {needed}", required_scope=needed)
