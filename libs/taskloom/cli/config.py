"""`taskloom config`: every setting there is."""

import json
import os
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, Final, NamedTuple

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from taskloom.settings import PREFIX

SOURCES: Final = {
    "up": ("taskloom.local.settings", "LocalSettings"),
    "gateway": ("services.gateway.settings", "GatewaySettings"),
    "orchestrator": ("services.orchestrator.settings", "OrchestratorSettings"),
    "executor": ("services.executor.settings", "ExecutorSettings"),
    "agent": ("services.executor.link.settings", "AgentSettings"),
    "projection": ("services.projection.settings", "ProjectionSettings"),
}
_SECRET_NAME: Final = re.compile(r"(secret|token|password|api_?keys?)$")
_DSN_PASSWORD: Final = re.compile(r"(://[^:/@\s]*:)[^@\s]+(@)|(password=)\S+")


TABLE_FROM: Final = 140
"""Columns of a terminal that the table needs."""


class Setting(NamedTuple):
    """One environment variable of one or several services; ``value`` is None where it is not set."""

    variable: str
    used_by: str
    default: str
    value: str | None
    description: str


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
) -> None:
    """Print every setting: environment variable, who reads it, default, value, unit and meaning. Secrets are masked."""
    found = settings()
    if as_json:
        for setting in found:
            print(json.dumps(setting._asdict()))
        return
    out = Console()
    out.print(_table(found) if out.width >= TABLE_FROM else _lines(found))


def _table(found: list[Setting]) -> Table:
    table = Table("variable", "used by", "default", "set to", "meaning", show_lines=False)
    for setting in found:
        table.add_row(setting.variable, setting.used_by, setting.default, setting.value or "", setting.description)
    return table


def _lines(found: list[Setting]) -> Group:
    """For terminals in which the table's columns would be a few letters wide."""
    parts: list[RenderableType] = []
    for setting in found:
        value = f" = {setting.value}" if setting.value else ""
        parts.append(Text.assemble((setting.variable, "bold"), value, (f"  ({setting.used_by})", "dim")))
        default = f" Default: {setting.default}" if setting.default else ""
        parts.append(Padding(Text.assemble(setting.description, (default, "dim")), (0, 0, 0, 2)))
    return Group(*parts)


def settings() -> list[Setting]:
    """All settings; what several services share with one default and meaning stands once, sorted by variable."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    values: dict[str, str | None] = {}
    for service, variable, default, description, value in _all():
        merged.setdefault((variable, default, description), []).append(service)
        values[variable] = value
    return sorted(
        Setting(variable, "all" if len(services) == len(SOURCES) - 1 and "up" not in services else ", ".join(services),
                default, values[variable], description)
        for (variable, default, description), services in merged.items()
    )  # fmt: skip


def _all() -> Iterator[tuple[str, str, str, str, str | None]]:
    for service, (module, name) in SOURCES.items():
        if find_spec(module) is None:
            continue
        cls: type[BaseSettings] = getattr(import_module(module), name)
        for field, info in cls.model_fields.items():
            variable = f"{PREFIX}{field}".upper()
            value = os.environ.get(variable)
            yield service, variable, _default(field, info), info.description or "", _masked(field, info, value)


def _default(field: str, info: FieldInfo) -> str:
    if info.default_factory is not None:
        return "(worked out at start)"
    if info.default is PydanticUndefined:
        return "(required)"
    return _masked(field, info, "" if info.default is None else str(info.default)) or ""


def _masked(field: str, info: FieldInfo, value: str | None) -> str | None:
    if not value:
        return value
    if _SECRET_NAME.search(field) or _holds_secret(info.annotation):
        return "********"
    return _DSN_PASSWORD.sub(lambda found: f"{found[1] or found[3]}********{found[2] or ''}", value)


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())
