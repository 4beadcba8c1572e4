"""What can go wrong when everything runs on this machine."""

from taskloom.errors import TaskloomError


class LocalError(TaskloomError):
    """The embedded system cannot run."""


class HomeBusy(LocalError):
    """Another supervisor uses this home directory."""


class PortBusy(LocalError):
    """The HTTP port is taken."""


class JarsUnavailable(LocalError):
    """Kafka's jars could not be fetched."""


class StartFailed(LocalError):
    """A process ended, or was not ready in time."""
