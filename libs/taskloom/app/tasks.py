"""A function as a kind of task."""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from taskloom.app.context import LocalContext, LocalSyncContext, SyncContext
from taskloom.app.errors import AppError, Mismatch, TraceError
from taskloom.app.expressions import Reference
from taskloom.app.handles import AsyncHandle, Handle, submitted
from taskloom.app.options import OF_STEPS, OF_SUBMISSIONS, CallOptions, TaskOptions, checked, fields_of
from taskloom.app.signature import Signature
from taskloom.app.trace import Trace, is_open, tracing
from taskloom.client.answers import Task as TaskAnswer
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.blocking import Client
from taskloom.domain.task.submission import BUILT_IN_KINDS
from taskloom.kinds.api import Context, TaskError

R = TypeVar("R")
MAX_KIND_CHARS = 128


class Task(Generic[R]):
    """Called directly it runs the function; within a workflow's function the call becomes a step.

    ``kind`` is what submissions name; ``process``: it runs in a process of its own, which can be killed.
    """

    def __init__(
        self, function: Callable[..., Any], kind: str, options: TaskOptions, *, process: bool = False, name: str = ""
    ) -> None:
        if not kind or len(kind) > MAX_KIND_CHARS or kind in BUILT_IN_KINDS or kind != kind.strip():
            raise AppError(f"{kind!r} cannot be a task's kind: built-in kinds and over {MAX_KIND_CHARS} characters")
        self.function = function
        self.kind = kind
        self.name = name or getattr(function, "__name__", kind)
        self.process = process
        self.is_async = inspect.iscoroutinefunction(function)
        self.signature = Signature(function, self.name)
        self._options = checked(options, TaskOptions, self.name)
        self._call: dict[str, Any] = {}
        self.__doc__ = function.__doc__
        self.__name__ = self.__qualname__ = self.name
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __repr__(self) -> str:
        return f"<task {self.kind}>"

    @property
    def queue(self) -> str:
        return str(self._options.get("queue") or "default")

    def options(self, **options: Unpack[CallOptions]) -> Self:
        """The same task with other options, for one call: ``charge.options(priority="high").submit(…)``.

        Raises:
            AppError: an option is unknown.
        """
        copy = object.__new__(type(self))
        copy.__dict__ |= self.__dict__
        copy._call = {**self._call, **checked(options, CallOptions, self.name)}
        return copy

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Within a workflow's function a reference to the result that the step will have. Else what the function
        returns, a coroutine if it is async; a context that is not given is a local one.

        Raises:
            TraceError: an argument does not have the declared type.
        """
        trace = tracing()
        if trace is not None:
            return self._step(trace, args, kwargs)
        if self.signature.context is not None and self.signature.context[0] not in kwargs:
            name = self.signature.context[0]
            if name in inspect.signature(self.function).bind_partial(*args, **kwargs).arguments:
                return self.function(*args, **kwargs)
            kwargs[name] = LocalContext(name=self.name) if self.is_async else LocalSyncContext(name=self.name)
        return self.function(*args, **kwargs)

    def map(self, items: Any, *, max_parallel: int | None = None, **others: Any) -> Reference:
        """In a workflow: one task for each item, which becomes the first argument that ``others`` does not give.
        Gives a reference to the list of their results, in the items' order."""
        from taskloom.app.steps import each

        names = [name for name in self.signature.codecs if name not in others]
        if not names:
            raise TraceError(f"{self.name}.map: all arguments are given; leave out the one that the items are for")
        block = each(items, max_parallel=max_parallel, name=self.name)
        with block as item:
            self(**{names[0]: item}, **others)
        return block.results

    def submission(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The body of ``POST /api/v1/tasks`` for a call with these arguments.

        Raises:
            Mismatch: an argument does not have the declared type.
            AppError: an option belongs to steps.
        """
        call = {**self._options, **self._call}
        if wrong := OF_STEPS & call.keys():
            raise AppError(f"{self.name}: {', '.join(sorted(wrong))} can be chosen for a step in a workflow only")
        fields = {name: call[name] for name in OF_SUBMISSIONS - {"idempotency_key"} if call.get(name)}
        for name in fields.keys() & {"run_at", "deadline"}:
            fields[name] = fields[name] if isinstance(fields[name], str) else fields[name].isoformat()
        arguments = self.signature.dump(self.signature.bound(args, kwargs))
        return {"kind": self.kind, "name": self.name, **fields_of(call, self.kind), **fields, "input": arguments}

    @overload
    def submit(self, client: Client, /, *args: Any, **kwargs: Any) -> Handle[R]: ...
    @overload
    def submit(self, client: AsyncClient, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, AsyncHandle[R]]: ...
    def submit(self, client: Client | AsyncClient, /, *args: Any, **kwargs: Any) -> Any:
        """Submits a task with these arguments; with an ``AsyncClient`` it has to be awaited.

        Raises:
            Mismatch: an argument does not have the declared type.
            ClientError: the server did not take it.
        """
        submission, key = self.submission(*args, **kwargs), str(self._call.get("idempotency_key", ""))
        if isinstance(client, AsyncClient):
            return submitted(client, submission, key, self._read)
        answer = client.submit(idempotency_key=key, **submission)
        return Handle(client, answer.task_id, self._read)

    # What the executor does with it.

    def check(self) -> None:
        """
        Raises:
            AppError: its types cannot be checked, or its context is not of the kind that it can use.
        """
        _ = self.signature.codecs, self.signature.result, self.signature.schema
        if self.signature.context is not None:
            name, kind = self.signature.context
            wanted = Context if self.is_async and not self.process else SyncContext
            if kind is not wanted:
                how = "runs in the loop" if wanted is Context else "has a thread or process"
                raise AppError(f"{self.name}({name}): the function {how}: annotate {wanted.__name__}")
        if self.is_async and self.process:
            raise AppError(f"{self.name}: a function with process=True is a plain one, not async")

    def arguments(self, data: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Keyword arguments of the function from a task's input.

        Raises:
            TaskError: they do not have the declared types (``invalid_input``, not retryable).
        """
        try:
            loaded = self.signature.load(data)
        except Mismatch as mismatch:
            raise _failure("invalid_input", mismatch) from mismatch
        if self.signature.context is not None:
            loaded[self.signature.context[0]] = context
        return loaded

    def dumped(self, result: Any) -> Any:
        """JSON data of what the function returned.

        Raises:
            TaskError: it does not have the declared type (``invalid_result``, not retryable).
        """
        try:
            return self.signature.result.dump(result, "result")
        except Mismatch as mismatch:
            raise _failure("invalid_result", mismatch) from mismatch

    def _read(self, task: TaskAnswer) -> R:
        result: R = self.signature.result.load(task.response, "result")
        return result

    def _step(self, trace: Trace, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Reference:
        call = {**self._options, **self._call}
        if wrong := OF_SUBMISSIONS & call.keys():
            raise TraceError(f"{self.name}: {', '.join(sorted(wrong))}: a step's task gets this from the workflow")
        trace.tasks[self.kind] = self
        template: dict[str, Any] = {"kind": self.kind, **fields_of(call, self.kind)}
        if arguments := arguments_of(trace, self.signature, args, kwargs):
            template["input"] = arguments
        return trace.add(
            "task",
            str(call.get("step_id") or self.name),
            after=call.get("after"),
            on_failure=call.get("on_failure"),
            name=call.get("title") or "",
            task_template=template,
        )


def arguments_of(
    trace: Trace, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of a step's task or child workflow, with templates for what is known only when the workflow runs.

    Raises:
        TraceError: an argument that is known now does not have the declared type.
    """
    bound = signature.bound(args, kwargs)
    if missing := [name for name in signature.required if name not in bound]:
        raise TraceError(f"{trace.name}: {signature.name} needs {', '.join(missing)}")
    try:
        return {
            name: trace.template(value if is_open(value) else signature.codecs[name].dump(value, name))
            for name, value in bound.items()
        }
    except Mismatch as mismatch:
        raise TraceError(f"{trace.name}: {signature.name}: {mismatch}") from mismatch


def _failure(kind: str, mismatch: Mismatch) -> TaskError:
    faults = [{"field": path, "message": message} for path, message in mismatch.faults[:20]]
    return TaskError(kind, str(mismatch), retryable=False, details={"field": mismatch.field, "faults": faults})
