"""A function that describes a workflow."""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property
from typing import Any, Generic, Literal, Self, TypedDict, TypeVar, Unpack, cast, overload

from taskloom.app.errors import AppError, TraceError
from taskloom.app.expressions import Reference
from taskloom.app.handles import AsyncHandle, Handle, submitted
from taskloom.app.options import OF_STEPS, OF_SUBMISSIONS, CallOptions, checked
from taskloom.app.signature import Signature
from taskloom.app.tasks import Task, arguments_of
from taskloom.app.trace import Trace, traced, tracing
from taskloom.client.answers import Task as TaskAnswer
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.blocking import Client
from taskloom.domain.workflow.check import validate

R = TypeVar("R")
NOT_OF_WORKFLOWS = frozenset(CallOptions.__annotations__) - OF_SUBMISSIONS - OF_STEPS - {
    *("title", "queue", "priority", "tags", "metadata")
}  # fmt: skip


class WorkflowOptions(TypedDict, total=False):
    """``on_failure`` compensate: a failed run undoes its completed steps, last first."""

    version: str
    max_parallel_tasks: int
    timeout_s: float
    fail_fast: bool
    on_failure: Literal["fail", "compensate"]
    description: str
    tags: tuple[str, ...] | list[str]
    metadata: dict[str, Any]


