"""The base of every error that Taskloom raises."""


class TaskloomError(Exception):
    """Something in Taskloom went wrong; subclasses say what, their docstring is the default message."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])
