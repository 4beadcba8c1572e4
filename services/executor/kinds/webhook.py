"""``webhook``: one delivery, signed. Submitted by the platform alone."""

import asyncio
import ipaddress
import socket
import time
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from taskloom.kinds import Context, Handler, Outcome, TaskError
from taskloom.kinds.inputs import read
from taskloom.webhooks import secret_of, signature

TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 4 * 1024


class WebhookInput(Struct, frozen=True):
    """As ``domain.task.webhooks.Delivery``, which makes it."""

    url: str
    webhook: str
    tenant_id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]
    serial: int = 1


class Webhook(Handler):
    """POSTs ``{type, timestamp, data}``. The response is ``{status, body (4 KiB), duration_ms}``; anything but a 2xx
    is a failure. 410 and an address that may not be called end the delivery, all else is tried again.

    The address is looked up once and that very address is connected to, so a name cannot lead elsewhere in between;
    redirects are not followed, and no proxy is used.
    """

    kind = "webhook"

    def __init__(self, key: str, *, allow_private: bool) -> None:
        self._key = key
        self._allow_private = allow_private

    async def run(self, ctx: Context) -> Outcome:
        told = read(WebhookInput, ctx.input)
        body = msgspec.json.encode({"type": told.type, "timestamp": told.timestamp, "data": told.data})
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, text = await self._post(ctx, told, body)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise TaskError("webhook_timeout", f"{told.url} did not answer within {TIMEOUT_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise TaskError("webhook_connect", f"{told.url}: {error or type(error).__name__}") from error
        answer = {"status": status, "body": text, "duration_ms": round((time.monotonic() - began) * 1000)}
        if not 200 <= status < 300:
            raise TaskError(
                "webhook_gone" if status == httpx.codes.GONE else "webhook_status",
                f"{told.url} answered {status}",
                retryable=status != httpx.codes.GONE,
                details=answer,
            )
        return Outcome(result=str(status), response=answer)

    async def _post(self, ctx: Context, told: WebhookInput, body: bytes) -> tuple[int, str]:
        parts = urlsplit(told.url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = await self._address(host, port)
        pinned = f"{parts.scheme}://{f'[{address}]' if ':' in address else address}:{port}{parts.path or '/'}"
        pinned += f"?{parts.query}" if parts.query else ""
        headers = self._headers(ctx, told, body) | {"host": parts.netloc.rpartition("@")[2]}
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", pinned, content=body, headers=headers, extensions={"sni_hostname": host}) as response,
        ):
            kept = bytearray()
            async for piece in response.aiter_raw():
                kept += piece[: MAX_ANSWER_BYTES - len(kept)]
                if len(kept) >= MAX_ANSWER_BYTES:
                    break
            return response.status_code, kept.decode("utf-8", "replace").replace("\x00", "")

    def _headers(self, ctx: Context, told: WebhookInput, body: bytes) -> dict[str, str]:
        secret = secret_of(self._key, told.tenant_id, told.webhook, told.serial)
        now = int(time.time())
        return {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "Taskloom-Webhooks/1",
            "webhook-id": ctx.task_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(secret, ctx.task_id, now, body),
        }

    async def _address(self, host: str, port: int) -> str:
        """One address of the host. Of a name with a private address among others, none is taken."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(each[4][0]) for each in found]
        for address in addresses:
            if not self._allow_private and not is_public(address):
                message = f"{host} is {address}, an address inside: TASKLOOM_WEBHOOK_ALLOW_PRIVATE=true allows it"
                raise TaskError("webhook_forbidden", message, retryable=False)
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet: not loopback, private, link-local, multicast or reserved."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if found in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    return found.is_global and not found.is_multicast
