"""An MCP server with tools for log files below one directory: what the demo's goal works with.

``python -m taskloom.cli.demo.log_tools DIRECTORY`` serves it over stdin and stdout.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

ERROR: Final = " ERROR "
MESSAGE_FIELD: Final = 9
"""A line's message is what follows this many fields (see ``log_file``)."""

HOUR: Final = slice(11, 13)
_READS: Final = ToolAnnotations(readOnlyHint=True, idempotentHint=True)
_WRITES_THE_SAME: Final = ToolAnnotations(idempotentHint=True)


class OutOfReach(ValueError):
    """A path leaves the directory that the tools may use."""


class LogTools:
    """Every method raises ``OutOfReach`` for a path outside ``directory``, ``OSError`` where a file cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    def frequent_errors(
        self,
        path: Annotated[str, Field(description="The log file")],
        top: Annotated[int, Field(description="How many messages", ge=1, le=100)] = 5,
    ) -> list[dict[str, Any]]:
        """Finds the most frequent errors in a log file: ``[{message, count}]``, the most frequent first."""
        counts = Counter(message for _, message in self._errors(path))
        return [{"message": message, "count": count} for message, count in counts.most_common(top)]

    def group_by_hour(
        self,
        path: Annotated[str, Field(description="The log file")],
        errors: Annotated[list[dict[str, Any]], Field(description="The errors to group: [{message}]")],
    ) -> list[dict[str, Any]]:
        """Groups errors of a log file by hour: ``[{hour, errors: {message: count}}]`` in the order of the day."""
        wanted = {str(error["message"]) for error in errors}
        hours: dict[str, Counter[str]] = {}
        for hour, message in self._errors(path):
            if message in wanted:
                hours.setdefault(hour, Counter())[message] += 1
        return [{"hour": f"{hour}:00", "errors": dict(hours[hour].most_common())} for hour in sorted(hours)]

    def write_report(
        self,
        path: Annotated[str, Field(description="The file to write, Markdown")],
        content: Annotated[list[dict[str, Any]], Field(description="Rows of the report: hours with their errors")],
        title: Annotated[str, Field(description="Its heading")] = "Errors by hour",
    ) -> dict[str, Any]:
        """Writes a report as a Markdown table: ``{path, hours, errors}``. The same content gives the same file."""
        messages = sorted({message for row in content for message in row["errors"]})
        lines = [f"# {title}", "", f"| hour | {' | '.join(messages)} |", "| --- " * (len(messages) + 1) + "|"]
        for row in content:
            counts = " | ".join(str(row["errors"].get(message, 0)) for message in messages)
            lines.append(f"| {row['hour']} | {counts} |")
        target = self._within(path)
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        total = sum(sum(row["errors"].values()) for row in content)
        return {"path": str(target), "hours": len(content), "errors": total}

    def _errors(self, path: str) -> Iterator[tuple[str, str]]:
        """Hour and message of each error."""
        with self._within(path).open(encoding="utf-8", errors="replace") as log:
            for line in log:
                if ERROR in line:
                    yield line[HOUR], line.rstrip("\n").split(" ", MESSAGE_FIELD)[MESSAGE_FIELD]

    def _within(self, path: str) -> Path:
        found = (self._directory / path).resolve()
        if not found.is_relative_to(self._directory):
            raise OutOfReach(f"{path!r} is outside the directory of these tools")
        return found


def server(directory: Path) -> MCPServer:
    tools = LogTools(directory)
    made = MCPServer("logs", instructions="Tools for log files")
    for tool, hints in (
        (tools.frequent_errors, _READS),
        (tools.group_by_hour, _READS),
        (tools.write_report, _WRITES_THE_SAME),
    ):
        made.tool(annotations=hints)(tool)
    return made


if __name__ == "__main__":
    server(Path(sys.argv[1])).run("stdio")
