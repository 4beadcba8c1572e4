"""Finds calls that run text as code, by walking the syntax tree; and mends the one kind that can be mended safely."""

import ast
from typing import Final

from msgspec import Struct

RUNS_TEXT: Final = ("eval", "exec", "compile", "__import__")


class Issue(Struct, frozen=True):
    file: str
    line: int
    code: str
    message: str


def dangerous_calls(source: str, file: str) -> list[Issue]:
    """Calls of ``eval`` and its like, and of anything with ``shell=True``.

    Raises:
        SyntaxError: the file is no Python.
    """
    calls = [node for node in ast.walk(ast.parse(source, file)) if isinstance(node, ast.Call)]
    runs_text = [(call.lineno, f"{name} runs text as code") for call in calls if (name := _name(call))]
    shells = [call.lineno for call in calls if any(_is_shell(word) for word in call.keywords)]
    return [
        *(Issue(file, line, "runs-text", message) for line, message in runs_text),
        *(Issue(file, line, "shell", "shell=True gives text to a shell") for line in shells),
    ]


def without_eval(source: str) -> str:
    """The source with ``literal_eval`` in place of ``eval`` of one argument, which reads values and runs nothing."""
    tree = ast.parse(source)
    places = [
        call.func
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and _name(call) == "eval" and len(call.args) == 1 and not call.keywords
    ]
    lines = source.encode().splitlines(keepends=True)
    for place in sorted(places, key=lambda each: (each.lineno, each.col_offset), reverse=True):
        line = lines[place.lineno - 1]
        lines[place.lineno - 1] = line[: place.col_offset] + b"literal_eval" + line[place.end_col_offset :]
    if places:
        # Below what must stay first; the linter sorts it in among the other imports.
        lines.insert(_first_line(tree), b"from ast import literal_eval\n")
    return b"".join(lines).decode()


def _first_line(tree: ast.Module) -> int:
    """After how many lines an import may stand: those of the docstring and of imports from the future."""
    line = 0
    for node in tree.body:
        is_docstring = node is tree.body[0] and ast.get_docstring(tree) is not None
        if not is_docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        line = node.end_lineno or 0
    return line


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) and call.func.id in RUNS_TEXT else ""


def _is_shell(word: ast.keyword) -> bool:
    return word.arg == "shell" and not (isinstance(word.value, ast.Constant) and word.value.value in (False, None))
