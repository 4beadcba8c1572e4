"""What the expressions of a definition say before they are evaluated: where they are, which steps they name."""

import ast
from typing import Any, Final

from taskloom.domain.workflow import expressions
from taskloom.domain.workflow.expressions import BadExpression


def check_template(value: Any, path: str = "") -> list[tuple[str, str]]:
    """All faults in the templates within ``value``, each as (path, message)."""
    return [
        (where, message) for where, text in texts_in(value, path) if (message := expressions.check(text)) is not None
    ]


def named_steps(text: str) -> frozenset[str]:
    """Ids of the steps that an expression names as ``steps.ID`` or ``steps["ID"]``; none of a faulty one."""
    if "steps" not in text:
        return frozenset()
    try:
        nodes = ast.walk(expressions.parsed(text))
    except BadExpression:
        return frozenset()
    return frozenset(named for node in nodes if (named := _named_step(node)) is not None)


def _named_step(node: ast.AST) -> str | None:
    if not isinstance(node, (ast.Attribute, ast.Subscript)):
        return None
    if not isinstance(node.value, ast.Name) or node.value.id != "steps":
        return None
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.slice.value if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) else None


def free_names(text: str) -> frozenset[str]:
    """Names that an expression looks up: ``variables.x`` and ``context.x`` in full, others alone. Not those that it
    asks for with ``exists`` or ``default``, nor those of scopes; none of a faulty one."""
    try:
        tree = expressions.parsed(text)
    except BadExpression:
        return frozenset()
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            waiting += node.args[1:] if node.func.id in expressions.FORGIVING else node.args
        elif (named := _scoped(node)) is not None:
            found.add(named)
        elif isinstance(node, ast.Name):
            found |= {node.id} - _SCOPES
        else:
            waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def _scoped(node: ast.AST) -> str | None:
    if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.value, ast.Name):
        scope = node.value.id
        if scope in ("variables", "context"):
            if isinstance(node, ast.Attribute):
                return f"{scope}.{node.attr}"
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            return f"{scope}.{key}" if isinstance(key, str) else None
    return None


_SCOPES: Final = frozenset(
    {"variables", "context", "result", "steps", "item", "index", "iteration", "compensated", "true", "false", "null"}
)


def texts_in(value: Any, path: str = "") -> list[tuple[str, str]]:
    """All expressions in the templates within ``value``, each as (path, text)."""
    if isinstance(value, str):
        return [(path, part) for part in expressions.TEMPLATE.findall(value)] if "{{" in value else []
    if isinstance(value, dict):
        parts = [texts_in(inner, f"{path}.{key}" if path else str(key)) for key, inner in value.items()]
    elif isinstance(value, list):
        parts = [texts_in(inner, f"{path}[{at}]") for at, inner in enumerate(value)]
    else:
        return []
    return [found for part in parts for found in part]
