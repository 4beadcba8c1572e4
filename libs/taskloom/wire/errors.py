"""What can be wrong with bytes from outside."""

from taskloom.errors import TaskloomError


class WireError(TaskloomError):
    """The record cannot be read."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
