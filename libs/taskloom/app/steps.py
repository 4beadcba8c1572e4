"""What a workflow's function can say besides calling tasks: blocks and steps of the engine's further kinds.

::

    with branch(receipt.ok == True):
        ship(order)
    with otherwise():
        refund(receipt.id)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Final, Literal

from taskloom.app.errors import TraceError
from taskloom.app.expressions import Expression, Reference
from taskloom.app.trace import Body, Trace, current

Outcome = Literal["fail", "continue"]
variables: Final = Reference(lambda _trace: "variables")
"""The run's variables: its arguments, and what results and signals bring in their own field ``variables``."""

context: Final = Reference(lambda _trace: "context")
"""The run's context, as it was submitted."""


@contextmanager
def branch(condition: Any, *, name: str = "branch") -> Iterator[None]:
    """Steps of the block run when the condition holds; see ``otherwise``."""
    trace = current()
    result = trace.add("conditional", name, condition=_condition(trace, condition))
    owner = result._taskloom_step
    with trace.body(owner, "conditional", "true_steps"):
        yield
    trace.bodies[-1].branch = owner


@contextmanager
def otherwise(condition: Any = None) -> Iterator[None]:
    """Directly after a ``branch`` or ``otherwise``: runs when none of those before did, and the condition, if there is
    one, holds."""
    trace = current()
    body = trace.bodies[-1]
    owner = body.branch
    if owner is None:
        raise TraceError(f"{trace.name}: otherwise() stands directly after the block of a branch(…)")
    with trace.body(owner, "conditional", "false_steps"):
        if condition is None:
            yield
            inner = None
        else:
            result = trace.add("conditional", "branch", condition=_condition(trace, condition))
            inner = result._taskloom_step
            with trace.body(inner, "conditional", "true_steps"):
                yield
    body.branch = inner


class Loop:
    """Rounds of a block. As ``loop``: ``with loop(max_rounds=20) as rounds: … rounds.until(status.done == True)``."""

    def __init__(self, condition: Any, max_rounds: int | None, name: str) -> None:
        self._condition, self._max_rounds, self._name = condition, max_rounds, name
        self._trace: Trace | None = None
        self._owner = ""
        self._body: AbstractContextManager[Body] | None = None

    def __enter__(self) -> Loop:
        trace = self._trace = current()
        condition = None if self._condition is None else _condition(trace, self._condition)
        result = trace.add("loop", self._name, loop_condition=condition, max_iterations=self._max_rounds)
        self._owner = result._taskloom_step
        self._body = trace.body(self._owner, "loop", "loop_steps")
        self._body.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._body is not None
        self._body.__exit__(kind, error, where)

    def until(self, condition: Any) -> None:
        """Within the block: the loop ends after a round when this holds. It may use results of the round."""
        trace = self._traced()
        if trace.bodies[-1].owner != self._owner:
            raise TraceError(f"{trace.name}: until(…) stands within the block of its loop, not in one inside it")
        step = trace.step(self._owner)
        if "until_condition" in step:
            raise TraceError(f"{trace.name}: a loop has one until(…); join conditions with |")
        step["until_condition"] = _condition(trace, condition)

    @property
    def iteration(self) -> Reference:
        """The number of the round, from 1."""
        owner = self._owner
        return Reference(lambda trace: trace.round_of(owner))

    @property
    def rounds(self) -> Reference:
        """After the block: how many rounds there were."""
        return self._traced().result_of(self._owner).iterations

    @property
    def reached(self) -> Reference:
        """After the block: true when a condition ended the loop, false when ``max_rounds`` did."""
        return self._traced().result_of(self._owner).condition_ended

    def _traced(self) -> Trace:
        if self._trace is None:
            raise TraceError("loop(…) has to be used in a with")
        return self._trace


def loop(condition: Any = None, *, max_rounds: int | None = None, name: str = "loop") -> Loop:
    """Rounds of the block while ``condition`` holds, which is looked at before each round, or until
    ``rounds.until(…)``; ``max_rounds`` (100) at most."""
    return Loop(condition, max_rounds, name)


