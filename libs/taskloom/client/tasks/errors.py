"""What the task API can fail with, beside the client's own errors."""

from uuid import UUID

from taskloom.client.errors import ClientError


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
