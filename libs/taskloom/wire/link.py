"""What an agent and a gateway say to each other over a WebSocket: JSON, one message a frame.

The agent opens with ``Hello``, the gateway answers ``Welcome``; from then on both speak when they have something. The
agent is registered with its first ``Beat``. A
``Push`` is acknowledged once Kafka has its records; until then the agent keeps it, and sends it again over its next
link. An ``Order`` has the offset that the agent names in its next ``Hello``, so that none is missed in between. An
``Ask`` is answered by a ``Told``, and asked again over the next link when none has come.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct

from taskloom.domain.task.directives import Directive
from taskloom.wire.messages import ExecutorHeartbeat

PATH: Final = "/api/v1/agents/link"
VALUES_PATH: Final = f"{PATH}/values"
AGENT_HEADER: Final = "x-agent-id"
PROTOCOL: Final = 1

MAX_UP_BYTES: Final = 4 * 1024 * 1024
"""Largest message of an agent."""

MAX_DOWN_BYTES: Final = 48 * 1024 * 1024
"""Largest message to an agent: an order with input and context of 16 MiB each."""

TAKEN_OVER: Final = 4409
REFUSED: Final = 4401
GARBLED: Final = 4400
TOO_SLOW: Final = 4413
GOING_AWAY: Final = 1012

PUSHES_AT_ONCE: Final = 4
"""Pushes of a lane that an agent has under way; the gateway takes them all at once."""

MAX_ASKS: Final = 256
"""Questions of an agent that wait for their answers; one that asks more is cut."""

MAX_NAMES: Final = 100
"""Secrets in one question."""

Lane = Literal["reports", "outputs"]
Problem = Literal["", "secret_refused", "secret_missing", "secret_unavailable"]


class Item(Struct, frozen=True, array_like=True):
    """A report (a command) or a piece of output. ``id`` makes a report that comes twice harmless."""

    task_id: str
    id: str
    type: str
    traceparent: str
    value: Raw


class Hello(Struct, frozen=True, tag="hello"):
    """``after``: offset of the last order that came, -1 for none. ``unacknowledged``: pushes that it will send again.

    ``at`` is by the agent's own clock: only how far that is from the gateway's is taken from it.
    """

    protocol: int
    incarnation: str
    at: datetime
    after: int = -1
    unacknowledged: int = 0


class Push(Struct, frozen=True, tag="push"):
    """Records of one lane, in order; ``seq`` rises with each push of the agent's life."""

    seq: int
    lane: Lane
    items: list[Item]


class Beat(Struct, frozen=True, tag="beat"):
    """A sign of life; only the newest counts, so none is acknowledged or kept."""

    at: datetime
    beat: ExecutorHeartbeat


class Ask(Struct, frozen=True, tag="ask"):
    """Which secrets an attempt needs that the agent has now, by the names that stand in the attempt's input."""

    seq: int
    task_id: str
    attempt: int
    names: list[str]


class Welcome(Struct, frozen=True, tag="welcome"):
    """``epoch``: of this link; ``tenant_id`` and ``executor_id``: who the agent is; ``draining``: it takes no more
    work."""

    epoch: int
    gateway: str
    tenant_id: str
    executor_id: str
    draining: bool = False


class Drain(Struct, frozen=True, tag="drain"):
    """From here on the agent declines new attempts; or takes them again. What it has goes on."""

    draining: bool


class Order(Struct, frozen=True, tag="order"):
    """A directive; -1 is the offset of one that the gateway itself makes."""

    offset: int
    directive: Directive


class Ack(Struct, frozen=True, tag="ack"):
    """Kafka has the push. ``refused`` of its items are in no topic: they were of tasks that the agent does not have."""

    seq: int
    refused: int = 0


class Told(Struct, frozen=True, omit_defaults=True, tag="told"):
    """``values`` by name, or why not: ``secret_refused`` (the attempt is not the agent's, or does not name them),
    ``secret_missing`` or ``secret_unavailable``, and what that means here. These values are in no other message."""

    seq: int
    values: dict[str, str] = {}
    problem: Problem = ""
    message: str = ""

    def __repr__(self) -> str:
        return f"Told(seq={self.seq}, problem={self.problem!r})"


Up = Hello | Push | Beat | Ask
Down = Welcome | Order | Ack | Told | Drain

encode: Final = msgspec.json.Encoder().encode
decode_up: Final = msgspec.json.Decoder(Up).decode
decode_down: Final = msgspec.json.Decoder(Down).decode