class Each:
    """A block for each item of a list. ``results`` after it: a list in the order of the items, of what the block's only
    task returned, else of ``{"sub_step_results": {step id: result}}``."""

    def __init__(self, items: Any, fields: dict[str, Any], name: str) -> None:
        self._items, self._fields, self._name = items, fields, name
        self._trace: Trace | None = None
        self._owner = ""
        self._body: AbstractContextManager[Body] | None = None

    def __enter__(self) -> Reference:
        trace = self._trace = current()
        items = trace.template(self._items)
        result = trace.add("map", self._name, items=items, **self._fields)
        owner = self._owner = result._taskloom_step
        self._body = trace.body(owner, "map", "map_steps")
        self._body.__enter__()
        return Reference(lambda trace: trace.item_of(owner, "item"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._body is not None
        self._body.__exit__(kind, error, where)
        if error is None:
            self._traced().shorten(self._owner)

    @property
    def index(self) -> Reference:
        """Within the block: the number of the item, from 0."""
        owner = self._owner
        return Reference(lambda trace: trace.item_of(owner, "index"))

    @property
    def results(self) -> Reference:
        return self._traced().result_of(self._owner).results

    @property
    def errors(self) -> Reference:
        """With ``allow_failures``: a list of ``{"index", "error"}`` of the items that failed."""
        return self._traced().result_of(self._owner).errors

    def _traced(self) -> Trace:
        if self._trace is None:
            raise TraceError("each(…) has to be used in a with")
        return self._trace


def each(
    items: Any,
    *,
    max_parallel: int | None = None,
    fail_fast: bool = False,
    allow_failures: bool = False,
    name: str = "each",
) -> Each:
    """The block once for each item of a list, ``max_parallel`` at once: ``with each(order.lines) as line: …``.

    A failed item fails the workflow at the end of all, or at once with ``fail_fast``, unless ``allow_failures``.
    """
    fields: dict[str, Any] = {"max_parallel": max_parallel}
    fields |= {"fail_fast": True} if fail_fast else {}
    fields |= {"allow_failures": True} if allow_failures else {}
    return Each(items, fields, name)


@contextmanager
def parallel(*, fail_fast: bool = False, name: str = "parallel") -> Iterator[None]:
    """Steps of the block run side by side; one that uses another's result waits for it."""
    trace = current()
    result = trace.add("parallel", name, fail_fast=fail_fast or None)
    with trace.body(result._taskloom_step, "parallel", "sub_steps"):
        yield


@contextmanager
def sequential(*, name: str = "sequential") -> Iterator[None]:
    """Steps of the block run one after the other, as one step of a ``parallel`` block."""
    trace = current()
    result = trace.add("sequential", name)
    with trace.body(result._taskloom_step, "sequential", "sub_steps"):
        yield


def wait(
    seconds: float | Expression | None = None,
    *,
    until: Any = None,
    timeout_s: float | None = None,
    on_timeout: Outcome = "fail",
    name: str = "wait",
) -> Reference:
    """Waits so many seconds, or until a condition holds, for ``timeout_s`` at most. No executor is held meanwhile.

    The result's ``wait_completed`` is false when the time was over and ``on_timeout`` is ``continue``.
    """
    trace = current()
    if (seconds is None) == (until is None):
        raise TraceError(f"{trace.name}: wait takes either seconds or until=…")
    delay = trace.written(seconds) if isinstance(seconds, Expression) else seconds
    condition = None if until is None else _condition(trace, until)
    limits = _limits(timeout_s, on_timeout)
    return trace.add("wait", name, wait_seconds=delay, wait_condition=condition, **limits)


def approval(
    message: str = "",
    *,
    approvers: Sequence[str] = (),
    timeout_s: float | None = None,
    on_timeout: Literal["fail", "approve", "reject"] = "fail",
    on_reject: Outcome = "fail",
    name: str = "approval",
) -> Reference:
    """Holds until somebody decides; the result has ``approved``, ``by`` and ``comment``."""
    trace = current()
    return trace.add(
        "approval",
        name,
        message=trace.template(message),
        approvers=list(approvers),
        on_reject=on_reject,
        **_limits(timeout_s, on_timeout),
    )


def signal(
    signal_name: str, *, timeout_s: float | None = None, on_timeout: Outcome = "fail", name: str = ""
) -> Reference:
    """Waits for a signal, one that came before too; the result is its payload, null when its time was over."""
    trace = current()
    return trace.add("signal", name or signal_name, signal=signal_name, **_limits(timeout_s, on_timeout))


def checkpoint(name: str = "checkpoint") -> Reference:
    """Marks a state from which a new run can start."""
    return current().add("checkpoint", name)


@contextmanager
def compensation(of: Reference) -> Iterator[Reference]:
    """Steps of the block undo a completed step, when the workflow fails and compensates. Gives the step's result."""
    trace = current()
    owner = getattr(of, "_taskloom_step", "")
    if not owner:
        raise TraceError(f"{trace.name}: compensation(…) takes what the step returned as it is, without a field")
    if "compensation" in trace.step(owner):
        raise TraceError(f"{trace.name}: {owner!r} has a compensation already")
    with trace.body(owner, "compensation", "compensation"):
        yield of


@contextmanager
def on_failure() -> Iterator[None]:
    """Steps of the block run when the workflow has failed, before it ends."""
    with current().failure_body():
        yield


def _limits(timeout_s: float | None, on_timeout: str) -> dict[str, Any]:
    return {} if timeout_s is None else {"timeout_seconds": timeout_s, "on_timeout": on_timeout}


def _condition(trace: Trace, condition: Any) -> str | bool:
    if isinstance(condition, bool):
        return condition
    if not isinstance(condition, Expression):
        raise TraceError(
            f"{trace.name}: {condition!r:.80} is no condition of a running workflow; compare a result, an argument or "
            "a variable"
        )
    return trace.written(condition)
