"""An app: tasks and workflows that belong together, by the names under which they are known everywhere."""

import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from taskloom.app.errors import AppError
from taskloom.app.options import TaskOptions
from taskloom.app.tasks import Task
from taskloom.app.workflows import Workflow, WorkflowOptions
from taskloom.domain.ids import is_valid_id

P = ParamSpec("P")
R = TypeVar("R")


class TaskDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[..., Coroutine[Any, Any, R]], /) -> Task[R]: ...
    @overload
    def __call__(self, function: Callable[..., R], /) -> Task[R]: ...


class WorkflowDecorator(Protocol):
    def __call__(self, function: Callable[..., R], /) -> Workflow[R]: ...


class App:
    """``name`` is the first part of the kinds of its tasks and the ids of its workflows: ``shop.charge``."""

    def __init__(self, name: str) -> None:
        if not is_valid_id(name) or len(name) > 64:
            raise AppError(f"App({name!r}): a name is 1 to 64 of A-Z a-z 0-9 : _ - .")
        self.name = name
        self.tasks: dict[str, Task[Any]] = {}
        self.workflows: dict[str, Workflow[Any]] = {}

    def __repr__(self) -> str:
        return f"<app {self.name}: {len(self.tasks)} tasks, {len(self.workflows)} workflows>"

    @overload
    def task(self, function: Callable[..., Coroutine[Any, Any, R]], /) -> Task[R]: ...
    @overload
    def task(self, function: Callable[..., R], /) -> Task[R]: ...
    @overload
    def task(
        self, /, *, name: str | None = None, process: bool = False, **options: Unpack[TaskOptions]
    ) -> TaskDecorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        process: bool = False,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Makes a function a task. Async ones run in the executor's loop, plain ones in a thread, those with
        ``process=True`` in a process of their own, which a cancel or time limit kills.

        Raises:
            AppError: the name is taken, or an option is unknown.
        """

        def register(target: Callable[..., Any]) -> Task[Any]:
            called = name or target.__name__
            return self.add_task(Task(target, f"{self.name}.{called}", options, process=process, name=called))

        return register if function is None else register(function)

    @overload
    def workflow(self, function: Callable[..., R], /) -> Workflow[R]: ...
    @overload
    def workflow(self, /, *, name: str | None = None, **options: Unpack[WorkflowOptions]) -> WorkflowDecorator: ...
    def workflow(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Unpack[WorkflowOptions],
    ) -> Any:
        """Makes a function the description of a workflow.

        Raises:
            AppError: the name is taken, or an option is unknown.
        """

        def register(target: Callable[..., Any]) -> Workflow[Any]:
            called = name or target.__name__
            return self.add_workflow(Workflow(target, f"{self.name}.{called}", options, called))

        return register if function is None else register(function)

    def add_task(self, task: Task[Any]) -> Task[Any]:
        """
        Raises:
            AppError: another task of the app has this kind.
        """
        if self.tasks.setdefault(task.kind, task) is not task:
            raise AppError(f"two tasks are called {task.kind}; give one another name=…")
        return task

    def add_workflow(self, workflow: Workflow[Any]) -> Workflow[Any]:
        """
        Raises:
            AppError: another workflow of the app has this id.
        """
        if self.workflows.setdefault(workflow.id, workflow) is not workflow:
            raise AppError(f"two workflows are called {workflow.id}; give one another name=…")
        return workflow

    def definitions(self) -> list[dict[str, Any]]:
        """The definitions of its workflows, JSON data, by their ids.

        Raises:
            TraceError: a workflow's function does what a description cannot.
        """
        return [self.workflows[name].definition for name in sorted(self.workflows)]

    def check(self) -> None:
        """
        Raises:
            AppError: a task or workflow cannot be used as it is written.
        """
        for task in self.tasks.values():
            task.check()
        for workflow in self.workflows.values():
            workflow.check()

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that its tasks are for."""
        return tuple(sorted({task.queue for task in self.tasks.values()}))


@overload
def task(function: Callable[..., Coroutine[Any, Any, R]], /) -> Task[R]: ...
@overload
def task(function: Callable[..., R], /) -> Task[R]: ...
@overload
def task(*, name: str | None = None, process: bool = False, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    process: bool = False,
    **options: Unpack[TaskOptions],
) -> Any:
    """As ``App.task``, for a module without an app: its kind begins with the module's name, and
    ``taskloom executor --app module`` finds it."""

    def register(target: Callable[..., Any]) -> Task[Any]:
        called = name or target.__name__
        return Task(target, f"{module_name(target)}.{called}", options, process=process, name=called)

    return register if function is None else register(function)


@overload
def workflow(function: Callable[..., R], /) -> Workflow[R]: ...
@overload
def workflow(*, name: str | None = None, **options: Unpack[WorkflowOptions]) -> WorkflowDecorator: ...
def workflow(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Unpack[WorkflowOptions]
) -> Any:
    """As ``App.workflow``, for a module without an app."""

    def register(target: Callable[..., Any]) -> Workflow[Any]:
        called = name or target.__name__
        return Workflow(target, f"{module_name(target)}.{called}", options, called)

    return register if function is None else register(function)


def module_name(target: Callable[..., Any]) -> str:
    """The name under which another process imports the function's module; of a program it is its file's."""
    if target.__module__ != "__main__":
        return target.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else Path(getattr(main, "__file__", None) or "main").stem


def app_of(module: ModuleType) -> App:
    """What a module without an app holds: its tasks and workflows, those that it imports too.

    Raises:
        AppError: two have the same name.
    """
    app = App(module.__name__)
    for found in _of(module):
        if isinstance(found, Task):
            app.add_task(found)
        else:
            app.add_workflow(found)
    return app


def _of(module: ModuleType) -> Iterator[Task[Any] | Workflow[Any]]:
    seen: set[int] = set()
    for found in vars(module).values():
        if isinstance(found, (Task, Workflow)) and id(found) not in seen:
            seen.add(id(found))
            yield found
