"""Tool servers of a tenant: MCP servers whose tools its tasks may call. A stdio server is a command that an executor
starts, where that executor's operator allows the command; an http server is an address."""

import re
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, structs

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import (
    RemoveToolServer,
    SaveToolServer,
    ToolServerCommand,
    ToolServerSpec,
)
from taskloom.domain.entities.events import ToolServerEvent, ToolServerRemoved, ToolServerSaved
from taskloom.domain.envelope import Recorded
from taskloom.domain.refusals import Refusal

BUILT_IN: Final = "taskloom"
"""The name of the server whose tools are the built-in kinds."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_MEANINGFUL: Final = re.compile(
    r"PATH|HOME|IFS|ENV|BASH_.*|LD_.*|DYLD_.*|GCONV_PATH|PYTHON.*|NODE_.*|NPM_.*|UV_.*|PIP_.*|PERL.*|RUBY.*|JAVA_.*"
    r"|JDK_.*|GIT_.*|TASKLOOM_.*"
)
"""Variables that decide which program runs, whatever the command says, and those that are ours."""

_PROTOCOL: Final = frozenset({"host", "content-length", "content-type", "accept", "connection", "transfer-encoding"})


class ToolServer(Struct, frozen=True, omit_defaults=True, tag="tool-server"):
    spec: ToolServerSpec
    removed: bool = False

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"enabled": self.spec.enabled, "removed": self.removed}


def decide(state: ToolServer | None, command: ToolServerCommand, asked: Asked) -> list[ToolServerEvent] | Refusal:
    if isinstance(command, RemoveToolServer):
        if state is None or state.removed:
            return Refusal("not_found", f"there is no tool server {asked.name!r}")
        return [ToolServerRemoved(command.reason)]
    if command.expected_version is not None and command.expected_version != asked.version:
        return Refusal("conflict", f"the tool server is at version {asked.version}", "expected_version")
    if not _NAME.fullmatch(asked.name) or asked.name == BUILT_IN:
        told = f"a tool server's name has 1 to 64 of A-Z a-z 0-9 _ - and is not {BUILT_IN!r}"
        return Refusal("invalid", told, "name")
    if refusal := _refusal(command):
        return refusal
    if state is not None and not state.removed and state.spec == command.spec:
        return []
    return [ToolServerSaved(command.spec)]


def _refusal(command: SaveToolServer) -> Refusal | None:
    spec = command.spec
    if spec.transport == "stdio":
        if not spec.command or not spec.command[0]:
            return Refusal("invalid", "a stdio server needs its command, as a list of words", "command")
        if spec.url or spec.headers:
            field = "url" if spec.url else "headers"
            return Refusal("invalid", "a stdio server has neither url nor headers", field)
    else:
        if spec.command or spec.env:
            field = "command" if spec.command else "env"
            return Refusal("invalid", "an http server has neither command nor env", field)
        if not _is_url(spec.url):
            return Refusal("invalid", f"{spec.url!r} is not a URL with http or https, without user and fragment", "url")
    return _refused_names(spec) or _refused_values(spec)


def _refused_names(spec: ToolServerSpec) -> Refusal | None:
    for name in spec.env:
        if not _VARIABLE.fullmatch(name):
            return Refusal("invalid", f"{name!r} is not the name of a variable", "env")
        if _MEANINGFUL.fullmatch(name):
            told = f"{name} may decide what runs, or is Taskloom's own: the executor's operator sets it"
            return Refusal("invalid", told, f"env.{name}")
    for name in spec.headers:
        if not _HEADER.fullmatch(name):
            return Refusal("invalid", f"{name!r} is not the name of a header", "headers")
        if name.lower() in _PROTOCOL or name.lower().startswith("mcp-"):
            return Refusal("invalid", f"{name} is the protocol's own header", f"headers.{name}")
    return None


def _refused_values(spec: ToolServerSpec) -> Refusal | None:
    for place, word in enumerate(spec.command):
        if "\0" in word:
            return Refusal("invalid", "a word of a command has no NUL character", f"command[{place}]")
    for root, values in (("env", spec.env), ("headers", spec.headers)):
        for name, value in values.items():
            if isinstance(value, str) and any(sign in value for sign in "\0\r\n"):
                return Refusal("invalid", "a value has no line ends and no NUL character", f"{root}.{name}")
    return None


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url and "@" not in parts.netloc and not parts.fragment
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def evolve(state: ToolServer | None, event: ToolServerEvent, _recorded: Recorded) -> ToolServer:
    if isinstance(event, ToolServerSaved):
        return ToolServer(event.spec)
    assert state is not None
    return structs.replace(state, removed=True)


def as_json(spec: ToolServerSpec) -> dict[str, Any]:
    """All fields; secrets only as references, which is all that is known of them here."""
    return {name: msgspec.to_builtins(getattr(spec, name)) for name in spec.__struct_fields__}
