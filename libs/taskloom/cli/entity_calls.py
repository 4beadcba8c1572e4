"""Entities from the command line: changed through Kafka as the gateway does it, read from their table."""

import asyncio
import os
import time
import uuid
from contextlib import AsyncExitStack
from typing import Final

from taskloom.bus.errors import ReplyTimeout
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.bus.replies import ReplyInbox
from taskloom.domain.entities.commands import EntityCommand, kind_of
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import entity_id, parts_of
from taskloom.errors import TaskloomError
from taskloom.settings import ServiceSettings
from taskloom.views.entities import query
from taskloom.views.reading import read_pool
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, command_type, encode_command
from taskloom.wire.messages import Reply
from taskloom.wire.topics import Topics, partition_of

CONNECT_S: Final = 15.0
REPLY_S: Final = 15.0
SHOWN_S: Final = 10.0
PAGE: Final = 200


class NotDone(TaskloomError):
    """The change was refused, or nobody answered."""


async def change(settings: ServiceSettings, tenant_id: str, name: str, command: EntityCommand) -> Reply:
    """The owner's answer.

    Raises:
        NotDone: it was refused, or no orchestrator answered within 15 s.
        BusError: Kafka did not take it.
    """
    topics, instance = Topics(settings.topic_prefix), f"cli-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    stream = entity_id(kind_of(command), tenant_id, name)
    attributes = Attributes(
        id=str(uuid.uuid4()),
        type=command_type(command),
        source="/taskloom/cli",
        tenant_id=tenant_id,
        actor="operator",
        reply_to=instance,
    )
    key, value, headers = encode_command(Envelope(stream, command, attributes))
    record = OutRecord(topics.commands, partition_of(stream, settings.partitions), key, value, headers)
    async with AsyncExitStack() as stack:
        inbox = ReplyInbox(settings.kafka_bootstrap, topics, settings.partitions, instance)
        stack.push_async_callback(inbox.stop)
        await inbox.start(CONNECT_S)
        publisher = Publisher(settings.kafka_bootstrap, instance)
        stack.push_async_callback(publisher.stop)
        await publisher.start(CONNECT_S)
        with inbox.expect(attributes.id) as expected:
            await publisher.publish([record])
            try:
                reply = await expected.reply(REPLY_S)
            except ReplyTimeout as error:
                raise NotDone(
                    f"no orchestrator answered within {REPLY_S:g} s; it is done as soon as one runs"
                ) from error
    if reply.refusal is not None:
        at = f" ({reply.refusal.field})" if reply.refusal.field else ""
        raise NotDone(f"{reply.refusal.message}{at}")
    return reply


async def until_shown(settings: ServiceSettings, kind: str, tenant_id: str, name: str, version: int) -> bool:
    """Whether the read tables show that version within 10 s."""
    give_up = time.monotonic() + SHOWN_S
    async with read_pool(settings.database_dsn, max_size=1) as pool:
        while await query.version(pool, entity_id(kind, tenant_id, name)) < version:
            if time.monotonic() > give_up:
                return False
            await asyncio.sleep(0.05)
    return True


async def all_of(settings: ServiceSettings, kind: str, tenant_id: str) -> list[Entity]:
    """A tenant's entities of one kind, by name."""
    found: list[Entity] = []
    async with read_pool(settings.database_dsn, max_size=1) as pool:
        while True:
            after = parts_of(found[-1].entity_id).name if found else ""
            page = await query.list_entities(pool, kind, tenant_id, after=after, limit=PAGE)
            found += page
            if len(page) < PAGE:
                return found
