"""Figures of the caller's tenant: the system now, and a report over hours."""

from typing import Annotated, Final

from litestar import get
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway import figures
from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.queries import read_query

_SYSTEM: Final = {
    "timestamp": "2026-11-21T12:00:00Z",
    "concurrent_tasks": 42,
    "peak_concurrent_tasks": 180,
    "total_tasks_processed": 120934,
    "tasks_per_minute": 1260,
    "average_duration_seconds": 1.284,
    "failure_rate_percent": 0.4,
    "active_agents": 4,
    "sla_violations_last_hour": 2,
}
_REPORT: Final = {
    "report_timestamp": "2026-11-21T12:00:00Z",
    "hours": 1,
    "current_metrics": _SYSTEM,
    "agent_metrics": {
        "executor-1": {
            "total_tasks": 30241,
            "successful_tasks": 30120,
            "failed_tasks": 121,
            "success_rate_percent": 99.6,
            "average_duration_seconds": 1.281,
            "average_wait_seconds": 0.014,
        }
    },
    "resource_metrics": {
        "average_cpu_percent": 38.2,
        "peak_cpu_percent": 99.7,
        "average_memory_mb": 41.5,
        "peak_memory_mb": 212.0,
        "sample_count": 5120,
    },
    "workflow_metrics": {
        "total_workflows": 310,
        "average_duration_seconds": 12.4,
        "average_step_count": 4.0,
        "longest_workflow_seconds": 61.2,
        "shortest_workflow_seconds": 3.1,
    },
    "sla_metrics": {"last_hour": 2, "last_24h": 17, "compliance_rate_24h": 99.1},
    "performance_trends": {
        "hourly_trends": [
            {
                "timestamp": "2026-11-21T12:00:00Z",
                "completed_tasks": 30120,
                "failed_tasks": 121,
                "average_duration_seconds": 1.284,
                "success_rate_percent": 99.6,
            }
        ]
    },
}


class ReportQuery(Struct, frozen=True):
    hours: Annotated[int, Meta(ge=1, le=168, description="Hours to look at, the current one being the last")] = 24


@get(
    "/api/v1/metrics/system",
    opt=documented(
        Doc(
            summary="The system now and in the last hour",
            tag="Metrics",
            details="A task violates its SLA when it ends after its deadline, or is still open past it.",
            answers={200: Answered("The figures", figures.SystemMetrics, _SYSTEM)},
            errors=(503,),
        )
    ),
)
async def system(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    found = await figures.system_metrics(gateway.reader.views, caller_in(request).tenant_id)
    return json_answer(found, headers=gateway.lag.header())


@get(
    "/api/v1/metrics/report",
    opt=documented(
        Doc(
            summary="Agents, resources, workflows, SLA and a line for each hour",
            tag="Metrics",
            query=ReportQuery,
            answers={
                200: Answered("The report; an hour without tasks is all zeros", figures.PerformanceReport, _REPORT)
            },
            errors=(400, 503),
        )
    ),
)
async def report(request: AnyRequest) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), ReportQuery)
    found = await figures.performance_report(gateway.reader.views, caller_in(request).tenant_id, query.hours)
    return json_answer(found, headers=gateway.lag.header())


HANDLERS: Final = [system, report]
