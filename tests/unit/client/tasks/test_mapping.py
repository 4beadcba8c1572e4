"""What becomes of a task on the server, and of the server's task here."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from taskloom.client import answers as a
from taskloom.client.tasks import ExecutionStatus, Task, TaskFactory, TaskPriority, TaskStatus, TaskType
from taskloom.client.tasks.mapping import execution_id, execution_of, resources_of, submission_of, task_of
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.submission import body_hash, normalise
from taskloom.templates.work import AGENT_FUNCTION, work_of

AT = datetime(2026, 1, 1, tzinfo=UTC)


def server_task(task: Task, **fields: Any) -> a.Task:
    """The server's answer for a submitted task."""
    body = msgspec.convert(submission_of(task), SubmitTask)
    spec = normalise(body, task_id=str(task.id), tenant_id="t", user_id="u")
    known: dict[str, Any] = {
        "task_id": str(task.id),
        "status": "TASK_STATUS_QUEUED",
        "state": "ready",
        "kind": spec.kind,
        "queue": spec.queue,
        "priority": spec.priority,
        "attempt": 0,
        "created_at": AT,
        "version": 2,
        "max_attempts": spec.retry.max_attempts,
        "name": spec.name,
        "context": spec.context,
        "metadata": spec.metadata,
        "tags": spec.tags,
        "user_id": "u",
        "deadline": spec.deadline,
        "run_at": spec.run_at,
    }
    return a.Task(**{**known, **fields})


@pytest.mark.parametrize(
    ("fields", "kinds", "kind", "sent", "capabilities"),
    [
        ({"metadata": {"cmd": "ls", "cwd": "/tmp", "other": 1}}, (), "shell", {"cmd": "ls", "cwd": "/tmp"}, ()),
        ({"execution_context": {"cmd": "a"}, "metadata": {"cmd": "b"}}, (), "shell", {"cmd": "a"}, ()),
        ({"execution_context": {"kind": "sleep", "input": {"seconds": 1}}}, (), "sleep", {"seconds": 1}, ()),
        ({"execution_context": {"kind": "echo"}, "metadata": {"cmd": "ls"}}, (), "echo", {}, ()),
        (
            {"execution_context": {"function": "m:f", "args": [1], "x": 2}},
            (),
            "python",
            {"function": "m:f", "args": [1]},
            (),
        ),
        ({"task_type": "testing"}, ("testing",), "testing", {"task": {"task_type": "testing"}}, ()),
        (
            {"task_type": "testing"},
            ("echo",),
            "python",
            {"function": AGENT_FUNCTION, "kwargs": {"task": {"task_type": "testing"}}},
            ("testing",),
        ),
        ({}, (), "python", {"function": AGENT_FUNCTION, "kwargs": {"task": {}}}, ("custom",)),
    ],
)
def test_what_a_task_runs_is_the_first_that_fits(
    fields: dict[str, Any], kinds: tuple[str, ...], kind: str, sent: dict[str, Any], capabilities: tuple[str, ...]
) -> None:
    work = work_of(fields, kinds)

    assert (work.kind, work.input, work.capabilities) == (kind, sent, capabilities)


def test_server_takes_what_every_factory_makes_and_gives_it_back() -> None:
    task = TaskFactory.create_deployment_task("ship", "production", {"replicas": 2}, "ann", timeout_seconds=60)
    task.deadline, task.scheduled_at = AT, AT - timedelta(hours=1)
    task.assigned_to, task.workflow_id, task.workflow_step_id = "agent-1", uuid4(), "step_2"

    body = msgspec.convert(submission_of(task), SubmitTask)
    back = task_of(server_task(task))

    assert body.executor_id == "agent-1"
    assert (body.priority, body.capabilities, body.run_at) == (TaskPriority.HIGH, ("deployment",), task.scheduled_at)
    assert body.retry is not None
    assert body.retry.max_attempts == 4
    assert body.timeouts.start_to_close_s == 60
    assert (body.resources.cpu_cores, body.resources.memory_gb) == (1, 2)
    assert back.to_dict() == task.to_dict() | {
        "status": "ready",
        "created_at": back.to_dict()["created_at"],
        "updated_at": back.to_dict()["updated_at"],
    }


