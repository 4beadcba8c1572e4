"""Tasks for common purposes. What is given beyond the named arguments are further fields of the task; objects among
them (metadata, execution_context, resource_requirements) and tags are added to the ones made here."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from taskloom.client.tasks.record import has_zone, now
from taskloom.client.tasks.task import Task, TaskPriority, TaskStatus, TaskType

_OBJECTS: Final = ("metadata", "execution_context", "resource_requirements")


class TaskFactory:
    @staticmethod
    def create_code_analysis_task(
        name: str,
        repository_url: str,
        analysis_type: str,
        created_by: str,
        priority: TaskPriority = TaskPriority.NORMAL,
        timeout_minutes: float = 30,
        **more: Any,
    ) -> Task:
        return _task(
            more,
            name=name,
            created_by=created_by,
            priority=priority,
            task_type=TaskType.CODE_ANALYSIS,
            description=f"Analyse {repository_url}: {analysis_type}",
            timeout_seconds=timeout_minutes * 60,
            metadata={"repository_url": repository_url, "analysis_type": analysis_type},
            execution_context={
                "repository_url": repository_url,
                "analysis_config": {"type": analysis_type, "timeout_minutes": timeout_minutes},
            },
            resource_requirements={"cpu_cores": 2, "memory_gb": 4, "disk_gb": 10},
            tags={"code_analysis", analysis_type},
        )

    @staticmethod
    def create_code_generation_task(
        name: str,
        prompt: str,
        target_language: str,
        created_by: str,
        priority: TaskPriority = TaskPriority.NORMAL,
        max_tokens: int = 2000,
        **more: Any,
    ) -> Task:
        return _task(
            more,
            name=name,
            created_by=created_by,
            priority=priority,
            task_type=TaskType.CODE_GENERATION,
            description=f"Generate {target_language}: {prompt[:100]}",
            metadata={"prompt": prompt, "target_language": target_language, "max_tokens": max_tokens},
            execution_context={
                "generation_config": {"language": target_language, "max_tokens": max_tokens, "prompt": prompt}
            },
            resource_requirements={"cpu_cores": 1, "memory_gb": 2, "gpu_memory_gb": 4},
            tags={"code_generation", target_language},
        )

    @staticmethod
    def create_code_review_task(
        name: str,
        pull_request_url: str,
        review_criteria: Sequence[str],
        created_by: str,
        priority: TaskPriority = TaskPriority.HIGH,
        **more: Any,
    ) -> Task:
        criteria = list(review_criteria)
        return _task(
            more,
            name=name,
            created_by=created_by,
            priority=priority,
            task_type=TaskType.CODE_REVIEW,
            description=f"Review {pull_request_url}",
            metadata={"pull_request_url": pull_request_url, "review_criteria": criteria},
            execution_context={"review_config": {"criteria": criteria, "pr_url": pull_request_url}},
            resource_requirements={"cpu_cores": 1, "memory_gb": 2},
            tags={"code_review", "pull_request"},
        )

    @staticmethod
    def create_testing_task(
        name: str,
        test_suite: str,
        test_type: str,
        created_by: str,
        priority: TaskPriority = TaskPriority.NORMAL,
        timeout_minutes: float = 60,
        **more: Any,
    ) -> Task:
        return _task(
            more,
            name=name,
            created_by=created_by,
            priority=priority,
            task_type=TaskType.TESTING,
            description=f"Run the {test_type} tests {test_suite}",
            timeout_seconds=timeout_minutes * 60,
            metadata={"test_suite": test_suite, "test_type": test_type},
            execution_context={
                "test_config": {"suite": test_suite, "type": test_type, "timeout_minutes": timeout_minutes}
            },
            resource_requirements={"cpu_cores": 2, "memory_gb": 4, "disk_gb": 5},
            tags={"testing", test_type},
        )

    @staticmethod
    def create_deployment_task(
        name: str,
        environment: str,
        deployment_config: Mapping[str, Any],
        created_by: str,
        priority: TaskPriority = TaskPriority.HIGH,
        **more: Any,
    ) -> Task:
        config = dict(deployment_config)
        return _task(
            more,
            name=name,
            created_by=created_by,
            priority=priority,
            task_type=TaskType.DEPLOYMENT,
            description=f"Deploy to {environment}",
            metadata={"environment": environment, "deployment_config": config},
            execution_context={"deployment": {"environment": environment, "config": config}},
            resource_requirements={"cpu_cores": 1, "memory_gb": 2, "network_bandwidth_mbps": 100},
            tags={"deployment", environment},
        )

    @staticmethod
    def create_monitoring_task(
        name: str,
        monitoring_target: str,
        metrics: Sequence[str],
        created_by: str,
        priority: TaskPriority = TaskPriority.LOW,
        check_interval_minutes: float = 5,
        **more: Any,
    ) -> Task:
        watched = list(metrics)
        return _task(
            more,
            name=name,
            created_by=created_by,
            priority=priority,
            task_type=TaskType.MONITORING,
            description=f"Watch {monitoring_target}: {', '.join(watched)}",
            metadata={
                "monitoring_target": monitoring_target,
                "metrics": watched,
                "check_interval_minutes": check_interval_minutes,
            },
            execution_context={
                "monitoring_config": {
                    "target": monitoring_target,
                    "metrics": watched,
                    "interval_minutes": check_interval_minutes,
                }
            },
            resource_requirements={"cpu_cores": 0.5, "memory_gb": 1},
            tags={"monitoring"},
        )

    @staticmethod
    def create_batch_tasks(
        task_configs: Sequence[Mapping[str, Any]], created_by: str, batch_name: str | None = None
    ) -> list[Task]:
        """A task for each config, which holds fields of a task. All share ``metadata.batch_id`` and the tag ``batch``.

        Raises:
            ValueError: a config does not fit; names it by its place.
        """
        batch_id, size = _group("batch"), len(task_configs)
        return [
            _configured(
                config,
                f"task_configs[{index}]",
                name=f"{batch_name or 'batch_task'}_{index + 1}",
                created_by=created_by,
                description=f"Task {index + 1} of {size}",
                metadata={"batch_id": batch_id, "batch_index": index, "batch_size": size},
                tags={"batch", batch_id},
            )
            for index, config in enumerate(task_configs)
        ]

    @staticmethod
    def create_pipeline_tasks(pipeline_config: Mapping[str, Any], created_by: str) -> list[Task]:
        """Tasks of ``{"stages": [{"name", "tasks": [fields of a task, …]}, …]}``, stage by stage. Each task depends on
        all of the stage before; a stage without tasks is passed over.

        Raises:
            ValueError: a task's fields do not fit; names it by its place.
        """
        pipeline_id = _group("pipeline")
        tasks: list[Task] = []
        before: set[UUID] = set()
        for number, stage in enumerate(pipeline_config.get("stages", ())):
            made = [
                _configured(
                    config,
                    f"stages[{number}].tasks[{index}]",
                    name=f"pipeline_stage_{number + 1}_task_{index + 1}",
                    created_by=created_by,
                    metadata={
                        "pipeline_id": pipeline_id,
                        "stage_index": number,
                        "task_index": index,
                        "stage_name": stage.get("name", f"Stage {number + 1}"),
                    },
                    tags={"pipeline", pipeline_id, f"stage_{number + 1}"},
                    depends_on=before,
                )
                for index, config in enumerate(stage.get("tasks", ()))
            ]
            tasks += made
            before = {task.id for task in made} or before
        return tasks

    @staticmethod
    def create_scheduled_task(
        base_task: Task, schedule_time: datetime, recurrence: Mapping[str, Any] | None = None
    ) -> Task:
        """A new task like ``base_task``, with its own id, that starts at ``schedule_time``. ``recurrence`` is kept in
        the metadata; nothing repeats by itself.

        Raises:
            ValueError: the time has no zone.
        """
        has_zone(schedule_time, "schedule_time")
        task = Task.from_dict(base_task.to_dict() | {"id": str(uuid4())})
        task.status, task.retry_count = TaskStatus.PENDING, 0
        task.started_at = task.completed_at = task.result = task.error_message = None
        task.created_at = task.updated_at = now()
        task.scheduled_at = schedule_time
        task.metadata |= {"scheduled": True, "original_schedule_time": schedule_time.isoformat()}
        task.tags.add("scheduled")
        if recurrence:
            task.metadata["recurrence"] = dict(recurrence)
            task.tags.add("recurring")
        return task


def _task(more: Mapping[str, Any], **fields: Any) -> Task:
    joined = {name: {**fields.get(name, {}), **more.get(name, {})} for name in _OBJECTS}
    tags = {*fields.get("tags", ()), *more.get("tags", ())}
    return Task(**{**fields, **more, **joined, "tags": tags})


def _configured(config: Mapping[str, Any], place: str, **fields: Any) -> Task:
    """A task of a config's fields, where ids and times may be texts; the metadata made here win."""
    given = {
        **{name: value for name, value in fields.items() if name not in config},
        **config,
        "created_by": fields["created_by"],
        "metadata": {**config.get("metadata", {}), **fields["metadata"]},
        "tags": [*config.get("tags", ()), *fields["tags"]],
        "depends_on": [*config.get("depends_on", ()), *fields.get("depends_on", ())],
    }
    if unknown := sorted(given.keys() - set(Task.__struct_fields__)):
        raise ValueError(f"{place}: a task has no {', '.join(unknown)}")
    try:
        return Task.from_dict(given)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _group(purpose: str) -> str:
    return f"{purpose}_{now():%Y%m%d_%H%M%S}_{uuid4().hex[:8]}"
