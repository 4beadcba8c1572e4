import msgspec
import pytest

from services.gateway.problems import BadRequest, decoded
from taskloom.wire.commands import MAX_DEPTH


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_a_body_that_no_command_may_carry_is_refused_before_it_is_acknowledged() -> None:
    assert decoded(msgspec.json.decode, nested(MAX_DEPTH)) is not None
    for levels in (MAX_DEPTH + 1, 5_000, 200_000):
        with pytest.raises(BadRequest, match="nests deeper than 100 levels"):
            decoded(msgspec.json.decode, nested(levels))
