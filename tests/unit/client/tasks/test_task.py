"""Tasks and executions as values."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from taskloom.client.tasks import (
    ExecutionStatus,
    ResourceUsage,
    Task,
    TaskExecution,
    TaskPriority,
    TaskStatus,
    TaskType,
)


def a_task(**fields: Any) -> Task:
    return Task(**{"name": "build", "created_by": "ann", **fields})


def test_task_has_the_documented_defaults() -> None:
    task = a_task()

    assert (task.task_type, task.status, task.priority) == (TaskType.CUSTOM, TaskStatus.PENDING, TaskPriority.NORMAL)
    assert (task.max_retries, task.retry_count, task.timeout_seconds) == (3, 0, None)
    assert task.created_at.tzinfo is UTC
    assert task.depends_on == task.blocks == task.tags == set()
    assert [int(priority) for priority in TaskPriority] == [1, 2, 3, 4, 5]


def test_task_survives_being_written_and_read() -> None:
    task = a_task(
        description="compiles",
        task_type=TaskType.TESTING,
        priority=TaskPriority.CRITICAL,
        tags={"b", "a"},
        depends_on={uuid4(), uuid4()},
        deadline=datetime.now(UTC),
        metadata={"nested": [1, {"x": None}]},
        workflow_id=uuid4(),
    )

    plain = task.to_dict()

    assert plain["tags"] == ["a", "b"]
    assert plain["priority"] == 5
    assert Task.from_dict(plain) == task


def test_texts_and_numbers_become_enums() -> None:
    task = a_task(task_type="testing", priority=4, tags=["x"])

    assert (task.task_type, task.priority, task.tags) == (TaskType.TESTING, TaskPriority.URGENT, {"x"})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": " "}, "name"),
        ({"max_retries": -1}, "max_retries"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"deadline": datetime(2030, 1, 1)}, "deadline"),  # noqa: DTZ001 - what is refused here
        ({"task_type": "cooking"}, "cooking"),
        ({"priority": 6}, "6"),
    ],
)
def test_bad_field_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        a_task(**fields)


def test_bad_value_in_a_dictionary_is_named_by_its_path() -> None:
    with pytest.raises(ValueError, match=r"Task: .*depends_on"):
        Task.from_dict({"name": "x", "created_by": "y", "depends_on": ["no-uuid"]})


def test_task_cannot_depend_on_itself() -> None:
    task, other = a_task(), uuid4()
    task.add_dependency(other)

    with pytest.raises(ValueError, match="itself"):
        task.add_dependency(task.id)
    with pytest.raises(ValueError, match="itself"):
        a_task(id=other, depends_on={other})
    task.remove_dependency(other)
    assert task.depends_on == set()


def test_task_is_ready_once_all_dependencies_are_completed() -> None:
    first, second = uuid4(), uuid4()
    task = a_task(depends_on={first, second})

    assert not task.is_ready_to_run({first})
    assert task.is_ready_to_run({first, second, uuid4()})
    task.update_status(TaskStatus.RUNNING)
    assert not task.is_ready_to_run({first, second})


def test_failed_task_can_be_retried_until_its_retries_are_used_up() -> None:
    task = a_task(max_retries=1)
    assert not task.can_retry()
    task.update_status(TaskStatus.FAILED, "boom")
    assert task.can_retry()
    assert task.error_message == "boom"

    task.increment_retry()
    assert (task.status, task.retry_count) == (TaskStatus.RETRYING, 1)
    task.update_status(TaskStatus.FAILED)
    assert not task.can_retry()
    with pytest.raises(ValueError, match="1 retries"):
        task.increment_retry()


def test_status_sets_the_times_that_go_with_it() -> None:
    task = a_task()
    assert task.get_duration() is None
    task.update_status(TaskStatus.RUNNING)
    assert task.started_at is not None
    assert not task.to_dict()["completed_at"]
    task.update_status(TaskStatus.COMPLETED)
    assert task.completed_at is not None
    assert task.get_duration() == (task.completed_at - task.started_at).total_seconds()


def test_only_an_open_task_is_overdue() -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    task = a_task(deadline=past)

    assert task.is_overdue()
    assert not a_task(deadline=past + timedelta(hours=1)).is_overdue()
    assert not a_task().is_overdue()
    task.update_status(TaskStatus.COMPLETED)
    assert not task.is_overdue()


def test_execution_goes_through_its_life() -> None:
    execution = TaskExecution(task_id=uuid4())
    assert execution.status is ExecutionStatus.QUEUED
    execution.start_execution()
    assert execution.queue_time_seconds is not None
    execution.mark_running()
    assert not execution.is_completed()

    execution.complete_execution({"answer": 42}, "said")

    assert (execution.is_completed(), execution.is_successful()) == (True, True)
    assert (execution.result, execution.output) == ({"answer": 42}, "said")
    assert execution.execution_time_seconds is not None
    assert (execution.get_total_duration() or 0) >= execution.execution_time_seconds
    assert TaskExecution.from_dict(execution.to_dict()) == execution


@pytest.mark.parametrize(
    ("end", "status", "error_type"),
    [
        (lambda one: one.fail_execution({"error_type": "Oops", "error_message": "m"}), "failed", "Oops"),
        (lambda one: one.cancel_execution("no"), "cancelled", "cancelled"),
        (lambda one: one.timeout_execution(), "timeout", "timeout"),
    ],
)
def test_execution_that_did_not_succeed_says_why(end: Any, status: str, error_type: str) -> None:
    execution = TaskExecution(task_id=uuid4())
    execution.mark_running()

    end(execution)

    assert execution.status == status
    assert (execution.is_completed(), execution.is_successful()) == (True, False)
    assert execution.error_details is not None
    assert execution.error_details["error_type"] == error_type
    assert datetime.fromisoformat(execution.error_details["timestamp"])


def test_peaks_of_resources_are_kept_field_by_field() -> None:
    execution = TaskExecution(task_id=uuid4())

    execution.update_resource_usage(ResourceUsage(cpu_percent=90, memory_mb=10))
    execution.update_resource_usage(ResourceUsage(cpu_percent=5, memory_mb=30))

    assert execution.resource_usage == ResourceUsage(cpu_percent=5, memory_mb=30)
    assert execution.peak_resource_usage == ResourceUsage(cpu_percent=90, memory_mb=30)


def test_logs_and_recovery_actions_are_kept_in_order() -> None:
    execution = TaskExecution(task_id=uuid4())
    execution.add_log("INFO", "one")
    execution.add_log("ERROR", "two", {"at": 3})
    execution.add_recovery_action("restarted")

    assert [(log.level, log.message, log.context) for log in execution.logs] == [
        ("INFO", "one", {}),
        ("ERROR", "two", {"at": 3}),
    ]
    assert execution.recovery_actions == ["restarted"]
