"""CloudEvents 1.0 in the Kafka binding: binary mode (``ce_*`` headers), structured mode accepted on input.

Source: cloudevents/spec, ``kafka-protocol-binding.md`` (v1.0.2). ``traceparent`` travels as a plain header (W3C).
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from taskloom.wire.errors import WireError

Headers = Sequence[tuple[str, bytes]]

MAX_ATTRIBUTE_CHARS: Final = 1024
"""Ids and names of a message travel on with every event that it leads to."""

GATEWAY_SOURCE: Final = "/taskloom/gateway"
"""Commands from there were validated against the rules of the Kafka door before they were acknowledged."""

ORCHESTRATOR_SOURCE: Final = "/taskloom/orchestrator"

STRUCTURED: Final = b"application/cloudevents+json"
_JSON: Final = ("content-type", b"application/json")
_SPECVERSION: Final = ("ce_specversion", b"1.0")


class Attributes(Struct, frozen=True):
    """Attributes of a message. Extensions of ours: tenant, actor, the API key that the actor called with, correlation
    and where the reply goes."""

    id: str
    type: str
    source: str = ""
    subject: str = ""
    time: datetime | None = None
    tenant_id: str = "default"
    actor: str = ""
    correlation_id: str = ""
    reply_to: str = ""
    traceparent: str = ""
    key_id: str = ""


_READ: Final = ("ce_", "trace")
_NAMES: Final = (
    ("ce_source", "source"),
    ("ce_subject", "subject"),
    ("ce_tenantid", "tenant_id"),
    ("ce_actor", "actor"),
    ("ce_keyid", "key_id"),
    ("ce_correlationid", "correlation_id"),
    ("ce_replyto", "reply_to"),
    ("traceparent", "traceparent"),
)


def to_headers(attributes: Attributes) -> list[tuple[str, bytes]]:
    """Kafka headers of a binary-mode message; empty attributes are left out."""
    headers = [_SPECVERSION, _JSON, ("ce_id", attributes.id.encode()), ("ce_type", attributes.type.encode())]
    if attributes.time is not None:
        headers.append(("ce_time", attributes.time.isoformat().encode()))
    for header, name in _NAMES:
        value = getattr(attributes, name)
        if value:
            headers.append((header, value.encode()))
    return headers


def read(headers: Headers, value: bytes | None) -> tuple[Attributes, bytes]:
    """Attributes and data of a record in binary or structured mode.

    Raises:
        WireError: no CloudEvent: an attribute is missing or wrong, named by ``field``.
    """
    found: dict[str, str] = {}
    fault: UnicodeDecodeError | None = None
    for given, content in headers:
        name = given.lower()
        if name.startswith(_READ):
            try:
                found[name] = content.decode() if content else ""  # Kafka knows headers without a value.
            except UnicodeDecodeError as error:
                fault = error
        elif name == "content-type" and content and content.startswith(STRUCTURED):
            return _read_structured({name.lower(): content or b"" for name, content in headers}, value or b"")
    if fault is not None:
        raise WireError("a header is not UTF-8 text", field="headers") from fault
    return _attributes(found), value or b""


def asked_by(headers: Headers, value: bytes | None, *, fallback_id: str) -> Attributes | None:
    """Whom to answer about a record that cannot be read as a whole; None when it does not say where replies go.

    Never raises. ``fallback_id`` stands in for a missing id; what is too long is left out.
    """
    table = {name.lower(): (content or b"").decode("utf-8", "replace") for name, content in headers}
    if table.get("content-type", "").startswith(STRUCTURED.decode()):
        try:
            envelope: Any = msgspec.json.decode(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if isinstance(envelope, dict):
            table |= {f"ce_{name}": text for name, text in envelope.items() if isinstance(text, str)}
    known: dict[str, Any] = {
        field: text for name, field in _NAMES if 0 < len(text := table.get(name, "")) <= MAX_ATTRIBUTE_CHARS
    }
    if "reply_to" not in known:
        return None
    command_id = table.get("ce_id", "")
    if not 0 < len(command_id) <= MAX_ATTRIBUTE_CHARS:
        command_id = fallback_id
    return Attributes(id=command_id, type=table.get("ce_type", "")[:MAX_ATTRIBUTE_CHARS], **known)


def _read_structured(table: Mapping[str, bytes], value: bytes) -> tuple[Attributes, bytes]:
    try:
        envelope: Any = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the CloudEvent is not JSON: {error}", field="$") from error
    if not isinstance(envelope, dict):
        raise WireError("the CloudEvent is not a JSON object", field="$")
    found = {f"ce_{name}": text for name, text in envelope.items() if isinstance(text, str) and name != "data"}
    found["traceparent"] = found.get("ce_traceparent") or table.get("traceparent", b"").decode("ascii", "replace")
    return _attributes(found), _data(envelope)


def _data(envelope: dict[str, Any]) -> bytes:
    if "data_base64" not in envelope:
        return msgspec.json.encode(envelope.get("data", {}))
    try:
        return b64decode(envelope["data_base64"], validate=True)
    except (TypeError, ValueError) as error:
        raise WireError(f"the data is not base64: {error}", field="data_base64") from error


def _attributes(found: Mapping[str, str]) -> Attributes:
    if found.get("ce_specversion", "1.0") != "1.0":
        raise WireError(
            f"CloudEvents version {found['ce_specversion']!r} is not known; send 1.0", field="ce_specversion"
        )
    if not found.get("ce_type"):
        raise WireError(
            "the attribute is missing: send the message's type, for example taskloom.task.submit.v1", field="ce_type"
        )
    for header, text in found.items():
        if len(text) > MAX_ATTRIBUTE_CHARS:
            raise WireError(
                f"the attribute has {len(text)} characters, {MAX_ATTRIBUTE_CHARS} are allowed", field=header
            )
    time = found.get("ce_time")
    try:
        at = datetime.fromisoformat(time) if time else None
    except ValueError as error:
        raise WireError(f"{time!r} is not an RFC 3339 time", field="ce_time") from error
    get = found.get
    return Attributes(
        id=get("ce_id", ""),
        type=found["ce_type"],
        source=get("ce_source", ""),
        subject=get("ce_subject", ""),
        time=at if at is None or at.tzinfo else None,
        tenant_id=get("ce_tenantid") or "default",
        actor=get("ce_actor", ""),
        correlation_id=get("ce_correlationid", ""),
        reply_to=get("ce_replyto", ""),
        traceparent=get("traceparent", ""),
        key_id=get("ce_keyid", ""),
    )
