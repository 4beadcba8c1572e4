"""Which topics there are, what their keys are, and which partition a key belongs to."""

from functools import lru_cache
from typing import Final
from zlib import crc32

from msgspec import Struct

from taskloom.domain.ids import placing_key

SLOTS: Final = 64
"""Fixed hash slots. Partitions and shards are divisors of it, so neither change ever splits a task's stream."""


def slot_of(key: str) -> int:
    """Hash slot of a key, 0..63: CRC-32, as librdkafka's default partitioner does it, so kcat hits the right one.

    Of a workflow's step (``<run>~<path>``) the run alone counts: they have one owner and one transaction.
    """
    return crc32(placing_key(key).encode()) % SLOTS


@lru_cache(maxsize=32_768)  # a round asks some twenty times for each task of it
def partition_of(key: str, partitions: int) -> int:
    return slot_of(key) % partitions


def shard_of(partition: int, shards: int) -> int:
    return partition % shards


class Topics(Struct, frozen=True):
    """Topic names under one prefix. Key in brackets.

    commands [task id]: clients, schedules and executors -> orchestrator.   events [task id]: orchestrator -> everyone.
    outputs [task id]: executor -> projection and live streams; apart from events, since one task may write gigabytes.
    assignments [executor id]: orchestrator -> that executor.   replies [reply-to]: orchestrator -> who asked.
    executors [executor id], compacted: registrations, heartbeats.   dead-letters [task id]: what could not be applied.
    audit [tenant]: gateways -> projection; every mutating call.
    """

    prefix: str = "taskloom"

    @property
    def commands(self) -> str:
        return f"{self.prefix}.commands"

    @property
    def events(self) -> str:
        return f"{self.prefix}.events"

    @property
    def outputs(self) -> str:
        return f"{self.prefix}.outputs"

    @property
    def assignments(self) -> str:
        return f"{self.prefix}.assignments"

    @property
    def replies(self) -> str:
        return f"{self.prefix}.replies"

    @property
    def executors(self) -> str:
        return f"{self.prefix}.executors"

    @property
    def audit(self) -> str:
        return f"{self.prefix}.audit"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}.dead-letters"
