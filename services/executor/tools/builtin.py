"""The built-in tools (server ``taskloom``): each is a task of the kind of its name, with its arguments as input.

They are described here for models. What they are called with becomes a task of its own, which is checked as any other.
"""

from collections.abc import Mapping
from typing import Any, Final

from taskloom.domain.entities.tool_servers import BUILT_IN

_TEXTS: Final = {"type": "object", "additionalProperties": {"type": "string"}}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _told(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


TOOLS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "shell": (
        "Runs a command under bash. The result is the end of its standard output (16 KiB); exit code 0 is success.",
        _object(
            ("cmd",),
            cmd=_told("The command, for example: sort access.log | uniq -c", minLength=1),
            cwd=_told("The directory to run it in", minLength=1),
            stdin=_told("Text for its standard input"),
            env={**_TEXTS, "description": "Environment variables to add"},
        ),
    ),
    "http": (
        "Makes one HTTP request. The result has status, headers, url and body, the body as JSON where it is.",
        _object(
            ("url",),
            url=_told("An http or https URL", pattern=r"^https?://[^\s/?#]+"),
            method={"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], "default": "GET"},
            headers=_TEXTS,
            json={"description": "A value to send as JSON"},
            body=_told("Text to send; not together with json"),
            timeout_s={"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "default": 30},
        ),
    ),
    "python": (
        "Calls a Python function that this installation has registered. The result is what it returns.",
        _object(
            ("function",),
            function=_told("Its name, module:name", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"),
            args={"type": "array", "description": "Positional arguments"},
            kwargs={"type": "object", "description": "Arguments by name"},
        ),
    ),
    "sql": (
        "Runs one query against a database, which can only be read. The result has columns and rows.",
        _object(
            ("query",),
            query=_told("One statement of PostgreSQL's SQL, with $1, $2 for parameters", minLength=1),
            parameters={"type": "array", "description": "Values for $1, $2 and so on"},
            database=_told("Its name; may be left out where there is only one"),
            max_rows={"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1000},
        ),
    ),
    "submit": (
        "Runs a task of any kind and waits for its end. The result is the task's response.",
        _object(
            ("kind",),
            kind=_told("The task's kind, for example echo or docker", minLength=1),
            input={"type": "object", "description": "The task's input, as its kind wants it"},
            query=_told("What a task of kind query is asked"),
            name=_told("A name for people"),
        ),
    ),
    "workflow": (
        "Runs a stored workflow and waits for its end. The result is the workflow's output.",
        _object(
            ("workflow",),
            workflow=_told("The name of the stored workflow", minLength=1),
            variables={"type": "object", "description": "Values for its variables"},
        ),
    ),
}
"""By name: description and JSON Schema of the arguments."""

__all__ = ["BUILT_IN", "TOOLS"]
