"""Says no to a WebSocket before it is open: with the status and the JSON that a request would have got."""

from collections.abc import Awaitable, Callable
from typing import Any

from services.gateway.answers import json_answer
from services.gateway.problems import Problem


async def refuse_websocket(problem: Problem, send: Callable[[Any], Awaitable[None]]) -> None:
    answer = json_answer(problem.body(), status=problem.status, headers=[*problem.headers.items()])
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})
