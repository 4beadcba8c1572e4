"""Files that commands and containers take and leave, as they stand in an input."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from taskloom.artifacts import BadPath, parts_of
from taskloom.domain.values import Identifier
from taskloom.errors import TaskloomError


class Misfit(TaskloomError):
    """The fields of an input do not go together; ``field`` is the path below ``input``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class InputFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file in the attempt's directory: ``text``, ``data`` (base64), or ``file``: the name of an uploaded one."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    text: str | None = None
    data: bytes | None = None
    file: Identifier | None = None


Files = Annotated[list[InputFile], Meta(max_length=1000)]
Patterns = Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(max_length=100)]


def check_files(files: Sequence[InputFile], artifacts: Sequence[str]) -> None:
    """
    Raises:
        Misfit: a path leads out of the directory, or a file has not exactly one content.
    """
    named = [(f"files[{place}].path", file.path) for place, file in enumerate(files)]
    named += [(f"artifacts[{place}]", pattern) for place, pattern in enumerate(artifacts)]
    for field, path in named:
        try:
            empty = not parts_of(path)
        except BadPath as error:
            raise Misfit(field, str(error)) from error
        if empty:
            raise Misfit(field, "it names no file")
    for place, file in enumerate(files):
        if sum(each is not None for each in (file.text, file.data, file.file)) != 1:
            raise Misfit(f"files[{place}]", "give one of text, data and file")
