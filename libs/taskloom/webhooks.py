"""Signatures of deliveries, as in Standard Webhooks (https://www.standardwebhooks.com), and where secrets come from.

No secret is stored: each follows from the installation's key, so neither the event store nor a topic holds one.
"""

import base64
import hashlib
import hmac
from typing import Final

PREFIX: Final = "whsec_"


def secret_of(key: str, tenant_id: str, webhook: str, serial: int) -> str:
    """The secret of a tenant's webhook, as ``whsec_<base64>``."""
    message = f"taskloom-webhook-v1\n{tenant_id}\n{webhook}\n{serial}".encode()
    return PREFIX + base64.b64encode(hmac.new(key.encode(), message, hashlib.sha256).digest()).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: ``v1,<base64 of HMAC-SHA256 over id.timestamp.body>``."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    made = hmac.new(base64.b64decode(secret.removeprefix(PREFIX)), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}"
