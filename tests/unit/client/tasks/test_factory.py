"""Tasks that the factory makes."""

from datetime import UTC, datetime
from typing import Any

import pytest

from taskloom.client.tasks import DependencyResolver, Task, TaskFactory, TaskPriority, TaskStatus, TaskType


@pytest.mark.parametrize(
    ("task", "task_type", "priority", "timeout_s", "context"),
    [
        (
            TaskFactory.create_code_analysis_task("n", "http://r", "complexity", "me"),
            TaskType.CODE_ANALYSIS,
            TaskPriority.NORMAL,
            1800,
            "analysis_config",
        ),
        (
            TaskFactory.create_code_generation_task("n", "write", "python", "me"),
            TaskType.CODE_GENERATION,
            TaskPriority.NORMAL,
            None,
            "generation_config",
        ),
        (
            TaskFactory.create_code_review_task("n", "http://pr", ["style"], "me"),
            TaskType.CODE_REVIEW,
            TaskPriority.HIGH,
            None,
            "review_config",
        ),
        (
            TaskFactory.create_testing_task("n", "tests", "unit", "me"),
            TaskType.TESTING,
            TaskPriority.NORMAL,
            3600,
            "test_config",
        ),
        (
            TaskFactory.create_deployment_task("n", "production", {"replicas": 2}, "me"),
            TaskType.DEPLOYMENT,
            TaskPriority.HIGH,
            None,
            "deployment",
        ),
        (
            TaskFactory.create_monitoring_task("n", "db", ["cpu"], "me"),
            TaskType.MONITORING,
            TaskPriority.LOW,
            None,
            "monitoring_config",
        ),
    ],
)
def test_each_kind_of_task_has_its_type_priority_limit_and_context(
    task: Task, task_type: TaskType, priority: TaskPriority, timeout_s: float | None, context: str
) -> None:
    assert (task.task_type, task.priority, task.timeout_seconds) == (task_type, priority, timeout_s)
    assert context in task.execution_context
    assert task.resource_requirements["cpu_cores"] > 0
    assert task_type.value in task.tags
    assert (task.name, task.created_by) == ("n", "me")


def test_further_fields_are_added_and_own_values_win() -> None:
    task = TaskFactory.create_code_analysis_task(
        "n",
        "http://r",
        "complexity",
        "me",
        metadata={"team": "a"},
        resource_requirements={"cpu_cores": 1},
        tags={"mine"},
        max_retries=0,
        description="own",
    )

    assert task.metadata == {"repository_url": "http://r", "analysis_type": "complexity", "team": "a"}
    assert task.resource_requirements == {"cpu_cores": 1, "memory_gb": 4, "disk_gb": 10}
    assert task.tags == {"code_analysis", "complexity", "mine"}
    assert (task.max_retries, task.description) == (0, "own")


def test_batch_shares_an_id_and_counts_its_tasks() -> None:
    configs: list[dict[str, Any]] = [{"task_type": "testing", "tags": ["x"]}, {"name": "own", "metadata": {"k": 1}}]

    first, second = TaskFactory.create_batch_tasks(configs, "me", "nightly")

    assert (first.name, second.name) == ("nightly_1", "own")
    assert first.task_type is TaskType.TESTING
    assert first.metadata["batch_id"] == second.metadata["batch_id"]
    assert (second.metadata["batch_index"], second.metadata["batch_size"], second.metadata["k"]) == (1, 2, 1)
    assert {"batch", "x"} <= first.tags
    assert configs[1] == {"name": "own", "metadata": {"k": 1}}


def test_bad_config_is_named_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"task_configs\[1\].*colour"):
        TaskFactory.create_batch_tasks([{}, {"colour": "red"}], "me")
    with pytest.raises(ValueError, match=r"stages\[0\].tasks\[0\].*priority"):
        TaskFactory.create_pipeline_tasks({"stages": [{"tasks": [{"priority": 9}]}]}, "me")


def test_each_stage_of_a_pipeline_waits_for_all_of_the_stage_before() -> None:
    config: dict[str, Any] = {
        "stages": [
            {"name": "build", "tasks": [{"name": "a"}, {"name": "b"}]},
            {"name": "nothing", "tasks": []},
            {"name": "test", "tasks": [{"name": "c"}, {"name": "d"}]},
            {"name": "ship", "tasks": [{"name": "e"}]},
        ]
    }

    a, b, c, d, e = tasks = TaskFactory.create_pipeline_tasks(config, "me")

    assert a.depends_on == b.depends_on == set()
    assert c.depends_on == d.depends_on == {a.id, b.id}
    assert e.depends_on == {c.id, d.id}
    assert (e.metadata["stage_name"], e.metadata["stage_index"]) == ("ship", 3)
    phases = DependencyResolver(tasks).optimize_execution_plan()["phases"]
    assert [set(phase["parallel_groups"][0]) for phase in phases] == [{a.id, b.id}, {c.id, d.id}, {e.id}]


def test_scheduled_task_is_a_new_one_at_its_time() -> None:
    base = Task(name="n", created_by="me", metadata={"k": [1]}, tags={"t"}, status=TaskStatus.FAILED, retry_count=2)
    at = datetime(2030, 1, 1, tzinfo=UTC)

    task = TaskFactory.create_scheduled_task(base, at, {"every": "day"})

    assert task.id != base.id
    assert (task.scheduled_at, task.status, task.retry_count) == (at, TaskStatus.PENDING, 0)
    assert task.metadata == {
        "k": [1],
        "scheduled": True,
        "original_schedule_time": at.isoformat(),
        "recurrence": {"every": "day"},
    }
    assert task.tags == {"t", "scheduled", "recurring"}
    assert base.metadata == {"k": [1]}
    with pytest.raises(ValueError, match="schedule_time"):
        TaskFactory.create_scheduled_task(base, datetime(2030, 1, 1))  # noqa: DTZ001 - what is refused here
