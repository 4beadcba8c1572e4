"""Builds what a gateway needs for links of agents."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from services.gateway.entities import Entities
from services.gateway.links.assignments import Reader
from services.gateway.links.door import Door
from services.gateway.links.hub import LinkParts, Links
from services.gateway.links.secrets import AgentSecrets
from services.gateway.links.values import PostgresAgentValues
from services.gateway.parts import Parts
from services.gateway.security import is_loopback
from services.gateway.settings import GatewaySettings
from taskloom.bus.publish import Publisher
from taskloom.bus.tail import TailConsumer
from taskloom.keys import DEV_TOKENS
from taskloom.lifecycle import Runtime
from taskloom.wire.topics import Topics


def links_of(settings: GatewaySettings, parts: Parts, entities: Entities) -> Links | None:
    """The development agents' tokens are good where everybody on this machine may do everything, and nobody else is."""
    if parts.links is None:
        return None
    is_dev = not settings.asks_for_keys and is_loopback(settings.host)
    door = Door(parts.views, entities, parts.replies.reply_to, DEV_TOKENS if is_dev else {})
    return Links(
        *(parts.links, door, parts.views, parts.values),
        AgentSecrets(settings.vault, parts.sealed, parts.histories, parts.values),
        topics=Topics(settings.topic_prefix),
        partitions=settings.partitions,
        gateway=settings.instance,
        at_most=settings.max_agents,
        check_every_s=settings.key_cache_s,
    )


async def link_parts(
    settings: GatewaySettings, runtime: Runtime, publisher: Publisher, values: PostgresAgentValues
) -> LinkParts:
    """Connected."""
    outputs = Publisher(settings.kafka_bootstrap, f"{settings.instance}-agents")
    await runtime.start("connect to Kafka for agents' output", outputs.start(settings.startup_timeout_s))
    runtime.on_drain("close the producer of agents' output", outputs.stop)
    topic = Topics(settings.topic_prefix).assignments
    every = [TopicPartition(topic, partition) for partition in range(settings.partitions)]

    def reader(offsets: Mapping[TopicPartition, int] | None) -> Reader:
        client_id = f"{settings.instance}-assignments"
        if offsets is None:
            return TailConsumer(settings.kafka_bootstrap, every, client_id=client_id, fetch_max_wait_ms=50)
        return TailConsumer(settings.kafka_bootstrap, offsets, start=offsets, client_id=f"{client_id}-back")

    return LinkParts(publisher, outputs, reader, values)
