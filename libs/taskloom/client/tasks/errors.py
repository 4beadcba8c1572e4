"""What the task API can fail with, beside the client's own errors."""

from uuid import UUID

from taskloom.client.errors import ClientError, Refused


class NotOffered(ClientError, NotImplementedError):
    """The server has no route for this yet. ``route`` names what is missing."""

    def __init__(self, wish: str, route: str) -> None:
        self.route = route
        super().__init__(f"{wish}: this server does not offer {route}")


class BadDependency(ClientError, ValueError):
    """A task depends on one that does not exist, or on itself."""


class CircularDependencyError(ClientError, ValueError):
    """Tasks wait for each other. ``cycle`` begins and ends with the same id."""

    def __init__(self, cycle: list[UUID]) -> None:
        self.cycle = cycle
        super().__init__("circular dependency: " + " -> ".join(map(str, cycle)))


class AgentError(ClientError):
    """The agent cannot be registered."""


def dependency_fault(refused: Refused) -> NotOffered | BadDependency | None:
    """What a refused submission says of its dependencies; None when it was refused for something else."""
    if not refused.field.startswith("depends_on"):
        return None
    if "unknown field" in str(refused):
        return NotOffered("create a task with dependencies", "the field depends_on of POST /api/v1/tasks")
    return BadDependency(str(refused))
