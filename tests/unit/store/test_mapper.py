import pytest
from eventsourcing.persistence import Cipher, StoredEvent
from eventsourcing.utils import Environment

from taskloom.store.mapper import RecordedMapper, recorded_mapper
from tests.integration.store.histories import history


def test_an_event_is_stored_under_its_public_name_with_its_published_bytes() -> None:
    [_, event] = history("task", 2)
    stored = recorded_mapper().to_stored_event(event)
    assert stored == StoredEvent("task", 2, "taskloom.task.queued.v1", event.body)
    assert recorded_mapper().to_domain_event(stored) == event


def test_compressor_and_cipher_apply_in_that_order_and_are_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_COMPRESSOR_TOPIC", "eventsourcing.compressor:ZlibCompressor")
    monkeypatch.setenv("COMPRESSOR_TOPIC", "nowhere:Nothing")
    mapper = recorded_mapper()
    mapper.cipher = Reversing(Environment())
    [event] = history("task", 1)
    stored = mapper.to_stored_event(event)
    assert len(stored.state) < len(event.body)
    assert stored.state[::-1][:1] == b"\x78"
    assert mapper.to_domain_event(stored) == event


def test_variables_of_other_programs_are_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_TOPIC", "nowhere:Nothing")
    mapper: RecordedMapper = recorded_mapper()
    assert mapper.compressor is None


class Reversing(Cipher):
    """Stands for a cipher: what it makes is recognisable."""

    def __init__(self, environment: Environment) -> None: ...

    def encrypt(self, plaintext: bytes) -> bytes:
        return plaintext[::-1]

    def decrypt(self, ciphertext: bytes) -> bytes:
        return ciphertext[::-1]
