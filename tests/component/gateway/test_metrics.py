"""Figures, statistics and health by component, over the gateway's own routes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from httpx import AsyncClient as Client

from services.gateway.app import create_app
from services.gateway.components import BEHIND_S, executors, projection
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from taskloom.client import calls
from taskloom.client.calls import Call
from taskloom.domain.task import events as e
from taskloom.domain.values import ErrorInfo, ResourceUse
from taskloom.errors import TaskloomError
from taskloom.views.executors.query import Executor
from taskloom.wire.messages import ExecutorHeartbeat, LiveAttempt
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"
ERROR = ErrorInfo("ValueError", "broken", retryable=False)


def executor(executor_id: str, status: str = "ready", *, live: int = 0, silent_s: float = 1.0) -> Executor:
    now = datetime.now(UTC)
    held = tuple(LiveAttempt(f"t-{number}", 1) for number in range(live))
    beat = ExecutorHeartbeat(
        executor_id, "i", "ready", now, ("echo",), capabilities=("linux",), labels={"agent_type": "codegen"},
        live=held, started_at=now,
    )  # fmt: skip
    return Executor(beat, status, silent_s)  # type: ignore[arg-type]


async def submit(client: Client, task_id: str, tenant: str = "default", **fields: object) -> None:
    body = {"kind": "echo", "task_id": task_id, **fields}
    answer = await client.post(TASKS, json=body, headers={"X-Tenant-Id": tenant})
    assert answer.status_code == 200, answer.text


def run(system: MemorySystem, task_id: str, *ends: e.TaskEvent, tenant: str = "default") -> None:
    system.record(task_id, [e.AttemptAssigned(1, "e1", "i"), e.AttemptStarted(1, "e1"), *ends], tenant_id=tenant)


@pytest.fixture
async def busy(client: Client, system: MemorySystem) -> Client:
    """Two tasks completed, one failed, one runs past its deadline, one waits; and one of another tenant."""
    past = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    for task_id in ("a", "b", "failed"):
        await submit(client, task_id)
    await submit(client, "late", deadline=past)
    await submit(client, "waits", priority="urgent")
    await submit(client, "theirs", tenant="red")
    run(system, "a", e.TaskCompleted(1, resources=ResourceUse(80.0, 20.0, 0.5, 4)))
    run(system, "b", e.TaskCompleted(1))
    run(system, "failed", e.AttemptFailed(1, ERROR), e.TaskFailed(ERROR, 1))
    run(system, "late")
    system.record("late", [e.TaskOverdue(datetime.now(UTC))])
    run(system, "theirs", e.TaskCompleted(1), tenant="red")
    system.executors_now = [executor("e1", live=2), executor("e2", "lost", silent_s=60)]
    return client


async def test_system_metrics_have_the_documented_names_and_count_only_the_tenants_tasks(busy: Client) -> None:
    told = (await busy.get("/api/v1/metrics/system")).json()
    assert told.pop("timestamp")
    assert 0 <= told.pop("average_duration_seconds") < 5
    assert told == {
        "concurrent_tasks": 1,
        "peak_concurrent_tasks": 1,
        "total_tasks_processed": 3,
        "tasks_per_minute": 2,
        "failure_rate_percent": 33.33,
        "active_agents": 1,
        "sla_violations_last_hour": 1,
    }
    red = (await busy.get("/api/v1/metrics/system", headers={"X-Tenant-Id": "red"})).json()
    assert (red["total_tasks_processed"], red["sla_violations_last_hour"]) == (1, 0)


async def test_report_holds_a_line_for_each_hour_even_without_tasks(busy: Client) -> None:
    told = (await busy.get("/api/v1/metrics/report?hours=168")).json()
    trends = told["performance_trends"]["hourly_trends"]
    assert len(trends) == told["hours"] == 168
    assert [hour["completed_tasks"] for hour in trends] == [0] * 167 + [2]
    assert (trends[-1]["failed_tasks"], trends[-1]["success_rate_percent"]) == (1, 66.67)
    gap = datetime.fromisoformat(trends[-1]["timestamp"]) - datetime.fromisoformat(trends[0]["timestamp"])
    assert gap == timedelta(hours=167)
    [(agent, held)] = told["agent_metrics"].items()
    assert (agent, held["total_tasks"], held["successful_tasks"], held["failed_tasks"]) == ("e1", 3, 2, 1)
    assert told["resource_metrics"]["sample_count"] == 4
    assert told["resource_metrics"]["peak_memory_mb"] == 20.0
    assert told["sla_metrics"] == {"last_hour": 1, "last_24h": 1, "compliance_rate_24h": 0.0}
    assert told["workflow_metrics"]["total_workflows"] == 0
    quiet = (await busy.get("/api/v1/metrics/report", headers={"X-Tenant-Id": "nobody"})).json()
    assert quiet["agent_metrics"] == {}
    assert quiet["sla_metrics"]["compliance_rate_24h"] == 100.0


@pytest.mark.parametrize("hours", ["0", "169", "many"])
async def test_hours_outside_a_week_are_refused_by_name(client: Client, hours: str) -> None:
    answer = await client.get(f"/api/v1/metrics/report?hours={hours}")
    assert (answer.status_code, answer.json()["field"]) == (400, "hours")


async def test_queue_statistics_are_those_of_the_document(busy: Client) -> None:
    told = (await busy.get("/api/v1/queue/stats")).json()
    assert told == {
        "total_tasks": 5,
        "pending_tasks": 1,
        "running_tasks": 1,
        "completed_tasks": 2,
        "failed_tasks": 1,
        "cancelled_tasks": 0,
        "queue_length": 1,
        "priority_distribution": {"LOW": 0, "NORMAL": 0, "HIGH": 0, "URGENT": 1, "CRITICAL": 0},
        "agent_workloads": {"e1": 2},
        "overdue_tasks": 1,
    }
    queue = (await busy.get("/api/v1/queues/default")).json()
    assert (queue["depth"], queue["pending"], queue["running"], queue["overdue"]) == (1, 1, 1, 1)
    assert queue["priority_distribution"]["URGENT"] == 1
    assert queue["agent_workloads"] == {"e1": 2}


@pytest.mark.parametrize("kind", ["executors", "agents"])
async def test_executor_statistics_count_the_tenants_attempts(busy: Client, kind: str) -> None:
    told = (await busy.get(f"/api/v1/{kind}/e1/stats")).json()
    assert told.pop("registered_at")
    assert told.pop("last_seen_at")
    assert 0 <= told.pop("average_duration_seconds") < 5
    assert told == {
        "executor_id": "e1",
        "type": "codegen",
        "active": True,
        "running_tasks": 2,
        "total_executions": 3,
        "successful_executions": 2,
        "failed_executions": 1,
        "success_rate": 66.67,
        "capabilities": ["linux"],
    }
    both = (await busy.get(f"/api/v1/{kind}/stats", headers={"X-Tenant-Id": "red"})).json()["executors"]
    assert [(each["executor_id"], each["active"], each["total_executions"]) for each in both] == [
        ("e1", True, 1),
        ("e2", False, 0),
    ]
    assert (await busy.get(f"/api/v1/{kind}/nobody/stats")).status_code == 404


async def test_components_say_what_is_wrong_and_since_when(system: MemorySystem, settings: GatewaySettings) -> None:
    broken = ""

    async def well() -> None:
        return

    async def orchestrator() -> None:
        if broken:
            raise TaskloomError(broken)

    checks = {"kafka": well, "database": well, "orchestrator": orchestrator}
    app = create_app(Parts(settings, system, system, system, system, system, system.tail, checks))
    watch = app.state["gateway"].components
    app.state["gateway"].lag.ms = 12.0
    system.executors_now = [executor("e1")]

    first = await watch.report()
    assert first.status == "healthy", first
    assert set(first.components) == {
        "gateway", "kafka", "postgresql", "orchestrator", "projection", "executors",
        "dependency_resolver", "task_scheduler", "task_executor", "workflow_orchestrator",
    }  # fmt: skip
    app.state["gateway"].readiness._kept = None
    broken = "no orchestrator answered"
    second = await watch.report()
    assert second.status == "unhealthy"
    for name in ("orchestrator", "dependency_resolver", "task_scheduler", "workflow_orchestrator"):
        assert (second.components[name].status, second.components[name].detail) == ("unhealthy", broken)
        assert second.components[name].since == second.timestamp
    assert second.components["kafka"] == first.components["kafka"]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        answer = await client.get("/api/v1/health/components")
    assert (answer.status_code, answer.json()["status"]) == (200, "unhealthy")


@pytest.mark.parametrize(
    "call",
    [
        calls.system_metrics(),
        calls.report(3),
        calls.queue_statistics(),
        calls.executor_statistics(),
        calls.statistics_of("e1"),
        calls.health(),
    ],
    ids=lambda call: call.path,
)
async def test_the_client_knows_each_name_that_the_server_tells(busy: Client, call: Call[Any]) -> None:
    answer = await busy.get(call.path, params=dict(call.params))
    assert answer.status_code == 200
    told, known = answer.json(), msgspec.json.decode(msgspec.json.encode(call.read(answer.content)))
    told.pop("total_count", None)  # the length of a list that is there
    assert _names(known) == _names(told)


def _names(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _names(inner) for name, inner in value.items()}
    return [_names(inner) for inner in value] if isinstance(value, list) else None


def test_projection_and_executors_are_judged_by_lag_and_heartbeats() -> None:
    judged = [projection(lag, 30.0).status for lag in (None, 0.0, BEHIND_S * 1001, 31_000.0)]
    assert judged == ["unhealthy", "healthy", "degraded", "unhealthy"]
    assert executors([]).status == "unhealthy"
    assert executors([executor("a")]).status == "healthy"
    assert executors([executor("a"), executor("b", "lost", silent_s=60)]).status == "degraded"
    assert executors([executor("a"), executor("b", "lost", silent_s=90_000)]).status == "healthy"
