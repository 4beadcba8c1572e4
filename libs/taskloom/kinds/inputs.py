"""What each built-in kind takes as ``input``. Pure: the gateway asks it for a 400 that names ``input.cmd``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from taskloom.domain.tools import Allowance
from taskloom.domain.values import Text256
from taskloom.errors import TaskloomError
from taskloom.kinds.api import Limits, Text
from taskloom.kinds.containers import DockerInput
from taskloom.kinds.containers import check as check_container
from taskloom.kinds.files import Files, Misfit, Patterns, check_files

MAX_SLEEP_S: Final = 366 * 86_400
T = TypeVar("T")


class InvalidInput(TaskloomError):
    """The input of a task does not fit its kind; ``field`` is the path, for example ``input.cmd``."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class EchoInput(Struct, frozen=True):
    """Anything; it comes back as the result. ``fail_times``: so many first attempts fail (retryable)."""

    fail_times: Annotated[int, Meta(ge=0)] = 0


class SleepInput(Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[float, Meta(ge=0, le=MAX_SLEEP_S)]


class ShellInput(Struct, frozen=True, forbid_unknown_fields=True):
    """``cmd`` runs under ``bash -c``; ``env`` is added to the executor's environment; ``stdin`` is text. ``user``: one
    of those that the executor's settings allow.

    ``files`` are put into the directory before, ``artifacts`` are patterns of files in it that are kept after. With one
    of them and no ``cwd``, the attempt has a directory of its own, which goes with it.
    """

    cmd: Annotated[str, Meta(min_length=1)]
    env: dict[str, Text] = {}
    cwd: Annotated[str, Meta(min_length=1)] | None = None
    stdin: str = ""
    limits: Limits = Limits()
    user: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    files: Files = []
    artifacts: Patterns = []


class PythonInput(Struct, frozen=True, forbid_unknown_fields=True):
    """``function`` is the registered name, ``module:name``."""

    function: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", max_length=256)]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class HttpInput(Struct, frozen=True, forbid_unknown_fields=True):
    """``expect_status``: which status is a success, one or a list; without it any 2xx or 3xx."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+", max_length=8192)]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, Text] = {}
    json: Any = msgspec.UNSET
    body: str | None = None
    expect_status: int | list[int] | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    follow_redirects: bool = True


class ToolInput(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool of an MCP server that the tenant has registered. ``allowed``: the tools that may be called at all, None
    for all that the registration lets through. Without ``tool``: which tools there are."""

    server: Annotated[str, Meta(min_length=1, max_length=64)]
    tool: Text256 = ""
    args: dict[str, Any] = {}
    allowed: Allowance | None = None


class SqlInput(Struct, frozen=True, forbid_unknown_fields=True):
    """One statement that reads, with ``$1``, ``$2`` for ``parameters``. ``database``: one of those that the executor's
    settings name; it may be left out where there is only one."""

    query: Annotated[str, Meta(min_length=1, max_length=256 * 1024)]
    parameters: Annotated[list[Any], Meta(max_length=1000)] = []
    database: Annotated[str, Meta(max_length=64)] = ""
    max_rows: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0


class QueryContext(Struct, frozen=True):
    """Part of a query's ``context`` that the offline assistant reads: how long it takes."""

    sleep_seconds: Annotated[float, Meta(ge=0, le=MAX_SLEEP_S)] = 0.0


INPUTS: Final[dict[str, type[Struct]]] = {
    "echo": EchoInput,
    "sleep": SleepInput,
    "shell": ShellInput,
    "python": PythonInput,
    "http": HttpInput,
    "docker": DockerInput,
    "tool": ToolInput,
    "sql": SqlInput,
}


def read(model: type[T], value: Mapping[str, Any], *, root: str = "input") -> T:
    """``value`` as a ``model``.

    Raises:
        InvalidInput: it does not fit; the field's path starts with ``root``.
    """
    try:
        return msgspec.convert(value, model)
    except msgspec.ValidationError as error:
        message, field = _explain(error, root)
        raise InvalidInput(f"{field}: {message}", field) from error


def validate(kind: str, input: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> None:  # noqa: A002
    """Checks ``input`` (and a query's ``context``) of a built-in kind; other kinds' inputs are their handlers' matter.

    Raises:
        InvalidInput: names the field, for example ``input.cmd`` or ``context.sleep_seconds``.
    """
    model = INPUTS.get(kind)
    if model is not None:
        checked = read(model, input)
        if isinstance(checked, HttpInput) and checked.json is not msgspec.UNSET and checked.body is not None:
            raise InvalidInput("input.body: send either json or body, not both", "input.body")
        if isinstance(checked, ShellInput):
            check_shell(checked)
        if isinstance(checked, DockerInput):
            check_docker(checked)
    elif kind == "query" and context:
        read(QueryContext, context, root="context")


def check_shell(wished: ShellInput) -> None:
    """
    Raises:
        InvalidInput: a path leads out of the directory, or a file has not exactly one content.
    """
    with _named():
        check_files(wished.files, wished.artifacts)


def check_docker(wished: DockerInput) -> None:
    """
    Raises:
        InvalidInput: its fields do not go together; names the one that is missing or too many.
    """
    with _named():
        check_container(wished)


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except Misfit as misfit:
        field = f"input.{misfit.field}"
        raise InvalidInput(f"{field}: {misfit.message}", field) from misfit


def schema(kind: str) -> dict[str, Any] | None:
    """JSON Schema of a built-in kind's input, or None for a kind that takes any object."""
    model = INPUTS.get(kind)
    return None if model is None else msgspec.json.schema(model)


def _explain(error: msgspec.ValidationError, root: str) -> tuple[str, str]:
    message, _, path = str(error).partition(" - at `")
    field = root + path.rstrip("`").removeprefix("$")
    # msgspec names a missing or unknown field in its message, not in its path.
    for opening in ("Object missing required field `", "Object contains unknown field `"):
        if message.startswith(opening):
            return message, f"{field}.{message[len(opening) :].rstrip('`')}"
    return message, field
