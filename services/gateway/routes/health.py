"""Is it alive, can it serve, what does it count, what does it speak."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from litestar import get
from litestar.types import ASGIApp

from services.gateway.answers import json_answer, text_answer
from services.gateway.context import AnyRequest, gateway_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.openapi import document_of
from taskloom import telemetry

_VERSION: Final = version("taskloom")
_READINESS_EXAMPLE: Final = {
    "status": "ready",
    "service": "gateway",
    "version": _VERSION,
    "time": "2026-11-21T12:00:00Z",
    "checks": {"kafka": "ok", "database": "ok", "orchestrator": "ok"},
}


@get(
    "/health",
    opt=documented(
        Doc(
            summary="The process lives",
            tag="Operations",
            answers={
                200: Answered("Alive", example={**_READINESS_EXAMPLE, "status": "healthy", "checks": {"gateway": "ok"}})
            },
        )
    ),
)
async def health(request: AnyRequest) -> ASGIApp:
    now = datetime.now(UTC)
    return json_answer({"status": "healthy", "version": _VERSION, "time": now, "checks": {"gateway": "ok"}})


@get(
    "/readiness",
    opt=documented(
        Doc(
            summary="Kafka, the database and an orchestrator answer",
            tag="Operations",
            answers={
                200: Answered("Ready", example=_READINESS_EXAMPLE),
                503: Answered("Not ready; checks says why", example={**_READINESS_EXAMPLE, "status": "not ready"}),
            },
        )
    ),
)
async def readiness(request: AnyRequest) -> ASGIApp:
    status, report = await gateway_of(request).readiness.report()
    return json_answer(report, status=status)


@get(
    "/metrics",
    opt=documented(
        Doc(
            summary="Metrics in Prometheus' text format",
            tag="Operations",
            answers={200: Answered("Metrics", media_type="text/plain")},
        )
    ),
)
async def metrics(request: AnyRequest) -> ASGIApp:
    return text_answer(telemetry.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


@get(
    ["/openapi.json", "/api/v1/openapi.json"],
    opt=documented(Doc(summary="This document", tag="Operations", answers={200: Answered("OpenAPI 3.1")})),
)
async def openapi(request: AnyRequest) -> ASGIApp:
    return json_answer(document_of(request.app))


HANDLERS: Final = [health, readiness, metrics, openapi]
