"""Expressions and templates: ``variables.count > 3 and "x" in item.tags``, ``Hello {{ variables.name }}``.

The evaluator is simpleeval, narrowed to an allow-list. It was chosen over CEL, whose Python bindings turn the data into
their own types for every evaluation (a loop of n rounds over n results would cost n²), and over Jinja's sandbox, which
can loop and hands out attributes of Python objects. The known escapes from simpleeval went through attributes too: here
``a.b`` only ever looks up the key ``b`` of a mapping, nothing but the functions below can be called, and there is no
power, repetition, string formatting or comprehension, so that the text's length and the data it names bound the cost.
"""

import ast
import math
import operator
import re
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec
from simpleeval import InvalidExpression, SimpleEval

from taskloom.errors import TaskloomError

MAX_CHARS: Final = 2_000
MAX_NODES: Final = 200
MAX_TEXT: Final = 1_000_000
"""Longest text or list that an expression may make by adding two."""

MAX_NUMBER: Final = 2**256

TEMPLATE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


class BadExpression(TaskloomError):
    """The expression cannot be used: the message says why, ``where`` is its place in what was rendered."""

    where = ""

    def within(self, part: str) -> None:
        """Tells that the expression's place is in this field (``input``) or item (``[2]``)."""
        joint = "." if self.where and not self.where.startswith("[") else ""
        self.where = f"{part}{joint}{self.where}"


class Unresolved(BadExpression):
    """The expression names something that is not there."""


class Names(Protocol):
    """Where an expression's names come from. ``opened`` and ``opened_all`` follow references, where it has them."""

    def __getitem__(self, name: str) -> Any:
        """The value of a name. Raises KeyError when there is none."""


def check(text: str) -> str | None:
    """What is wrong with an expression, None when it can be evaluated."""
    try:
        parsed(text)
    except BadExpression as error:
        return str(error)
    return None


