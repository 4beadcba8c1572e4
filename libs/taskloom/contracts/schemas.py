"""JSON Schema of every message that crosses a process border, by its place in ``contracts/``."""

import inspect
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from taskloom.bus.channels import CHANNELS, type_of
from taskloom.domain.entities.commands import ENTITY_CLIENT_COMMANDS
from taskloom.domain.entities.events import ENTITY_EVENTS
from taskloom.domain.envelope import EventMeta
from taskloom.domain.task.commands import ClientCommand, Report
from taskloom.domain.task.events import TaskEvent
from taskloom.wire.recorded import EntityMeta

Json = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_HASH: Final[Json] = {
    "type": "string",
    "pattern": "^[0-9a-f]{64}$",
    "description": "SHA-256 over the previous event's hash (32 bytes) and this JSON without the field",
}


_FOLDERS: Final = {
    "commands": (*get_args(ClientCommand), *ENTITY_CLIENT_COMMANDS),
    "reports": get_args(Report),
    "events": (*get_args(TaskEvent), *ENTITY_EVENTS),
}


def folder_of(message: type[Struct]) -> str:
    """``commands``, ``reports``, ``events`` or ``messages``."""
    for folder, known in _FOLDERS.items():
        if message in known:
            return folder
    return "messages"


def path_of(message: type[Struct]) -> str:
    """Place of a message's schema below ``contracts/``, for example ``events/taskloom.task.queued.v1.json``."""
    return f"{folder_of(message)}/{type_of(message)}.json"


def message_schemas() -> dict[str, Json]:
    """Schemas by their path below ``contracts/``."""
    messages = dict.fromkeys(message for channel in CHANNELS for message in channel.messages)
    return {path_of(message): schema_of(message) for message in messages}


def schema_of(message: type[Struct]) -> Json:
    """Schema of a message's JSON as it stands on its topic; an event's has its envelope and hash."""
    body, definitions = _own(message)
    folder = folder_of(message)
    if folder == "events":
        envelope, more = _own(EntityMeta if message in ENTITY_EVENTS else EventMeta)
        definitions = {**more, **definitions}
        body["properties"] = {**envelope["properties"], **body["properties"], "hash": _HASH}
        body["required"] = [*envelope.get("required", []), *body.get("required", []), "hash"]
    elif folder in ("commands", "reports"):
        # The header ce_type says it; the data may say it too.
        body["required"] = [name for name in body.get("required", []) if name != "type"]
    schema = {"$schema": DIALECT, "$id": f"urn:taskloom:{type_of(message)}", **body}
    if definitions:
        schema["$defs"] = definitions
    cleaned: Json = _clean(schema)
    return cleaned


def _own(message: type[Struct]) -> tuple[Json, Json]:
    """The struct's own schema, and those it refers to."""
    _, definitions = msgspec.json.schema_components([message], ref_template="#/$defs/{name}")
    return definitions.pop(message.__name__), definitions


def _clean(value: Any, name: str = "") -> Any:
    """Docstrings without the code's indentation; ``…_at`` is a time (msgspec says so of aware ones only)."""
    if isinstance(value, list):
        return [_clean(item, name) for item in value]
    if not isinstance(value, dict):
        return inspect.cleandoc(value) if name == "description" and isinstance(value, str) else value
    cleaned = {key: _clean(item, name if key == "anyOf" else key) for key, item in value.items()}
    if (name == "at" or name.endswith("_at")) and cleaned.get("type") == "string":
        cleaned.setdefault("format", "date-time")
    return cleaned
