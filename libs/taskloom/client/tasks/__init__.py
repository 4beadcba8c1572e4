"""The task API: models, factories and ``TaskAPI``, which runs them on a live server.

::

    async with TaskAPI() as api:
        task = Task(name="facts", created_by="me", metadata={"cmd": "uname -a"})
        execution = await api.execute_task(task)
        print(execution.status, execution.output)
"""

from taskloom.client.tasks.agent import ExecutorFunction
from taskloom.client.tasks.api import TaskAPI
from taskloom.client.tasks.dependencies import DependencyResolver
from taskloom.client.tasks.errors import AgentError, BadDependency, CircularDependencyError, NotOffered
from taskloom.client.tasks.execution import ExecutionLog, ExecutionStatus, ResourceUsage, TaskExecution
from taskloom.client.tasks.executor import TaskExecutor
from taskloom.client.tasks.factory import TaskFactory
from taskloom.client.tasks.logger import TaskLogger
from taskloom.client.tasks.metrics import TaskMetrics
from taskloom.client.tasks.scheduler import TaskScheduler
from taskloom.client.tasks.task import (
    CreateTaskRequest,
    Task,
    TaskPriority,
    TaskStatus,
    TaskType,
    UpdateTaskRequest,
)

__all__ = [
    "AgentError",
    "BadDependency",
    "CircularDependencyError",
    "CreateTaskRequest",
    "DependencyResolver",
    "ExecutionLog",
    "ExecutionStatus",
    "ExecutorFunction",
    "NotOffered",
    "ResourceUsage",
    "Task",
    "TaskAPI",
    "TaskExecution",
    "TaskExecutor",
    "TaskFactory",
    "TaskLogger",
    "TaskMetrics",
    "TaskPriority",
    "TaskScheduler",
    "TaskStatus",
    "TaskType",
    "UpdateTaskRequest",
]
