"""References to what a running workflow will know, and expressions over them.

They stand for values that do not exist yet: they can be handed to tasks, compared and calculated with, and each of that
makes an expression (``taskloom.domain.workflow.expressions``), evaluated by the workflow when its time comes.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from taskloom.app.errors import TraceError

if TYPE_CHECKING:
    from taskloom.app.trace import Trace

__all__ = ["Expression", "Reference", "contains", "default", "error", "exists", "length", "status"]

Written = Callable[["Trace"], str]


class Expression:
    """A value that is calculated while the workflow runs. ``&``, ``|`` and ``~`` are and, or, not."""

    __hash__ = object.__hash__

    def __init__(self, written: Written, step_id: str = "") -> None:
        self._taskloom_written = written
        self._taskloom_step = step_id

    def __repr__(self) -> str:
        return "<a value of the running workflow>"

    # What needs the value now cannot work: it says what to do instead.

    def __bool__(self) -> bool:  # noqa: PLE0304
        _refuse("decide", "if, while, and, or, not: use branch(…), loop(…), & | ~; a == b must stand in one of those")

    def __iter__(self) -> NoReturn:
        _refuse("iterate", "for: use each(…), or task.map(…)")

    def __len__(self) -> int:  # noqa: PLE0303
        _refuse("count", "len(): use length(…)")

    def __contains__(self, _item: object) -> NoReturn:
        _refuse("search", "in: use contains(…)")

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        _refuse("call a method of", "its methods: do that in a task")

    def __int__(self) -> NoReturn:
        _refuse("convert", "int(): do that in a task, or give the task's parameter the type")

    __float__ = __index__ = __complex__ = __int__

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_taskloom_"):
            _refuse("change", "assignment: let a task return the changed value")
        object.__setattr__(self, name, value)

    def __setitem__(self, _key: object, _value: object) -> NoReturn:
        _refuse("change", "assignment: let a task return the changed value")

    # Text: a place in it that is filled in later.

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        if spec:
            _refuse("format", f"the format {spec!r}: do that in a task")
        return _trace().place(self)

    # What makes a further expression.

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return _binary(self, "==", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return _binary(self, "!=", other)

    def __lt__(self, other: object) -> Expression:
        return _binary(self, "<", other)

    def __le__(self, other: object) -> Expression:
        return _binary(self, "<=", other)

    def __gt__(self, other: object) -> Expression:
        return _binary(self, ">", other)

    def __ge__(self, other: object) -> Expression:
        return _binary(self, ">=", other)

    def __add__(self, other: object) -> Expression:
        return _binary(self, "+", other)

    def __radd__(self, other: object) -> Expression:
        return _binary(other, "+", self)

    def __sub__(self, other: object) -> Expression:
        return _binary(self, "-", other)

    def __rsub__(self, other: object) -> Expression:
        return _binary(other, "-", self)

    def __mul__(self, other: object) -> Expression:
        return _binary(self, "*", other)

    def __rmul__(self, other: object) -> Expression:
        return _binary(other, "*", self)

    def __truediv__(self, other: object) -> Expression:
        return _binary(self, "/", other)

    def __rtruediv__(self, other: object) -> Expression:
        return _binary(other, "/", self)

    def __floordiv__(self, other: object) -> Expression:
        return _binary(self, "//", other)

    def __mod__(self, other: object) -> Expression:
        return _binary(self, "%", other)

    def __and__(self, other: object) -> Expression:
        return _binary(self, "and", other)

    def __rand__(self, other: object) -> Expression:
        return _binary(other, "and", self)

    def __or__(self, other: object) -> Expression:
        return _binary(self, "or", other)

    def __ror__(self, other: object) -> Expression:
        return _binary(other, "or", self)

    def __invert__(self) -> Expression:
        return Expression(lambda trace: f"(not {written(self, trace)})")

    def __neg__(self) -> Expression:
        return Expression(lambda trace: f"(-{written(self, trace)})")


class Reference(Expression):
    """A value by its name: a result, an argument, an item. ``reference.field`` and ``reference["key"]`` lead on."""

    def __getattr__(self, name: str) -> Reference:
        if name.startswith("_"):
            raise AttributeError(f"{name}: write reference[{name!r}] for a field of this name")
        return self[name]

    def __getitem__(self, key: object) -> Reference:
        if isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key):
            return Reference(lambda trace: f"{written(self, trace)}.{key}")
        if not isinstance(key, (str, int, Expression)) or isinstance(key, bool):
            raise TraceError(f"[{key!r}]: a field has a text, an item a whole number")
        return Reference(lambda trace: f"{written(self, trace)}[{written(key, trace)}]")


CONSTANTS: Final = (str, int, float, bool, type(None))


def written(value: object, trace: Trace) -> str:
    """The expression's text.

    Raises:
        TraceError: the value cannot stand in an expression.
    """
    if isinstance(value, Expression):
        return value._taskloom_written(trace)
    if isinstance(value, str) and trace.has_place(value):
        raise TraceError(f"a text with a value of the running workflow cannot be compared: {trace.shown(value)!r}")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(written(each, trace) for each in value)}]"
    try:
        plain = msgspec.to_builtins(value, str_keys=True)
    except (TypeError, ValueError) as fault:
        raise TraceError(f"{value!r:.80} cannot stand in an expression: {fault}") from fault
    if isinstance(plain, CONSTANTS) and not (isinstance(plain, float) and not math.isfinite(plain)):
        return repr(plain)
    raise TraceError(f"{value!r:.80} cannot stand in an expression: compare field by field")


def default(value: Expression, other: object) -> Expression:
    """``value``, or ``other`` where it is not there or null: a step that was skipped, a field that is missing.
    Null when the other is not there either."""

    def write(trace: Trace) -> str:
        instead = written(other, trace)
        return f"default({written(value, trace)}, {f'default({instead}, None)' if _may_lack(other) else instead})"

    return Expression(write)


def _may_lack(other: object) -> bool:
    return isinstance(other, Reference)


def exists(value: Expression) -> Expression:
    """Whether it is there and not null."""
    return Expression(lambda trace: f"exists({written(value, trace)})")


def contains(value: object, item: object) -> Expression:
    """Whether a text, a list or an object's keys contain the item."""
    return Expression(lambda trace: f"({written(item, trace)} in {written(value, trace)})")


def length(value: Expression) -> Expression:
    """Of a text, a list or an object."""
    return Expression(lambda trace: f"len({written(value, trace)})")


def status(step: Reference) -> Expression:
    """How the step of this result stands: completed, failed, skipped, cancelled."""
    return Expression(lambda trace: trace.of_step(_step_of(step), "status"))


def error(step: Reference) -> Expression:
    """Why the step of this result failed, null when it did not."""
    return Expression(lambda trace: trace.of_step(_step_of(step), "error"))


def _step_of(reference: Expression) -> str:
    if not isinstance(reference, Expression) or not reference._taskloom_step:
        raise TraceError("status and error take what a step returned as it is, without a field")
    return reference._taskloom_step


def _binary(left: object, sign: str, right: object) -> Expression:
    return Expression(lambda trace: f"({written(left, trace)} {sign} {written(right, trace)})")


def _trace() -> Trace:
    from taskloom.app.trace import current

    return current()


def _refuse(wish: str, instead: str) -> NoReturn:
    raise TraceError(
        f"a workflow function cannot {wish} a value that is known only when the workflow runs. Not possible here is "
        f"{instead}"
    )
