"""The agent of the monitoring example: asks a service for its health."""

import time
from typing import Any

import httpx

from taskloom.client.tasks import Task
from taskloom.kinds import current_context

TIMEOUT_S = 2.0


async def perform(task: Task, context: dict[str, Any]) -> dict[str, Any]:
    """A service that is down is a result, not a failure of the check. Each check sets the variable of its service only,
    since the checks run side by side."""
    service = task.metadata["service"]
    url = task.metadata["workflow_context"]["addresses"][service]
    began = time.monotonic()
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(url)
        health, detail = ("up" if answer.is_success else "down"), f"answers {answer.status_code}"
    except httpx.TransportError as error:
        health, detail = "down", type(error).__name__
    took_ms = round((time.monotonic() - began) * 1000, 1)
    await current_context().write(f"{service} is {health}: {detail} in {took_ms} ms\n")
    return {"health": health, "detail": detail, "took_ms": took_ms, "variables": {service: health}}
