"""Who changed what: the audit of a tenant."""

from typing import Annotated, Any, Final

from litestar import get
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import Forbidden
from services.gateway.queries import Limit200, Time, read_query
from taskloom.views.audit.query import AuditFilter
from taskloom.wire.messages import AuditEntry


class AuditQuery(Struct, frozen=True):
    """What is left out does not narrow."""

    user_id: str | None = None
    key_id: str | None = None
    task_id: str | None = None
    method: Annotated[str, Meta(description="POST, PUT, PATCH or DELETE")] | None = None
    route: (
        Annotated[str, Meta(description="The route's template, for example /api/v1/tasks/{task_id}/cancel")] | None
    ) = None
    status: Annotated[int, Meta(ge=100, le=599, description="Of the answer")] | None = None
    refused: Annotated[bool, Meta(description="Whether the answer was 400 or above")] | None = None
    since: Time | None = None
    until: Time | None = None
    unauthenticated: Annotated[bool, Meta(description="Calls without good credentials; for the role owner")] = False
    cursor: Annotated[str, Meta(max_length=64, description="next_cursor of a page")] | None = None
    limit: Limit200 = 50


class AuditPage(Struct, frozen=True):
    """Newest first. ``next_cursor`` is the ``cursor`` of the next page, null on the last."""

    entries: list[AuditEntry]
    next_cursor: str | None


_EXAMPLE: Final[dict[str, Any]] = {
    "entries": [
        {
            "type": "taskloom.audit.entry.v1",
            "id": "01936f3e-5b7c-7d10-8a52-4f1f6f0c8a11",
            "at": "2026-11-21T12:00:00Z",
            "tenant_id": "acme",
            "user_id": "ann",
            "key_id": "key_5f0c8a1193e1b7d2",
            "by": "key",
            "role": "user",
            "method": "POST",
            "route": "/api/v1/tasks/{task_id}/cancel",
            "task_id": "task-1",
            "named": {"task_id": "task-1"},
            "status": 409,
            "remote": "10.0.0.7",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "gateway": "gateway-1",
        }
    ],
    "next_cursor": None,
}


@get(
    "/api/v1/audit",
    opt=documented(
        Doc(
            summary="Mutating calls, newest first",
            tag="Access",
            details="Who, what, from where and with what status, refused ones too. Bodies and keys are never kept.",
            query=AuditQuery,
            answers={200: Answered("One page", AuditPage, _EXAMPLE)},
            errors=(400,),
        )
    ),
)
async def list_audit(request: AnyRequest) -> ASGIApp:
    gateway, caller = gateway_of(request), caller_in(request)
    query = read_query(pairs_of(request), AuditQuery)
    if query.unauthenticated and caller.role != "owner":
        raise Forbidden("only the role owner sees calls of no tenant", field="unauthenticated")
    chosen = AuditFilter(
        before=query.cursor,
        since=query.since,
        until=query.until,
        user_id=query.user_id,
        key_id=query.key_id,
        task_id=query.task_id,
        method=query.method,
        route=query.route,
        status=query.status,
        refused=query.refused,
    )
    tenant = "" if query.unauthenticated else caller.tenant_id
    found = await gateway.reader.views.audit(tenant, chosen, query.limit + 1)
    page = found[: query.limit]
    return json_answer(AuditPage(page, page[-1].id if len(found) > query.limit else None), headers=gateway.lag.header())


HANDLERS: Final = [list_audit]
