"""Between the task API's models and the server's calls.

What a task runs is said in ``taskloom.templates.work``.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from taskloom.client import answers as a
from taskloom.client.submission import Submission
from taskloom.client.tasks.execution import ExecutionStatus, ResourceUsage, TaskExecution
from taskloom.client.tasks.record import now, seconds_between
from taskloom.client.tasks.task import Task, TaskPriority, TaskStatus, TaskType, UpdateTaskRequest
from taskloom.domain.values import Resources
from taskloom.templates.work import OWN, work_of

_KEPT: Final = ("description", "assigned_to", "workflow_step_id")
_TYPES: Final = frozenset(TaskType)
_STATUSES: Final = {
    "scheduled": TaskStatus.PENDING,
    "waiting": TaskStatus.PENDING,
    "ready": TaskStatus.READY,
    "assigned": TaskStatus.READY,
    "running": TaskStatus.RUNNING,
    "cancelling": TaskStatus.RUNNING,
    "retrying": TaskStatus.RETRYING,
    "pausing": TaskStatus.PAUSED,
    "paused": TaskStatus.PAUSED,
    "completed": TaskStatus.COMPLETED,
    "failed": TaskStatus.FAILED,
    "timed_out": TaskStatus.FAILED,
    "cancelled": TaskStatus.CANCELLED,
}
REST_WORDS: Final = {
    TaskStatus.PENDING: "QUEUED",
    TaskStatus.READY: "QUEUED",
    TaskStatus.RUNNING: "RUNNING",
    TaskStatus.RETRYING: "RUNNING",
    TaskStatus.PAUSED: "PAUSED",
    TaskStatus.COMPLETED: "COMPLETED",
    TaskStatus.FAILED: "FAILED,TIMEOUT",
    TaskStatus.CANCELLED: "CANCELLED",
}
_EXECUTIONS: Final = {
    "declined": ExecutionStatus.CANCELLED,
    "lost": ExecutionStatus.FAILED,
    **{status.value: status for status in ExecutionStatus},
}


def submission_of(task: Task, kinds: Collection[str] = ()) -> Submission:
    """The submission for a task; the same task gives the same one, so sending it again makes no second task.

    Raises:
        ValueError: a metadata key is reserved, or a resource is not a number; names it.
    """
    plain = task.to_dict()
    work = work_of(plain, kinds)
    submission: dict[str, Any] = {
        "task_id": str(task.id),
        "name": task.name,
        "kind": work.kind,
        "input": work.input,
        "context": task.execution_context,
        "metadata": _stored(task, plain),
        "tags": sorted(task.tags),
        "priority": int(task.priority),
        "retry": {"max_attempts": task.max_retries + 1},
        "capabilities": list(work.capabilities),
        "resources": resources_of(task.resource_requirements),
    }
    if work.kind == "query":
        submission["query"] = task.description or task.name
    if task.timeout_seconds is not None:
        submission["timeouts"] = {"start_to_close_s": task.timeout_seconds}
    if task.assigned_to:
        submission["executor_id"] = task.assigned_to
    if plain["scheduled_at"]:
        submission["run_at"] = plain["scheduled_at"]
    if plain["deadline"]:
        submission["deadline"] = plain["deadline"]
    if task.depends_on:
        submission["depends_on"] = sorted(map(str, task.depends_on))
    return cast(Submission, submission)


def changes_of(request: UpdateTaskRequest) -> dict[str, Any]:
    """The body of the PATCH for what changes; fields that the server has no place for go into the metadata.

    Raises:
        ValueError: a metadata key is reserved; names it.
    """
    changes = request.changes()
    metadata = changes.pop("metadata", {})
    if reserved := sorted(name for name in metadata if name.startswith(OWN)):
        raise ValueError(f"metadata.{reserved[0]}: keys that begin with {OWN!r} are the task API's own")
    own = {OWN + name: changes[name] for name in ("description", "assigned_to") if name in changes}
    return {**changes, "metadata": {**metadata, **own}} if metadata or own else changes


def resources_of(requirements: Mapping[str, Any]) -> dict[str, float]:
    """Those of the requirements that the scheduler knows: cpu_cores, memory_gb, disk_gb, gpu_memory_gb.

    Raises:
        ValueError: one is not a number from 0 up.
    """
    known = {name: value for name, value in requirements.items() if name in Resources.__struct_fields__}
    try:
        msgspec.convert(known, Resources)
    except msgspec.ValidationError as error:
        raise ValueError(f"resource_requirements: {error}") from error
    return known


def _stored(task: Task, plain: Mapping[str, Any]) -> dict[str, Any]:
    if reserved := sorted(name for name in task.metadata if name.startswith(OWN)):
        raise ValueError(f"metadata.{reserved[0]}: keys that begin with {OWN!r} are the task API's own")
    own: dict[str, Any] = {"type": task.task_type.value, "created_by": task.created_by}
    own |= {name: plain[name] for name in _KEPT if plain[name]}
    own |= {name: plain[name] for name in ("workflow_id", "resource_requirements", "timeout_seconds") if plain[name]}
    return {**plain["metadata"], **{OWN + name: value for name, value in own.items()}}


def status_of(task: a.Task | a.TaskSummary) -> TaskStatus:
    return _STATUSES[task.state]


def id_of(task_id: str) -> UUID | None:
    """The id as a UUID, or None for a task that did not come through this API."""
    try:
        return UUID(task_id)
    except ValueError:
        return None


def task_of(found: a.Task) -> Task:
    """The server's task; its id must be a UUID. What it lacks because it did not come through this API is left at its
    default, and ``created_by`` is the caller's user id."""
    own = {name.removeprefix(OWN): value for name, value in found.metadata.items() if name.startswith(OWN)}
    kind_as_type = found.kind if found.kind in _TYPES else TaskType.CUSTOM
    return Task.from_dict(
        {
            "id": found.task_id,
            "name": found.name or found.query[:80] or found.kind,
            "description": own.get("description"),
            "created_by": own.get("created_by") or found.user_id,
            "task_type": own.get("type") or kind_as_type,
            "tags": found.tags,
            "status": status_of(found),
            "priority": found.priority,
            "assigned_to": own.get("assigned_to") or found.executor_id or None,
            "created_at": found.created_at,
            "updated_at": found.updated_at or found.created_at,
            "scheduled_at": found.run_at,
            "started_at": found.started_at,
            "completed_at": found.completed_at,
            "deadline": found.deadline,
            "max_retries": max(0, found.max_attempts - 1),
            "retry_count": max(0, found.attempt - 1),
            "timeout_seconds": own.get("timeout_seconds"),
            "metadata": {name: value for name, value in found.metadata.items() if not name.startswith(OWN)},
            "execution_context": found.context,
            "resource_requirements": own.get("resource_requirements") or {},
            "result": result_of(found),
            "error_message": found.error or ("timed out" if found.state == "timed_out" else None),
            "workflow_id": own.get("workflow_id"),
            "workflow_step_id": own.get("workflow_step_id"),
        }
    )