def evaluate(text: str, names: Names) -> Any:
    """The value of an expression: JSON data.

    Raises:
        Unresolved: it names what is not there.
        BadExpression: it is malformed, or its values do not fit its operators.
    """
    tree, evaluator = parsed(text), _evaluator()
    evaluator.names, evaluator.opened = names, getattr(names, "opened", _itself)
    try:
        return getattr(names, "opened_all", _itself)(_plain(evaluator.eval(text, tree)))
    except BadExpression:
        raise
    except (InvalidExpression, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise BadExpression(f"{_short(text)}: {error}") from error
    finally:
        evaluator.names, evaluator.opened = {}, _itself


def has_template(value: Any) -> bool:
    """True when rendering ``value`` may give something else than ``value``."""
    if isinstance(value, str):
        return "{{" in value and TEMPLATE.search(value) is not None
    if isinstance(value, dict):
        return any(has_template(inner) for inner in value.values())
    return isinstance(value, list) and any(has_template(inner) for inner in value)


def render(value: Any, names: Names) -> Any:
    """``value`` with its templates filled in; what has none is handed on as it is.

    A text that is one template alone becomes the expression's value, of whatever type; within other text it is written
    out (text as it is, everything else as JSON).

    Raises:
        BadExpression: a template cannot be evaluated.
    """
    if isinstance(value, str):
        return _render_text(value, names) if "{{" in value else value
    if isinstance(value, dict):
        return {key: render_in(str(key), inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [render_in(f"[{at}]", inner, names) for at, inner in enumerate(value)]
    return value


def render_in(place: str, value: Any, names: Names) -> Any:
    """As ``render``; an error knows that it happened in ``place``."""
    try:
        return render(value, names)
    except BadExpression as error:
        error.within(place)
        raise


def _render_text(text: str, names: Names) -> Any:
    whole = TEMPLATE.fullmatch(text)
    if whole is not None and "{{" not in whole[1]:
        return evaluate(whole[1], names)
    return TEMPLATE.sub(lambda found: _written(evaluate(found[1], names)), text)


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(_plain(value)).decode()


_NODES: Final = (
    *(ast.Expr, ast.Name, ast.Load, ast.Constant, ast.Attribute, ast.Subscript, ast.List, ast.Call, ast.IfExp),
    *(ast.UnaryOp, ast.Not, ast.USub, ast.BoolOp, ast.And, ast.Or),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot),
)


@lru_cache(maxsize=4096)
def parsed(text: str) -> ast.AST:
    """The expression's tree. Raises BadExpression: it cannot be evaluated, whatever its names stand for."""
    if len(text) > MAX_CHARS:
        raise BadExpression(f"an expression may have {MAX_CHARS} characters, this one has {len(text)}")
    try:
        body = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise BadExpression(f"{_short(text)} is not an expression: {reason}") from error
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        raise BadExpression(f"{_short(text)} is not one expression")
    nodes = list(ast.walk(body[0]))
    if len(nodes) > MAX_NODES:
        raise BadExpression(f"an expression may have {MAX_NODES} parts, this one has {len(nodes)}")
    for node in nodes:
        _allow(node, text)
    return body[0]


def _allow(node: ast.AST, text: str) -> None:
    if not isinstance(node, _NODES):
        raise BadExpression(f"{_short(text)}: {type(node).__name__} is not available in expressions")
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
            raise BadExpression(f"{_short(text)}: only these can be called: {', '.join(sorted(_FUNCTIONS))}")
        if node.keywords:
            raise BadExpression(f"{_short(text)}: functions take no named arguments")
    if isinstance(node, ast.Constant) and not isinstance(node.value, (str, int, float, bool, type(None))):
        raise BadExpression(f"{_short(text)}: {node.value!r} is no JSON value")
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value > MAX_NUMBER:
        raise BadExpression(f"{_short(text)}: too large a number")
    if isinstance(node, ast.Name) and node.id.startswith("_"):
        raise BadExpression(f"{_short(text)}: names do not begin with an underscore")


def _numbers(work: Callable[[Any, Any], Any], sign: str) -> Callable[[Any, Any], Any]:
    def run(left: Any, right: Any) -> Any:
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise TypeError(f"{sign} needs two numbers, not {_kind(left)} and {_kind(right)}")
        return _bounded(work(left, right))

    return run


def _bounded(number: Any) -> Any:
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError("the result is not a finite number")
    if abs(number) > MAX_NUMBER:
        raise ValueError("the result is too large a number")
    return number


def _add(left: Any, right: Any) -> Any:
    both = (type(left), type(right))
    if both in ((str, str), (list, list)):
        if len(left) + len(right) > MAX_TEXT:
            raise ValueError(f"the result would be longer than {MAX_TEXT}")
        return left + right
    return _numbers(operator.add, "+")(left, right)


def _length(value: Any) -> int:
    if not isinstance(value, (str, list, Mapping)):
        raise TypeError(f"len needs a text, list or object, not {_kind(value)}")
    return len(value)


def _int(value: Any) -> int:
    if isinstance(value, str) and len(value) > 100:
        raise ValueError("too long a text for a number")
    return int(_bounded(int(value)))


def _float(value: Any) -> float:
    return float(_bounded(float(value)))


def _lower(value: Any) -> str:
    return str.lower(value)


def _upper(value: Any) -> str:
    return str.upper(value)


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "abs": abs,
    "bool": bool,
    "default": lambda value, other: other if value is None else value,
    "exists": lambda value: value is not None,
    "float": _float,
    "int": _int,
    "len": _length,
    "lower": _lower,
    "max": max,
    "min": min,
    "round": round,
    "str": _written,
    "upper": _upper,
}
FORGIVING: Final = frozenset({"default", "exists"})
"""Functions whose first argument may name what is not there: it is null then."""

_OPERATORS: Final = {
    ast.Add: _add,
    ast.Sub: _numbers(operator.sub, "-"),
    ast.Mult: _numbers(operator.mul, "*"),
    ast.Div: _numbers(operator.truediv, "/"),
    ast.FloorDiv: _numbers(operator.floordiv, "//"),
    ast.Mod: _numbers(operator.mod, "%"),
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: operator.contains(right, left),
    ast.NotIn: lambda left, right: not operator.contains(right, left),
    ast.Is: lambda left, right: left is right,
    ast.IsNot: lambda left, right: left is not right,
    ast.Not: operator.not_,
    ast.USub: operator.neg,
}
_WORDS: Final = {"true": True, "false": False, "null": None}


class _Evaluator(SimpleEval):  # type: ignore[misc]  # simpleeval has no types
    """All data is JSON and all names are ours, so that nothing has to be searched for dangerous objects."""

    opened: Callable[[Any], Any]

    def __init__(self) -> None:
        super().__init__(operators=dict(_OPERATORS), functions=dict(_FUNCTIONS), names={})
        self.nodes[ast.List] = lambda node: [_plain(self._eval(inner)) for inner in node.elts]

    def _check_disallowed_items(self, item: Any) -> None:
        """The base class walks each value in full at each node, which would make one look-up linear in the data."""

    def _eval_name(self, node: ast.Name) -> Any:
        if node.id in _WORDS:
            return _WORDS[node.id]
        try:
            return self.opened(self.names[node.id])
        except KeyError:
            raise Unresolved(f"{node.id!r} is not there") from None

    def _eval_attribute(self, node: ast.Attribute) -> Any:
        return self._entry(node, self._eval(node.value), node.attr)

    def _eval_subscript(self, node: ast.Subscript) -> Any:
        container, key = self._eval(node.value), self._eval(node.slice)
        if isinstance(container, (list, tuple, str)):
            if isinstance(key, bool) or not isinstance(key, int):
                raise BadExpression(f"{ast.unparse(node)}: a list's index is a whole number, not {key!r}")
            if not -len(container) <= key < len(container):
                raise Unresolved(f"{ast.unparse(node)} is not there: the list has {len(container)} items")
            return self.opened(container[key])
        return self._entry(node, container, key)

    def _entry(self, node: ast.Attribute | ast.Subscript, container: Any, key: Any) -> Any:
        if not isinstance(container, Mapping):
            raise Unresolved(f"{ast.unparse(node)} is not there: {ast.unparse(node.value)} is {_kind(container)}")
        if key not in container:
            raise Unresolved(f"{ast.unparse(node)} is not there")
        return self.opened(container[key])

    def _eval_call(self, node: ast.Call) -> Any:
        name = node.func.id  # type: ignore[attr-defined]  # _allow lets names only pass
        try:
            arguments = [self._eval(argument) for argument in node.args[:1]]
        except Unresolved:
            if name not in FORGIVING:
                raise
            arguments = [None]
        return self.functions[name](*arguments, *(self._eval(argument) for argument in node.args[1:]))


_threads: Final = threading.local()


def _evaluator() -> _Evaluator:
    """One a thread: making one costs ten times an evaluation."""
    evaluator: _Evaluator | None = getattr(_threads, "evaluator", None)
    if evaluator is None:
        evaluator = _threads.evaluator = _Evaluator()
    return evaluator


def _itself(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    """Our own mappings (all variables, all steps) as an object, in an order that is the same in each process."""
    if isinstance(value, Mapping) and not isinstance(value, dict):
        return {key: value[key] for key in sorted(value)}
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "an object")


def _short(text: str) -> str:
    return repr(text.strip() if len(text) <= 80 else text.strip()[:77] + "...")