class Workflow(Generic[R]):
    """Its function runs once, to be written down as a definition; a run takes the definition as it was submitted.
    Called within another workflow's function it becomes a child workflow."""

    def __init__(self, function: Callable[..., Any], workflow_id: str, options: WorkflowOptions, name: str) -> None:
        if inspect.iscoroutinefunction(function):
            raise AppError(f"{name}: a workflow's function is a plain one: it describes, and never waits")
        self.function = function
        self.id = workflow_id
        self.name = name
        self.signature = Signature(function, name)
        self._options = checked_workflow(options, name)
        self._call: dict[str, Any] = {}
        self.__doc__ = function.__doc__
        self.__name__ = self.__qualname__ = name
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __repr__(self) -> str:
        return f"<workflow {self.id} {self.version}>"

    @property
    def version(self) -> str:
        return str(self._options.get("version", "1.0"))

    @property
    def definition(self) -> dict[str, Any]:
        """The definition, JSON data; the same in every program that has the same function.

        Raises:
            TraceError: the function does what a description cannot, or the definition has faults: names their paths.
        """
        return self._traced[0]

    @property
    def tasks(self) -> dict[str, Task[Any]]:
        """The tasks that it calls, those of its child workflows too, by their kinds."""
        return self._traced[1]

    @cached_property
    def _traced(self) -> tuple[dict[str, Any], dict[str, Task[Any]]]:
        if self.signature.context is not None:
            raise AppError(f"{self.name}: a workflow's function has no attempt, so no context")
        trace = Trace(self.name)
        arguments = {name: _variable(name) for name in self.signature.codecs}
        with traced(trace):
            result = self.function(**arguments)
            output = None if result is None else trace.template(result)
        definition = self._definition(trace, output)
        if faults := validate(definition):
            raise TraceError(f"{self.name}: " + "; ".join(f"{it.path}: {it.message}" for it in faults[:10]))
        return definition, trace.tasks

    def _definition(self, trace: Trace, output: Any) -> dict[str, Any]:
        options = self._options
        told = {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "description": options.get("description") or inspect.getdoc(self.function) or "",
            "variables": self.signature.defaults(),
            "max_parallel_tasks": options.get("max_parallel_tasks"),
            "timeout_seconds": options.get("timeout_s"),
            "fail_fast": options.get("fail_fast"),
            "on_failure": options.get("on_failure"),
            "tags": list(options.get("tags", ())),
            "metadata": {**options.get("metadata", {}), "arguments": self.signature.schema},
            "failure_steps": trace.failure_steps,
            "output": output,
        }
        return {name: value for name, value in told.items() if value not in (None, "", [], {})} | {"steps": trace.steps}

    def options(self, **options: Unpack[CallOptions]) -> Self:
        """The same workflow with other options, for one run or one step.

        Raises:
            AppError: an option is unknown, or only tasks have it.
        """
        if wrong := options.keys() & NOT_OF_WORKFLOWS:
            raise AppError(f"{self.name}: {', '.join(sorted(wrong))}: tasks have this, workflows do not")
        copy = object.__new__(type(self))
        copy.__dict__ |= self.__dict__
        copy._call = {**self._call, **checked(options, CallOptions, self.name)}
        return copy

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Within another workflow's function: a reference to the result that the child workflow will have.

        Raises:
            TraceError: called elsewhere.
        """
        trace = tracing()
        if trace is None:
            raise TraceError(
                f"{self.name} describes a workflow and does not run by itself: {self.name}.submit(client, …) runs it "
                f"on a server, taskloom.testing.workflows.run({self.name}, …) in a test"
            )
        if trace.name == self.name:
            raise TraceError(f"{self.name}: a workflow cannot be its own child")
        if wrong := OF_SUBMISSIONS & self._call.keys():
            raise TraceError(f"{self.name}: {', '.join(sorted(wrong))}: a step's task gets this from the workflow")
        call = self._call
        trace.tasks |= self.tasks
        variables = arguments_of(trace, self.signature, args, kwargs)
        return trace.add(
            "child",
            str(call.get("step_id") or self.name),
            after=call.get("after"),
            on_failure=call.get("on_failure"),
            name=call.get("title") or self.name,
            definition=self.definition,
            variables=variables,
        )

    def submission(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The body of ``POST /api/v1/tasks`` for a run with these arguments.

        Raises:
            Mismatch: an argument does not have the declared type.
            TypeError: one is missing.
        """
        call = self._call
        if wrong := OF_STEPS & call.keys():
            raise AppError(f"{self.name}: {', '.join(sorted(wrong))} can be chosen for a step in a workflow only")
        fields = {name: call[name] for name in OF_SUBMISSIONS - {"idempotency_key"} if call.get(name)}
        for name in fields.keys() & {"run_at", "deadline"}:
            fields[name] = fields[name] if isinstance(fields[name], str) else fields[name].isoformat()
        fields |= {name: call[name] for name in ("queue", "priority", "tags", "metadata") if call.get(name)}
        variables = self.signature.dump(self.signature.bound(args, kwargs))
        run_input = {"definition": self.definition, "variables": variables}
        return {"kind": "workflow", "name": call.get("title") or self.name, **fields, "input": run_input}

    @overload
    def submit(self, client: Client, /, *args: Any, **kwargs: Any) -> Handle[R]: ...
    @overload
    def submit(self, client: AsyncClient, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, AsyncHandle[R]]: ...
    def submit(self, client: Client | AsyncClient, /, *args: Any, **kwargs: Any) -> Any:
        """Starts a run with these arguments; with an ``AsyncClient`` it has to be awaited.

        Raises:
            Mismatch: an argument does not have the declared type.
            ClientError: the server did not take it.
        """
        submission, key = self.submission(*args, **kwargs), str(self._call.get("idempotency_key", ""))
        if isinstance(client, AsyncClient):
            return submitted(client, submission, key, self._read)
        answer = client.submit(idempotency_key=key, **submission)
        return Handle(client, answer.task_id, self._read)

    def check(self) -> None:
        """
        Raises:
            AppError: its function or its types cannot be used.
        """
        _ = self.definition, self.signature.result

    def _read(self, task: TaskAnswer) -> R:
        return self.read(task.response)

    def read(self, response: Any) -> R:
        """A run's response as what the function's annotation says; None where it says that nothing is returned.

        Raises:
            Mismatch: it does not have that type.
        """
        told = None if self.signature.returns_nothing else response
        result: R = self.signature.result.load(told, "result")
        return result


def checked_workflow(options: Mapping[str, Any], name: str) -> WorkflowOptions:
    known = WorkflowOptions.__annotations__
    for option in options:
        if option not in known:
            raise AppError(f"{name}: there is no option {option!r}; there are {', '.join(sorted(known))}")
    return cast(WorkflowOptions, dict(options))


def _variable(name: str) -> Reference:
    return Reference(lambda _trace: f"variables.{name}")
