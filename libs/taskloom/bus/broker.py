"""The topics as a FastStream application, from which the AsyncAPI document is made.

FastStream describes channels, operations, groups and bindings. Payloads are put in from our own JSON Schemas, since
FastStream makes them from pydantic models only (a msgspec struct comes out empty), and its one channel a subscriber and
a publisher is folded into one channel a topic, which AsyncAPI 3 wants. The services themselves read and write in
batches through aiokafka (batches.py, publish.py): FastStream's batch subscriber sleeps 200 ms once more on an empty
poll, and commits past a handler's exception.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI

from taskloom.bus.channels import CHANNELS, type_of

Json = dict[str, Any]

_HEADERS: Final[Json] = {
    "type": "object",
    "description": "CloudEvents 1.0, Kafka binding, binary mode; structured mode is accepted on input.",
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "description": "Of a command: a repeated id changes nothing"},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string"},
        "ce_subject": {"type": "string", "description": "Task id"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_tenantid": {"type": "string", "default": "default"},
        "ce_actor": {"type": "string", "description": "User who wishes it"},
        "ce_correlationid": {"type": "string"},
        "ce_replyto": {"type": "string", "description": "Key that the reply is to have"},
        "traceparent": {"type": "string", "description": "W3C trace context"},
    },
    "required": ["ce_type"],
}


def declared_broker(bootstrap: str = "localhost:9092", prefix: str = "taskloom") -> KafkaBroker:
    """A broker with every reader and writer of every topic. It describes; it is not started."""
    broker = KafkaBroker(bootstrap)
    for channel in CHANNELS:
        topic = f"{prefix}.{channel.name}"
        for writer in channel.writers:
            broker.publisher(topic, title=f"{writer}-sends-{channel.name}", description=channel.why)
        for reader in channel.readers:
            group = f"{prefix}.{reader.group}" if reader.group else None
            subscriber = broker.subscriber(
                topic, group_id=group, title=f"{reader.who}-receives-{channel.name}", description=channel.why
            )
            subscriber(_described)
    return broker


async def _described(message: dict[str, Any]) -> None:
    """Stands in a subscriber's place in the description; services read in batches instead."""


def asyncapi_document(schemas: Mapping[str, Json]) -> Json:
    """AsyncAPI 3.0 document. ``schemas`` are the JSON Schemas by public name, referred to by their place in contracts/.

    The document stands in ``contracts/``; ``schemas`` maps a public name to ``{"$ref": "./commands/…json"}``.
    """
    raw: Json = AsyncAPI(
        declared_broker(),
        title="Taskloom",
        version=version("taskloom"),
        description="Durable tasks on Kafka: commands in, events out. Keys and partitions: see topics.yaml.",
        schema_version="3.0.0",
    ).to_specification().to_jsonable()  # fmt: skip
    server = {**raw["servers"]["development"], "description": "TASKLOOM_KAFKA_BOOTSTRAP"}
    addresses = {name: channel["address"] for name, channel in raw["channels"].items()}
    by_address = {channel["address"]: channel for channel in raw["channels"].values()}
    return {
        "asyncapi": raw["asyncapi"],
        "info": raw["info"],
        "defaultContentType": "application/json",
        "servers": {"kafka": {key: value for key, value in server.items() if value}},
        "channels": {
            channel.name: _channel(channel.name, by_address[f"taskloom.{channel.name}"]) for channel in CHANNELS
        },
        "operations": {
            name: _operation(operation, addresses[name])
            for name, operation in sorted(raw["operations"].items())  # FastStream keeps them in a set
        },
        "components": {"messages": _messages(schemas), "schemas": {"Headers": _HEADERS}},
    }


def _channel(name: str, raw: Json) -> Json:
    (channel,) = (channel for channel in CHANNELS if channel.name == name)
    names = [type_of(message) for message in channel.messages]
    return {
        "address": raw["address"],
        "description": f"{channel.why} Key: {channel.key}.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": raw["bindings"],
    }


def _operation(raw: Json, address: str) -> Json:
    name = address.removeprefix("taskloom.")
    return {
        **{key: value for key, value in raw.items() if key != "messages"},
        "channel": {"$ref": f"#/channels/{name}"},
    }


def _messages(schemas: Mapping[str, Json]) -> Json:
    return {
        type_of(message): {
            "name": type_of(message),
            "title": message.__name__,
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/Headers"},
            "payload": schemas[type_of(message)],
        }
        for channel in CHANNELS
        for message in channel.messages
    }
