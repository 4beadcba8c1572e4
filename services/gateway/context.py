"""What a handler gets at: the gateway's wired parts, and what a request says about itself."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from litestar import Request
from litestar.connection import ASGIConnection

from services.gateway.accounts import Accounts
from services.gateway.agent_desk import AgentDesk
from services.gateway.approvals import Approvals
from services.gateway.audit import Auditor
from services.gateway.bulk import Bulk
from services.gateway.chat.desk import ChatDesk
from services.gateway.components import ComponentWatch
from services.gateway.control import Controller
from services.gateway.definitions import Definitions
from services.gateway.dependencies import DependencyReader
from services.gateway.files import FileDesk
from services.gateway.forks import Forks
from services.gateway.gatekeeper import Gatekeeper
from services.gateway.keys import Keys
from services.gateway.known import KnownThings
from services.gateway.lag import LagWatch
from services.gateway.limits import Limits
from services.gateway.links.hub import Links
from services.gateway.nodelink.desk import NodelinkDesk
from services.gateway.problems import BadRequest
from services.gateway.read import Reader
from services.gateway.schedules import Schedules
from services.gateway.secrets import SecretDesk
from services.gateway.security import Caller
from services.gateway.sessions import Sessions
from services.gateway.streaming import Streams
from services.gateway.submission import Origin
from services.gateway.submit import Submitter
from services.gateway.templates import Templates
from services.gateway.tenant_limits import LimitsDesk
from services.gateway.tool_servers import ToolServers
from services.gateway.usage import Usage
from services.gateway.users import Users
from services.gateway.webhooks import WebhookDesk
from taskloom.domain.ids import is_task_id, is_valid_id
from taskloom.ops import Readiness

MAX_WAIT_S: Final = 30.0
AnyRequest = Request[Any, Any, Any]
AnyConnection = ASGIConnection[Any, Any, Any, Any]
"""A request, or the opening of a WebSocket."""


@dataclass(frozen=True)
class Gateway:
    """Made once by ``create_app``, shared by all handlers."""

    submitter: Submitter
    controller: Controller
    approvals: Approvals
    sessions: Sessions
    definitions: Definitions
    templates: Templates
    bulk: Bulk
    known: KnownThings
    schedules: Schedules
    webhooks: WebhookDesk
    nodelink: NodelinkDesk
    chat: ChatDesk
    secrets: SecretDesk
    tool_servers: ToolServers
    files: FileDesk
    dependencies: DependencyReader
    forks: Forks
    reader: Reader
    streams: Streams
    limits: Limits
    auditor: Auditor
    gatekeeper: Gatekeeper
    keys: Keys
    accounts: Accounts
    users: Users
    limits_desk: LimitsDesk
    usage: Usage
    lag: LagWatch
    readiness: Readiness
    components: ComponentWatch
    links: Links | None
    agents: AgentDesk


def gateway_of(request: AnyConnection) -> Gateway:
    gateway: Gateway = request.app.state["gateway"]
    return gateway


def origin_of(request: AnyRequest, gateway: Gateway) -> Origin:
    """Who asks, where the reply goes, and the trace it belongs to.

    Raises:
        BadRequest: the wait is no number.
    """
    headers = request.headers
    correlation_id = headers.get("x-request-id", "")
    return Origin(
        caller=caller_in(request),
        reply_to=gateway.submitter.reply_to,
        traceparent=request.scope["state"].get("traceparent", ""),
        correlation_id=correlation_id if is_valid_id(correlation_id) else "",
        key=headers.get("idempotency-key", ""),
        wait_s=wait_of(request),
    )


def caller_in(connection: AnyConnection) -> Caller:
    """Who asks: what the gatekeeper found out at the edge."""
    caller: Caller = connection.scope["state"]["caller"]
    return caller


def pairs_of(request: AnyConnection) -> list[tuple[str, str]]:
    """Name and value of each parameter of the query string."""
    return parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)


def wait_of(request: AnyRequest) -> float:
    """Seconds of ``Prefer: wait=N``, at most 30; 0 without it.

    Raises:
        BadRequest: N is no number of seconds.
    """
    for preference in request.headers.get("prefer", "").split(","):
        name, found, value = preference.partition("=")
        if name.strip().lower() == "wait" and found:
            text = value.strip().strip('"')
            if not text.isascii() or not text.isdigit():
                raise BadRequest(f"wait={text!r} is no number of seconds, 0 to 30", field="Prefer")
            return min(MAX_WAIT_S, float(text))
    return 0.0


def checked_id(text: str, field: str = "task_id") -> str:
    """``text`` itself when it is an id.

    Raises:
        BadRequest: it is none.
    """
    if not (is_task_id if field in ("task_id", "workflow_id") else is_valid_id)(text):
        raise BadRequest(f"{text!r} is not an id (1 to 128 of A-Z a-z 0-9 : _ - .)", field=field)
    return text
