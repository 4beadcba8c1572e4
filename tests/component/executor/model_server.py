"""A server with OpenAI's API on this machine, which answers as a test tells it to."""

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Answer:
    """One answer. ``pieces`` of text and ``calls`` are streamed; ``cut``: the connection ends before the last piece.
    ``hold``: nothing comes before it is set."""

    pieces: Sequence[str] = ()
    calls: Sequence[tuple[str, str]] = ()
    status: int = 200
    headers: Json = field(default_factory=dict)
    body: str = ""
    usage: tuple[int, int] | None = (100, 20)
    cut: bool = False
    hold: asyncio.Event | None = None


class ModelServer:
    """``answers`` are given in turn; ``requests`` are what came."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.requests: list[Json] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Its base URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            self.headers.append(headers)
            self.requests.append(json.loads(await reader.readexactly(int(headers.get("content-length", "0")))))
            answer = self.answers.popleft()
            if answer.hold is not None:
                await answer.hold.wait()
            writer.write(_encoded(answer, self.requests[-1]))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.at_once -= 1
            writer.close()


def _encoded(answer: Answer, request: Json) -> bytes:
    if answer.status != 200 or answer.body:
        told = {"content-type": "application/json", "content-length": str(len(answer.body.encode())), **answer.headers}
        return _head(answer.status, told) + answer.body.encode()
    model = request["model"]
    chunks = [_chunk(model, {"role": "assistant", "content": ""})]
    chunks += [_chunk(model, {"content": piece}) for piece in answer.pieces]
    for index, (name, args) in enumerate(answer.calls):
        start = {"index": index, "id": f"call-{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        chunks.append(_chunk(model, {"tool_calls": [start]}))
        chunks.append(_chunk(model, {"tool_calls": [{"index": index, "function": {"arguments": args}}]}))
    if not answer.cut:
        chunks.append(_chunk(model, {}, "tool_calls" if answer.calls else "stop"))
        if answer.usage is not None:
            given, made = answer.usage
            counts = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
            chunks.append({**_chunk(model, {}), "choices": [], "usage": counts})
    lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    body = lines.encode() + (b"" if answer.cut else b"data: [DONE]\n\n")
    # A length that is not reached is what a connection that breaks off looks like.
    length = len(body) + (1000 if answer.cut else 0)
    return _head(200, {"content-type": "text/event-stream", "content-length": str(length)}) + body


def _chunk(model: str, delta: Json, finish: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


def _head(status: int, headers: Json) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nconnection: close\r\n{lines}\r\n".encode()
