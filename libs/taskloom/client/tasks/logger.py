"""What happens to tasks, as JSON lines in the standard library's logging."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from taskloom.client.tasks.execution import TaskExecution
from taskloom.client.tasks.record import now

LINE: Final = "%(message)s"
MAX_TEXT: Final = 200


class TaskLogger:
    """Each line has ``timestamp``, ``event_type``, ``level`` and the event's own fields. Without a handler of the
    logger's own, lines go to stderr."""

    def __init__(
        self, logger_name: str = "task_management", log_level: int = logging.INFO, log_format: str | None = None
    ) -> None:
        self._formatter = logging.Formatter(log_format or LINE)
        self.logger = logging.getLogger(logger_name)
        self.logger.setLevel(log_level)
        if not self.logger.handlers:
            self._add(logging.StreamHandler())

    def add_file_handler(self, path: str | Path, log_level: int = logging.NOTSET) -> None:
        """Lines go to the file too; its directory must exist."""
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setLevel(log_level)
        self._add(handler)

    def set_log_level(self, log_level: int) -> None:
        self.logger.setLevel(log_level)

    def log_task_created(
        self, task_id: UUID, task_name: str, created_by: str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        self._log(
            logging.INFO,
            "task_created",
            task_id=task_id,
            task_name=task_name,
            created_by=created_by,
            metadata=metadata or {},
        )

    def log_task_started(self, task_id: UUID, executor_id: str, execution_id: UUID) -> None:
        self._log(logging.INFO, "task_started", task_id=task_id, executor_id=executor_id, execution_id=execution_id)

    def log_task_completed(
        self, task_id: UUID, execution_id: UUID, duration_seconds: float, result: Mapping[str, Any] | None = None
    ) -> None:
        self._log(
            logging.INFO,
            "task_completed",
            task_id=task_id,
            execution_id=execution_id,
            duration_seconds=duration_seconds,
            result_summary=_summary(result),
        )

    def log_task_failed(
        self, task_id: UUID, execution_id: UUID, error_message: str, error_details: Mapping[str, Any] | None = None
    ) -> None:
        self._log(
            logging.ERROR,
            "task_failed",
            task_id=task_id,
            execution_id=execution_id,
            error_message=error_message,
            error_details=error_details or {},
        )

    def log_execution(self, execution: TaskExecution) -> None:
        """The end of an attempt, as completed or failed."""
        if execution.is_successful():
            duration_s = execution.execution_time_seconds or 0.0
            self.log_task_completed(execution.task_id, execution.id, duration_s, execution.result)
        else:
            details = execution.error_details or {}
            message = str(details.get("error_message", execution.status.value))
            self.log_task_failed(execution.task_id, execution.id, message, details)

    def log_task_cancelled(self, task_id: UUID, execution_id: UUID | None, reason: str) -> None:
        self._log(logging.WARNING, "task_cancelled", task_id=task_id, execution_id=execution_id, reason=reason)

    def log_task_retried(self, task_id: UUID, retry_count: int, max_retries: int, reason: str) -> None:
        self._log(
            logging.WARNING,
            "task_retried",
            task_id=task_id,
            retry_count=retry_count,
            max_retries=max_retries,
            reason=reason,
        )

    def log_workflow_started(self, workflow_id: UUID, workflow_name: str, step_count: int) -> None:
        self._log(
            logging.INFO,
            "workflow_started",
            workflow_id=workflow_id,
            workflow_name=workflow_name,
            step_count=step_count,
        )

    def log_workflow_completed(
        self, workflow_id: UUID, duration_seconds: float, completed_steps: int, failed_steps: int
    ) -> None:
        self._log(
            logging.INFO,
            "workflow_completed",
            workflow_id=workflow_id,
            duration_seconds=duration_seconds,
            completed_steps=completed_steps,
            failed_steps=failed_steps,
        )

    def log_workflow_failed(
        self, workflow_id: UUID, error_message: str, completed_steps: int, failed_steps: int
    ) -> None:
        self._log(
            logging.ERROR,
            "workflow_failed",
            workflow_id=workflow_id,
            error_message=error_message,
            completed_steps=completed_steps,
            failed_steps=failed_steps,
        )

    def log_dependency_resolved(self, task_id: UUID, dependency_chain: Sequence[UUID]) -> None:
        self._log(logging.DEBUG, "dependency_resolved", task_id=task_id, dependency_chain=dependency_chain)

    def log_circular_dependency(self, task_ids: Sequence[UUID], cycle_path: Sequence[UUID]) -> None:
        self._log(logging.ERROR, "circular_dependency", task_ids=task_ids, cycle_path=cycle_path)

    def log_resource_usage(
        self,
        execution_id: UUID,
        cpu_percent: float,
        memory_mb: float,
        additional_metrics: Mapping[str, float] | None = None,
    ) -> None:
        self._log(
            logging.DEBUG,
            "resource_usage",
            execution_id=execution_id,
            cpu_percent=cpu_percent,
            memory_mb=memory_mb,
            additional_metrics=additional_metrics or {},
        )

    def log_agent_registered(self, agent_id: str, agent_type: str, capabilities: Sequence[str]) -> None:
        self._log(logging.INFO, "agent_registered", agent_id=agent_id, agent_type=agent_type, capabilities=capabilities)

    def log_agent_unregistered(self, agent_id: str) -> None:
        self._log(logging.INFO, "agent_unregistered", agent_id=agent_id)

    def log_scheduler_stats(self, stats: Mapping[str, Any]) -> None:
        self._log(logging.INFO, "scheduler_stats", **stats)

    def log_performance_alert(self, alert_type: str, message: str, metrics: Mapping[str, Any]) -> None:
        self._log(logging.WARNING, "performance_alert", alert_type=alert_type, message=message, metrics=metrics)

    def log_debug(self, message: str, context: Mapping[str, Any] | None = None) -> None:
        self._log(logging.DEBUG, "general", message=message, context=context or {})

    def log_info(self, message: str, context: Mapping[str, Any] | None = None) -> None:
        self._log(logging.INFO, "general", message=message, context=context or {})

    def log_warning(self, message: str, context: Mapping[str, Any] | None = None) -> None:
        self._log(logging.WARNING, "general", message=message, context=context or {})

    def log_error(self, message: str, context: Mapping[str, Any] | None = None) -> None:
        self._log(logging.ERROR, "general", message=message, context=context or {})

    def _add(self, handler: logging.Handler) -> None:
        handler.setFormatter(self._formatter)
        self.logger.addHandler(handler)

    def _log(self, level: int, event_type: str, **fields: Any) -> None:
        if not self.logger.isEnabledFor(level):
            return
        line = {"timestamp": now(), "event_type": event_type, "level": logging.getLevelName(level), **fields}
        self.logger.log(level, "%s", msgspec.json.encode(line, enc_hook=str).decode())


def _summary(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a log keeps of a result: its keys, its size in bytes of JSON, and a short ``status`` and ``message``."""
    if not result:
        return {}
    short = {name: str(result[name])[:MAX_TEXT] for name in ("status", "message") if name in result}
    return {**short, "result_keys": list(result), "result_bytes": len(msgspec.json.encode(result, enc_hook=str))}
