"""What the gateway is made of, as plain arguments: the real parts in ``app.run``, others in tests."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.gateway.audit import AuditSink
from services.gateway.first_answers import AnswerTable
from services.gateway.jwks import KeySet
from services.gateway.links.hub import LinkParts
from services.gateway.live import Tail
from services.gateway.places import KEY_BYTES
from services.gateway.rate_windows import RateTable
from services.gateway.readside import Histories, Values, Views
from services.gateway.secrets import SecretTexts
from services.gateway.settings import GatewaySettings
from services.gateway.wait import ReplySource, Sender
from taskloom.ops import Check


@dataclass(frozen=True)
class Parts:
    """``checks`` are those of /readiness, by name. ``rates`` None: nothing is limited; ``answers`` None: no first
    answers are kept. ``audit`` None: calls are not written down. ``links`` None: agents are not taken. ``stream_key``
    seals ids of streams of many tasks. ``sealed`` None: there are no secrets. ``issuer_keys`` None: no tokens that are
    signed with keys are taken."""

    settings: GatewaySettings
    sender: Sender
    replies: ReplySource
    views: Views
    histories: Histories
    values: Values
    tail: Tail
    checks: Mapping[str, Check] = field(default_factory=dict)
    rates: RateTable | None = None
    answers: AnswerTable | None = None
    audit: AuditSink | None = None
    links: LinkParts | None = None
    stream_key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES))
    sealed: SecretTexts | None = None
    issuer_keys: KeySet | None = None
