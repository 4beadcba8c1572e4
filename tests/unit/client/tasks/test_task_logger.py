"""Lines of the task logger."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from taskloom.client.tasks import TaskExecution, TaskLogger


@pytest.fixture
def logger(request: pytest.FixtureRequest) -> Iterator[TaskLogger]:
    made = TaskLogger(f"test.{request.node.name}.{uuid4()}", logging.DEBUG)
    made.logger.propagate = False
    yield made
    for handler in list(made.logger.handlers):
        made.logger.removeHandler(handler)
        handler.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_event_is_a_line_of_json(logger: TaskLogger, tmp_path: Path) -> None:
    path, task, execution = tmp_path / "tasks.log", uuid4(), uuid4()
    logger.add_file_handler(path)

    logger.log_task_created(task, "build", "ann", {"k": 1})
    logger.log_task_started(task, "agent", execution)
    logger.log_task_completed(task, execution, 1.5, {"status": "ok", "big": "x" * 1000})
    logger.log_task_failed(task, execution, "boom")
    logger.log_task_cancelled(task, None, "no need")
    logger.log_task_retried(task, 1, 3, "boom")
    logger.log_workflow_started(task, "w", 3)
    logger.log_workflow_completed(task, 2.0, 3, 0)
    logger.log_workflow_failed(task, "boom", 1, 1)
    logger.log_dependency_resolved(task, [execution])
    logger.log_circular_dependency([task], [task, execution, task])
    logger.log_resource_usage(execution, 5.0, 10.0)
    logger.log_agent_registered("a", "codegen", ["testing"])
    logger.log_agent_unregistered("a")
    logger.log_scheduler_stats({"waiting": 2})
    logger.log_performance_alert("slow", "too slow", {"p99": 3})
    logger.log_error("Task execution failed")

    told = lines(path)
    assert [line["event_type"] for line in told] == [
        *("task_created", "task_started", "task_completed", "task_failed", "task_cancelled", "task_retried"),
        *("workflow_started", "workflow_completed", "workflow_failed", "dependency_resolved", "circular_dependency"),
        *("resource_usage", "agent_registered", "agent_unregistered", "scheduler_stats", "performance_alert"),
        "general",
    ]
    assert told[0] | {"timestamp": ""} == {
        "timestamp": "",
        "event_type": "task_created",
        "level": "INFO",
        "task_id": str(task),
        "task_name": "build",
        "created_by": "ann",
        "metadata": {"k": 1},
    }
    assert told[2]["result_summary"]["result_keys"] == ["status", "big"]
    assert len(json.dumps(told[2])) < 600
    assert [line["level"] for line in told[3:5]] == ["ERROR", "WARNING"]


def test_level_decides_what_is_written(logger: TaskLogger, tmp_path: Path) -> None:
    path = tmp_path / "tasks.log"
    logger.add_file_handler(path)

    logger.set_log_level(logging.WARNING)
    logger.log_info("quiet")
    logger.log_warning("loud")

    assert [line["message"] for line in lines(path)] == ["loud"]


def test_end_of_an_attempt_is_logged_as_what_it_was(logger: TaskLogger, tmp_path: Path) -> None:
    path = tmp_path / "tasks.log"
    logger.add_file_handler(path)
    good, bad = TaskExecution(task_id=uuid4()), TaskExecution(task_id=uuid4())
    good.complete_execution({"a": 1})
    bad.fail_execution({"error_type": "E", "error_message": "why"})

    logger.log_execution(good)
    logger.log_execution(bad)

    assert [(line["event_type"], line.get("error_message")) for line in lines(path)] == [
        ("task_completed", None),
        ("task_failed", "why"),
    ]
