"""What writing calls down costs a submission: the gateway's own application with the audit and without it, in turn.

``python -m tests.bench.audit [submissions] [turns]``; a JSON line a turn, then quartiles of the ratios. Commands and
the audit go to a real Kafka by producers of their own; the read side is in memory, since no submission asks it. Each
pair of turns begins with the other one, so that what drifts on the machine is in both.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from services.gateway.app import create_app
from services.gateway.audit import Auditor, AuditTopic
from services.gateway.parts import Parts
from services.gateway.send import CommandSender
from services.gateway.settings import GatewaySettings
from taskloom.bus.admin import ensure_topics
from taskloom.bus.publish import Publisher
from taskloom.local.jars import ensure_jars
from taskloom.local.kafka import EmbeddedKafka
from taskloom.wire.topics import Topics
from tests.component.gateway.memory import MemorySystem

PARTITIONS = 8
AT_ONCE = 32
BODY = msgspec.json.encode({"kind": "echo", "input": {"message": "hello"}})
HEADERS = [(b"host", b"127.0.0.1"), (b"content-length", str(len(BODY)).encode())]


async def submit(app: Any) -> None:
    """One submission, straight into the application: no client and no socket in the figure."""
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/api/v1/tasks", "raw_path": b"/api/v1/tasks", "query_string": b"",
        "headers": HEADERS, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1), "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    assert statuses == [200], statuses


async def turn(app: Any, submissions: int) -> tuple[float, float]:
    """Seconds and seconds of CPU for so many submissions, with the audit written to its end."""
    auditor: Auditor = app.state["gateway"].auditor
    stopping = asyncio.Event()
    writing = asyncio.create_task(auditor.run(stopping))
    left = iter(range(submissions))

    async def some() -> None:
        for _ in left:
            await submit(app)

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    stopping.set()
    await writing
    await auditor.close()
    return time.perf_counter() - began, time.process_time() - used


async def measure(bootstrap: str, submissions: int, turns: int) -> None:
    topics = Topics("bench")
    await ensure_topics(bootstrap, "bench", PARTITIONS)
    commands, scribe = Publisher(bootstrap, "bench"), Publisher(bootstrap, "bench-audit")
    await commands.start()
    await scribe.start()
    try:
        audited = _app(commands, topics, AuditTopic(scribe, topics, PARTITIONS))
        apps = {"with": audited, "without": _app(commands, topics)}
        for app in apps.values():
            await turn(app, submissions // 4)
        ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
        for number in range(turns):
            order = sorted(apps, reverse=bool(number % 2))
            found = {name: await turn(apps[name], submissions) for name in order}
            for place, kind in enumerate(ratios):
                ratios[kind].append(found["with"][place] / found["without"][place])
            line = {
                f"{name}_{kind}_us": round(of[place] / submissions * 1e6, 1)
                for name, of in found.items()
                for place, kind in enumerate(ratios)
            }
            print(json.dumps({"turn": number, **line}), flush=True)
        for kind, each in ratios.items():
            quartiles = statistics.quantiles(each, n=4)
            print(json.dumps({"ratio": kind, "quartiles": [round(each, 4) for each in quartiles]}))
    finally:
        await commands.stop()
        await scribe.stop()


def _app(commands: Publisher, topics: Topics, audit: AuditTopic | None = None) -> Any:
    memory: Any = MemorySystem()
    sender: Any = CommandSender(commands, topics, PARTITIONS)
    settings = GatewaySettings(max_requests=AT_ONCE * 2)
    return create_app(Parts(settings, sender, memory, memory, memory, memory, memory.tail, audit=audit))


async def main(submissions: int, turns: int) -> None:
    with tempfile.TemporaryDirectory(prefix="taskloom-bench-") as home:
        ensure_jars()
        kafka = EmbeddedKafka(Path(home))
        await kafka.start()
        try:
            await measure(kafka.bootstrap, submissions, turns)
        finally:
            await kafka.stop(20.0)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(given[0] if given else 4000, given[1] if len(given) > 1 else 12))
