"""Which tools a goal may use, and which task each call becomes. The list is the submission's: nothing adds to it.

Tools of the server ``taskloom`` are built in and become tasks of their own kinds; all others become tasks of kind
``tool``, whose executor looks at the list once more.
"""

from collections.abc import Mapping
from typing import Any, Final

from taskloom.domain.goals.inputs import DEFAULT_QUEUE, GoalInput, ServerTools
from taskloom.domain.goals.progress import tool_retry
from taskloom.domain.ids import is_valid_id
from taskloom.domain.runs import RUN_KINDS, WORKFLOW
from taskloom.domain.workflow.sizes import size_of

BUILT_IN: Final = "taskloom"
BUILT_IN_TOOLS: Final = ("shell", "http", "python", "sql", "submit", "workflow")
MAX_ARGS_BYTES: Final = 32 * 1024
MAX_ARGS_DEPTH: Final = 32
MAX_RESULT_DEPTH: Final = 200
MAX_CALLS: Final = 16
"""Calls of one turn; what a model asks for beyond is refused."""

_GUARDED: Final = {"docker": "shell", **{kind: kind for kind in ("shell", "http", "python", "sql")}}
"""Kinds that are submitted only where a tool that can do as much is allowed."""

_NEVER_SUBMITTED: Final = RUN_KINDS | {"tool", "llm", "webhook"}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SUBMIT_FIELDS: Final = frozenset({"kind", "input", "query", "name"})
_WORKFLOW_FIELDS: Final = frozenset({"workflow", "variables", "name"})


def refusal(given: GoalInput, server: str, tool: str, args: Any) -> str:
    """Why a call is not made; empty when it may be."""
    if not tool or not allows(given.tools, server, tool):
        return f"the tool {server}/{tool} is not allowed here"[:500]
    return bad_args(args) or (_bad_built_in(given, tool, args) if server == BUILT_IN else "")


def allows(tools: Mapping[str, ServerTools], server: str, tool: str) -> bool:
    allowed = tools.get(server)
    if allowed is None or (server == BUILT_IN and tool not in BUILT_IN_TOOLS):
        return False
    return allowed.tools is None or tool in allowed.tools


def bad_args(args: Any) -> str:
    """What is wrong with arguments that a model made, whatever the tool; empty when nothing is."""
    if not isinstance(args, dict):
        return "the arguments are no object"
    if _deeper_than(args, MAX_ARGS_DEPTH):
        return f"the arguments nest deeper than {MAX_ARGS_DEPTH} levels"
    if (size := size_of(args)) > MAX_ARGS_BYTES:
        return f"the arguments have {size} bytes, {MAX_ARGS_BYTES} are allowed"
    return "arguments cannot name secrets" if _names_secret(args) else ""


def refusal_of_resolved(given: GoalInput, server: str, tool: str, args: Any) -> str:
    """The same for arguments with results of earlier steps in them, which may be large, and are no more to be trusted
    than what a model writes."""
    if _deeper_than(args, MAX_RESULT_DEPTH):
        return f"the arguments nest deeper than {MAX_RESULT_DEPTH} levels"
    if _names_secret(args):
        return "arguments cannot name secrets"
    if not allows(given.tools, server, tool):
        return f"the tool {server}/{tool} is not allowed here"[:500]
    return _bad_built_in(given, tool, args) if server == BUILT_IN else ""


def _deeper_than(value: Any, levels: int) -> bool:
    """Level by level, so that no depth is too deep to be looked at."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [inner for one in layer if isinstance(one, (dict, list)) for inner in _within(one)]
        if not layer:
            return False
    return True


def _within(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _names_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return ("secret" in value and len(value) == 1) or any(map(_names_secret, value.values()))
    return isinstance(value, list) and any(map(_names_secret, value))


def _bad_built_in(given: GoalInput, tool: str, args: Mapping[str, Any]) -> str:
    """Submitting leads to no kind that would do what another tool is needed for."""
    if tool == "workflow":
        if unknown := sorted(set(args) - _WORKFLOW_FIELDS):
            return f"{unknown[0]!r} is no argument of the tool workflow"[:200]
        named = args.get("workflow")
        valid = isinstance(named, str) and is_valid_id(named) and isinstance(args.get("variables", {}), dict)
        return "" if valid else "name a stored workflow by its id, and give its variables as an object"
    if tool != "submit":
        return ""
    if unknown := sorted(set(args) - _SUBMIT_FIELDS):
        return f"{unknown[0]!r} is no argument of the tool submit"[:200]
    kind = args.get("kind") or "query"
    if not isinstance(kind, str) or kind in _NEVER_SUBMITTED:
        return f"tasks of kind {kind!r} cannot be submitted by a goal"[:200]
    if kind in _GUARDED and not allows(given.tools, BUILT_IN, _GUARDED[kind]):
        return f"tasks of kind {kind} are not allowed here: they need the tool {BUILT_IN}/{_GUARDED[kind]}"
    return ""


def task_of(given: GoalInput, server: str, tool: str, args: dict[str, Any]) -> dict[str, Any]:
    """The fields of the task that a call becomes; the call has been checked."""
    fields = _built_in(given, tool, args) if server == BUILT_IN else _of_server(given, server, tool, args)
    known: dict[str, Any] = {
        "kind": "query",
        "input": {},
        "query": "",
        "name": f"{server}/{tool}"[:200],
        "executor_id": None,
    }
    queue = DEFAULT_QUEUE if fields.get("executor_id") else given.queue
    return {**known, "queue": queue, **fields, "retry": tool_retry(is_idempotent(given, server, tool, args))}


def result_of(server: str, tool: str, value: Any) -> Any:
    """What a tool gave, out of the answer of its task: a command's output, an MCP tool's result."""
    field = "result" if server != BUILT_IN else "text" if tool == "shell" else ""
    return value.get(field, value) if isinstance(value, dict) and field else value


def is_idempotent(given: GoalInput, server: str, tool: str, args: Mapping[str, Any]) -> bool:
    """Whether the call may be made again when nobody knows whether it was made."""
    allowed = given.tools.get(server)
    if allowed is not None and tool in allowed.idempotent:
        return True
    if server != BUILT_IN:
        return False
    return tool == "sql" or (tool == "http" and args.get("method", "GET") in _SAFE_METHODS)


def _of_server(given: GoalInput, server: str, tool: str, args: dict[str, Any]) -> dict[str, Any]:
    allowed = given.tools[server]
    pinned = {server: {"tools": None if allowed.tools is None else list(allowed.tools), "idempotent": []}}
    pinned[server]["idempotent"] = list(allowed.idempotent)
    return {"kind": "tool", "input": {"server": server, "tool": tool, "args": args, "allowed": pinned}}


def _built_in(given: GoalInput, tool: str, args: dict[str, Any]) -> dict[str, Any]:
    if tool == "submit":
        fields = {name: value for name, value in args.items() if name in _SUBMIT_FIELDS}
        return {**fields, "executor_id": given.agent_id or None if fields.get("kind") == "shell" else None}
    if tool == "workflow":
        return {"kind": WORKFLOW, "input": {"workflow": args["workflow"], "variables": args.get("variables", {})}}
    return {"kind": tool, "input": args, "executor_id": given.agent_id or None if tool == "shell" else None}
