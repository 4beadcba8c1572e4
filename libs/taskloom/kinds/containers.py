"""What the kind ``docker`` takes as ``input``."""

import posixpath
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from taskloom.kinds.api import Text
from taskloom.kinds.files import Files, Misfit, Patterns, check_files

WORKSPACE: Final = "/workspace"
"""Directory of files and artifacts in the container."""

MAX_TEXT: Final = 1024
MAX_COMMAND: Final = 64 * 1024
_Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
_Command = Annotated[str, Meta(min_length=1, max_length=MAX_COMMAND)]
_WORD = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/)?"
_IMAGE = rf"^{_HOST}{_WORD}(?:/{_WORD})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?$"
"""As Docker's own grammar of references."""

_Path = Annotated[str, Meta(pattern=r"^/[^\x00]*$", max_length=4096)]


class DockerMount(Struct, frozen=True, forbid_unknown_fields=True):
    """A directory or file of the executor's host, in the container. The executor's settings say which may be."""

    source: _Path
    target: _Path
    read_only: bool = True


class DockerLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """CPU in cores, memory in MiB (swap included), processes and threads. The executor's settings may be lower."""

    cpu: Annotated[float, Meta(gt=0, le=4096)] | None = None
    memory_mb: Annotated[int, Meta(ge=6)] | None = None
    pids: Annotated[int, Meta(ge=1)] | None = None


class DockerInput(Struct, frozen=True, forbid_unknown_fields=True):
    """``run`` takes an ``image``, the other operations the ``id`` (or name) of a container.

    ``command``: a text runs under ``/bin/sh -c`` in the container, a list as it is; without it the image's own runs.
    ``stdin`` is text. ``files`` are put into ``/workspace`` before it starts, ``artifacts`` are patterns of files below
    it that are kept when it has ended; with one of them ``/workspace`` is where the command runs, unless ``cwd`` says.
    ``pull``: never, missing (default: only when the host does not have the image), always.
    ``detach`` (run): the container outlives the task; it is started, stopped and read by its id.
    ``tail`` (logs): only so many last lines; ``follow``: until the container ends.
    ``grace_s`` (stop): seconds between SIGTERM and SIGKILL.
    """

    operation: Literal["run", "start", "stop", "logs"]
    image: Annotated[str, Meta(pattern=_IMAGE, max_length=512)] | None = None
    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=256)] | None = None
    command: _Command | list[str] | None = None
    entrypoint: list[str] | None = None
    env: dict[str, Text] = {}
    stdin: str = ""
    files: Files = []
    artifacts: Patterns = []
    cwd: _Path | None = None
    user: _Text | None = None
    mounts: Annotated[list[DockerMount], Meta(max_length=64)] = []
    limits: DockerLimits = DockerLimits()
    network: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=128)] | None = None
    pull: Literal["never", "missing", "always"] = "missing"
    detach: bool = False
    tail: Annotated[int, Meta(ge=0)] | None = None
    follow: bool = False
    grace_s: Annotated[int, Meta(ge=0, le=600)] = 10

    @property
    def has_workspace(self) -> bool:
        return bool(self.files or self.artifacts)


_ONLY_OF_RUN: Final = (
    *("command", "entrypoint", "env", "stdin", "files", "artifacts", "cwd", "user", "mounts", "limits", "network"),
    "detach",
)


def check(wished: DockerInput) -> None:
    """
    Raises:
        Misfit: a field is missing, belongs to another operation, or does not go with another one.
    """
    operation = wished.operation
    needed, other = ("image", "id") if operation == "run" else ("id", "image")
    if getattr(wished, needed) is None:
        raise Misfit(needed, f"the operation {operation} needs it")
    if getattr(wished, other) is not None:
        raise Misfit(other, f"the operation {operation} takes {needed}, not {other}")
    defaults = DockerInput(operation)
    for field in () if operation == "run" else _ONLY_OF_RUN:
        if getattr(wished, field) != getattr(defaults, field):
            raise Misfit(field, f"the operation {operation} does not take it, only run does")
    for field in ("stdin", "artifacts") if wished.detach else ():
        if getattr(wished, field):
            raise Misfit(field, "a detached container outlives its task, so it takes none")
    check_files(wished.files, wished.artifacts)
    for place, mount in enumerate(wished.mounts if wished.has_workspace else ()):
        target = posixpath.normpath(mount.target)
        if target in ("/", WORKSPACE) or target.startswith(f"{WORKSPACE}/"):
            raise Misfit(f"mounts[{place}].target", f"{WORKSPACE} is the place of files and artifacts; choose another")
