"""Our events to rows of the store and back."""

import os
from typing import Final

from eventsourcing.persistence import Mapper, StoredEvent
from eventsourcing.popo import POPOFactory
from eventsourcing.utils import Environment

from taskloom.domain.envelope import Recorded
from taskloom.wire.recorded import unseal

ENVIRONMENT: Final = "TASKLOOM"
_KEPT: Final = ("TASKLOOM_CIPHER_", "TASKLOOM_COMPRESSOR_")


class RecordedMapper(Mapper[str]):
    """Stores an event under its public type name, its bytes as they are published; so the hash chain is inside them.

    Compressor and cipher of `eventsourcing` apply when they are configured: ``pack`` and ``unpack`` are their only way
    in and out, for events, snapshots and claims alike.
    """

    def to_stored_event(self, domain_event: Recorded) -> StoredEvent:  # type: ignore[override]
        meta = domain_event.meta
        return StoredEvent(meta.task_id, meta.version, domain_event.type, self.pack(domain_event.body))

    def to_domain_event(self, stored_event: StoredEvent) -> Recorded:  # type: ignore[override]
        return unseal(self.unpack(stored_event.state))

    def pack(self, state: bytes) -> bytes:
        if self.compressor:
            state = self.compressor.compress(state)
        if self.cipher:
            state = self.cipher.encrypt(state)
        return state

    def unpack(self, state: bytes) -> bytes:
        if self.cipher:
            state = self.cipher.decrypt(state)
        if self.compressor:
            state = self.compressor.decompress(state)
        return state


def codec_environment() -> dict[str, str]:
    """TASKLOOM_COMPRESSOR_TOPIC, TASKLOOM_CIPHER_TOPIC and TASKLOOM_CIPHER_KEY, as far as they are set.

    Nothing else is taken over from the process's environment: `eventsourcing` would read any POSTGRES_… it finds.
    """
    return {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}


def recorded_mapper() -> RecordedMapper:
    """The mapper that readers use; the same as the writer's, since both read the same variables."""
    mapper = POPOFactory(Environment(ENVIRONMENT, codec_environment())).mapper(mapper_class=RecordedMapper)
    assert isinstance(mapper, RecordedMapper)
    return mapper
