"""A server for tests of what the task API asks."""

import json
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import httpx

Answer = Callable[[httpx.Request], httpx.Response] | httpx.Response
BASE: Final = "/api/v1/tasks"


class Server:
    """Answers by method and path; ``{id}`` stands for any last or inner part. Its OpenAPI document names its routes."""

    def __init__(self) -> None:
        self.routes: dict[str, Answer] = {
            "GET /api/v1/executors": httpx.Response(200, json={"executors": []}),
            "GET /api/v1/queues": httpx.Response(200, json={"queues": []}),
        }
        self.requests: list[httpx.Request] = []

    def add(self, route: str, body: Any = None, status: int = 200) -> None:
        self.routes[route] = httpx.Response(status, json=body)

    def task(self, task_id: UUID, **fields: Any) -> None:
        """Knows a task from now on."""
        known = {
            "task_id": str(task_id),
            "status": "TASK_STATUS_QUEUED",
            "state": "ready",
            "kind": "shell",
            "queue": "default",
            "priority": 2,
            "attempt": 0,
            "created_at": "2026-01-01T00:00:00Z",
            "version": 1,
            "max_attempts": 4,
            "name": "n",
            "user_id": "u",
        }
        self.add(f"GET {BASE}/{task_id}", known | fields)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path == "/openapi.json":
            return httpx.Response(200, json={"paths": self._paths()})
        answer = self.routes.get(f"{request.method} {request.url.path}")
        if answer is None:
            return httpx.Response(404, json={"error": "Task not found"})
        if callable(answer):
            return answer(request)
        return httpx.Response(answer.status_code, content=answer.content)

    def sent(self, method: str) -> list[tuple[str, Any]]:
        """Paths and bodies of the requests of one method."""
        found = [request for request in self.requests if request.method == method]
        return [(request.url.path, json.loads(request.content or b"null")) for request in found]

    def _paths(self) -> dict[str, dict[str, Any]]:
        paths: dict[str, dict[str, Any]] = {}
        for route in self.routes:
            method, _, path = route.partition(" ")
            parts = ["{some_id}" if _is_id(part) else part for part in path.split("/")]
            paths.setdefault("/".join(parts), {})[method.lower()] = {"parameters": []}
        return paths


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