def test_same_task_is_the_same_submission_after_a_round_trip() -> None:
    task = TaskFactory.create_testing_task("n", "s", "unit", "me", tags={"z", "a", "m"}, depends_on={uuid4(), uuid4()})

    first, second = (
        normalise(
            msgspec.convert(submission_of(Task.from_dict(each.to_dict())), SubmitTask),
            task_id=str(task.id),
            tenant_id="t",
            user_id="u",
        )
        for each in (task, Task.from_dict(task.to_dict()))
    )

    assert body_hash(first) == body_hash(second)


def test_task_of_another_door_is_read_with_what_it_has() -> None:
    found = server_task(Task(name="x", created_by="y"), name="", metadata={}, kind="echo", query="why?" * 50)

    task = task_of(found)

    assert (task.name, task.created_by, task.task_type) == (("why?" * 50)[:80], "u", TaskType.CUSTOM)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("scheduled", "pending"),
        ("waiting", "pending"),
        ("ready", "ready"),
        ("assigned", "ready"),
        ("running", "running"),
        ("retrying", "retrying"),
        ("pausing", "paused"),
        ("paused", "paused"),
        ("cancelling", "running"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("timed_out", "failed"),
    ],
)
def test_every_state_has_its_status(state: str, status: str) -> None:
    task = task_of(server_task(Task(name="x", created_by="y"), state=state))

    assert task.status == TaskStatus(status)
    assert (task.error_message == "timed out") == (state == "timed_out")


@pytest.mark.parametrize(
    ("response", "text", "result"),
    [
        ({"a": 1}, "", {"a": 1}),
        ([1, 2], "[1,2]", {"value": [1, 2]}),
        (None, "done", {"value": "done"}),
        (None, "", {}),
        (0, "0", {"value": 0}),
    ],
)
def test_result_is_always_an_object(response: Any, text: str, result: dict[str, Any]) -> None:
    found = server_task(
        Task(name="x", created_by="y"),
        status="TASK_STATUS_COMPLETED",
        state="completed",
        response=response,
        result=text,
    )

    assert task_of(found).result == result


def test_reserved_metadata_and_bad_resources_are_named() -> None:
    with pytest.raises(ValueError, match=r"metadata\.task\.type"):
        submission_of(Task(name="x", created_by="y", metadata={"task.type": 1}))
    with pytest.raises(ValueError, match=r"resource_requirements: .*cpu_cores"):
        submission_of(Task(name="x", created_by="y", resource_requirements={"cpu_cores": "many"}))
    assert resources_of({"cpu_cores": 1, "network_bandwidth_mbps": 100}) == {"cpu_cores": 1}


def test_query_asks_the_description() -> None:
    task = Task(name="ask", created_by="y", description="Why?", execution_context={"kind": "query"})

    assert submission_of(task)["query"] == "Why?"


def test_execution_is_the_last_attempt_with_the_reason_for_the_retry() -> None:
    task = Task(name="x", created_by="y")
    found = server_task(task, status="TASK_STATUS_COMPLETED", state="completed", response={"ok": True})
    first = a.Execution(attempt=1, status="lost", executor_id="a", error={"type": "lost", "message": "silent"})
    last = a.Execution(
        attempt=2,
        status="completed",
        executor_id="b",
        queued_at=AT,
        started_at=AT + timedelta(seconds=2),
        completed_at=AT + timedelta(seconds=5),
        exit_code=0,
        peak_resource_usage={"cpu_percent": 50.0, "memory_mb": 7.5, "samples": 3},
    )

    execution = execution_of(found, [first, last], "codegen")

    assert (execution.execution_number, execution.executor_id, execution.executor_type) == (2, "b", "codegen")
    assert (execution.queue_time_seconds, execution.execution_time_seconds) == (2.0, 3.0)
    assert (execution.result, execution.retry_reason) == ({"ok": True}, "silent")
    assert execution.peak_resource_usage.memory_mb == 7.5
    assert execution.id == execution_id(str(task.id), 2) != execution_id(str(task.id), 1)
    lost = execution_of(found, [first])
    assert (lost.status, lost.result) == (ExecutionStatus.FAILED, None)
    assert lost.error_details is not None
    assert lost.error_details["error_message"] == "silent"


def test_ids_that_are_no_uuids_belong_to_other_doors() -> None:
    from taskloom.client.tasks.mapping import id_of

    assert id_of("task-019f") is None
    assert id_of("12345678-1234-5678-1234-567812345678") == UUID("12345678-1234-5678-1234-567812345678")
