"""Is it alive, can it serve, what does it count, what does it speak."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from litestar import get
from litestar.types import ASGIApp

from services.gateway.answers import json_answer, text_answer
from services.gateway.components import ComponentHealth
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

_METRICS_EXAMPLE: Final = "# TYPE taskloom_gateway_streams_open gauge\ntaskloom_gateway_streams_open 3.0\n"
_DOCUMENT_EXAMPLE: Final = {"openapi": "3.1.0", "info": {"title": "Taskloom", "version": _VERSION}, "paths": {}}
_HEALTHY_EXAMPLE: Final = {"status": "healthy", "since": "2026-11-21T08:00:00Z", "detail": ""}
_COMPONENTS_EXAMPLE: Final = {
    "status": "degraded",
    "timestamp": "2026-11-21T12:00:00Z",
    "components": {
        **dict.fromkeys(("gateway", "kafka", "postgresql", "orchestrator"), _HEALTHY_EXAMPLE),
        "projection": {"status": "degraded", "since": "2026-11-21T11:59:40Z", "detail": "3.120 s behind"},
        "executors": {**_HEALTHY_EXAMPLE, "detail": "4 ready"},
        **dict.fromkeys(("dependency_resolver", "task_scheduler"), _HEALTHY_EXAMPLE),
        "task_executor": {**_HEALTHY_EXAMPLE, "detail": "4 ready"},
        "workflow_orchestrator": _HEALTHY_EXAMPLE,
    },
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
    "/api/v1/health/components",
    opt=documented(
        Doc(
            summary="Health by component",
            tag="Operations",
            details="Always 200: restart by /health, route by /readiness, and look here for what is wrong since when. "
            "The last four components are the task management engine's names for what the orchestrator and the "
            "executors do.",
            answers={200: Answered("The components", ComponentHealth, _COMPONENTS_EXAMPLE)},
        )
    ),
)
async def components(request: AnyRequest) -> ASGIApp:
    return json_answer(await gateway_of(request).components.report())


@get(
    "/metrics",
    opt=documented(
        Doc(
            summary="Metrics in Prometheus' text format",
            tag="Operations",
            answers={200: Answered("Metrics", example=_METRICS_EXAMPLE, media_type="text/plain")},
        )
    ),
)
async def metrics(request: AnyRequest) -> ASGIApp:
    return text_answer(telemetry.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


@get(
    ["/openapi.json", "/api/v1/openapi.json"],
    opt=documented(
        Doc(
            summary="This document",
            tag="Operations",
            answers={200: Answered("OpenAPI 3.1", example=_DOCUMENT_EXAMPLE)},
        )
    ),
)
async def openapi(request: AnyRequest) -> ASGIApp:
    return json_answer(document_of(request.app))


HANDLERS: Final = [health, components, readiness, metrics, openapi]
