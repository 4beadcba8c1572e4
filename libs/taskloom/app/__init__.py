"""Tasks and workflows as Python functions: an ``App`` and its decorators, and what a workflow's function can say.

::

    from taskloom import App, Retry, branch, otherwise

    app = App("shop")

    @app.task(retry=Retry(max_attempts=5), timeout_s=60)
    async def charge(order: Order) -> Receipt: ...

    @app.workflow
    def checkout(order: Order):
        receipt = charge(order)
        with branch(receipt.ok == True):
            ship(order)
        with otherwise():
            tell(order.customer, f"card refused: {receipt.reason}")
        return receipt

``taskloom executor --app module:app`` runs the tasks; ``checkout.submit(client, order)`` starts a run.
"""

from taskloom.app.app import App, task, workflow
from taskloom.app.context import Context, LocalContext, LocalSyncContext, SyncContext
from taskloom.app.definitions import register_definitions
from taskloom.app.errors import AppError, LoadError, Mismatch, TaskFailed, TraceError
from taskloom.app.expressions import Expression, Reference, contains, default, error, exists, length, status
from taskloom.app.handles import AsyncHandle, Handle
from taskloom.app.load import load_app, load_apps
from taskloom.app.steps import (
    approval,
    branch,
    checkpoint,
    compensation,
    context,
    each,
    loop,
    on_failure,
    otherwise,
    parallel,
    sequential,
    signal,
    variables,
    wait,
)
from taskloom.app.tasks import Task
from taskloom.app.workflows import Workflow
from taskloom.domain.values import Concurrency, Resources, Retry
from taskloom.kinds.api import TaskError

__all__ = [
    "App",
    "AppError",
    "AsyncHandle",
    "Concurrency",
    "Context",
    "Expression",
    "Handle",
    "LoadError",
    "LocalContext",
    "LocalSyncContext",
    "Mismatch",
    "Reference",
    "Resources",
    "Retry",
    "SyncContext",
    "Task",
    "TaskError",
    "TaskFailed",
    "TraceError",
    "Workflow",
    "approval",
    "branch",
    "checkpoint",
    "compensation",
    "contains",
    "context",
    "default",
    "each",
    "error",
    "exists",
    "length",
    "load_app",
    "load_apps",
    "loop",
    "on_failure",
    "otherwise",
    "parallel",
    "register_definitions",
    "sequential",
    "signal",
    "status",
    "task",
    "variables",
    "wait",
    "workflow",
]
