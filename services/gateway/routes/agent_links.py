"""The door of agents: the WebSocket of their links, and where they store large results."""

from typing import Any, Final

from litestar import WebSocket, get, post, websocket
from litestar.types import ASGIApp

from services.gateway.answers import json_answer
from services.gateway.context import AnyConnection, AnyRequest, gateway_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.links.door import Guest
from services.gateway.links.hub import Links
from services.gateway.links.link import Cut
from services.gateway.openapi import Error
from services.gateway.problems import Problem, TooLarge, Unavailable
from services.gateway.refusing import refuse_websocket
from taskloom import telemetry
from taskloom.wire import link as wire
from taskloom.wire.claims import MAX_VALUE_BYTES

AnySocket = WebSocket[Any, Any, Any]
FAULT: Final = 1011
_TAG: Final = "Agents"
_log = telemetry.get_logger(__name__)


@websocket(wire.PATH)
async def link_agent(socket: AnySocket) -> None:
    """A link; see ``taskloom.wire.link`` for what is said."""
    try:
        links, guest = await _admitted(socket)
        links.check_room()
    except Problem as problem:
        await refuse_websocket(problem, socket.send)
        return
    await socket.send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    try:
        await links.serve(guest, _sender(socket), _receiver(socket))
    except Cut as cut:
        await socket.send({"type": "websocket.close", "code": cut.code, "reason": cut.reason})
    except Exception as fault:  # noqa: BLE001 - whatever it was, the agent is told to come back
        _log.warning("link of an agent cut by a fault", agent=guest.executor_id, error=repr(fault))
        await socket.send({"type": "websocket.close", "code": FAULT, "reason": "come back"})


@get(
    wire.PATH,
    opt=documented(
        Doc(
            summary="The link of an agent, a WebSocket",
            tag=_TAG,
            details="For `taskloom agent`: X-Agent-Id and Authorization: Bearer TOKEN. What is said over it is in "
            "docs/architecture.md.",
            answers={426: Answered("Open a WebSocket", body=Error)},
        )
    ),
)
async def link_without_upgrade() -> ASGIApp:
    headers = [("Upgrade", "websocket")]
    return json_answer({"error": "this is a WebSocket: ask for an upgrade"}, status=426, headers=headers)


@post(
    wire.VALUES_PATH,
    status_code=200,
    opt=documented(
        Doc(
            summary="Store a large result of an agent",
            tag=_TAG,
            details="For `taskloom agent`, with the headers of its link. The body is the JSON of one value, 16 MiB at "
            "most; the answer has its SHA-256, which a report then refers to.",
            answers={200: Answered("Stored", dict[str, str], {"digest": "9f86d0…"})},
            errors=(401, 413, 503),
        )
    ),
)
async def store_value(request: AnyRequest) -> ASGIApp:
    links, guest = await _admitted(request)
    value = await request.body()
    if len(value) > MAX_VALUE_BYTES:
        raise TooLarge(f"the value has {len(value)} bytes, {MAX_VALUE_BYTES} are allowed")
    return json_answer({"digest": await links.values.put(guest.tenant_id, value)})


async def _admitted(connection: AnyConnection) -> tuple[Links, Guest]:
    links = gateway_of(connection).links
    if links is None:
        raise Unavailable("this gateway takes no agents")
    headers = dict(connection.headers)
    return links, await links.door.admit(headers, headers.get(wire.AGENT_HEADER, ""))


def _sender(socket: AnySocket) -> Any:
    async def send(data: bytes) -> None:
        await socket.send({"type": "websocket.send", "text": data.decode(), "bytes": None})

    return send


def _receiver(socket: AnySocket) -> Any:
    async def receive() -> bytes:
        """A message; nothing once the agent has gone."""
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                return bytes(message.get("bytes") or b"") or (message.get("text") or "").encode()
        return b""

    return receive


HANDLERS: Final = [link_agent, link_without_upgrade, store_value]