def result_of(found: a.Task) -> dict[str, Any] | None:
    """The structured result; one that is not an object, or only text, is under ``value``."""
    if not found.completed:
        return None
    if isinstance(found.response, dict):
        return found.response
    value = found.result if found.response is None else found.response
    return {} if value in (None, "") else {"value": value}


def execution_id(task_id: str, attempt: int) -> UUID:
    """The same id for the same attempt, everywhere."""
    return uuid5(NAMESPACE_URL, f"taskloom:{task_id}/{attempt}")


def execution_of(task: a.Task, attempts: Sequence[a.Execution], executor_type: str = "") -> TaskExecution:
    """The last of the task's attempts, which are at least one; without output and logs."""
    last = attempts[-1]
    status = _EXECUTIONS[last.status]
    ended = status is ExecutionStatus.COMPLETED
    peak = {name: last.peak_resource_usage.get(name, 0.0) for name in ("cpu_percent", "memory_mb")}
    before = attempts[-2].error if len(attempts) > 1 else None
    return TaskExecution(
        id=execution_id(task.task_id, last.attempt),
        task_id=UUID(task.task_id),
        execution_number=last.attempt,
        executor_id=last.executor_id,
        executor_type=executor_type,
        status=status,
        queued_at=last.queued_at or task.created_at,
        started_at=last.started_at,
        completed_at=last.completed_at,
        resource_usage=ResourceUsage(**peak),
        peak_resource_usage=ResourceUsage(**peak),
        result=result_of(task) if ended else None,
        error_details=_error_of(last),
        execution_time_seconds=seconds_between(last.started_at, last.completed_at),
        queue_time_seconds=seconds_between(last.queued_at, last.started_at),
        retry_reason=str(before.get("message", "")) if before else None,
        metadata={} if last.exit_code is None else {"exit_code": last.exit_code},
    )


def _error_of(attempt: a.Execution) -> dict[str, Any] | None:
    if not attempt.error:
        return None
    return {
        "error_type": attempt.error.get("type", ""),
        "error_message": attempt.error.get("message", ""),
        "timestamp": (attempt.completed_at or now()).isoformat(),
    }


def priority_name(priority: int) -> str:
    return TaskPriority(priority).name
