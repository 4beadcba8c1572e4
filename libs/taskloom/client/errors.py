"""What a call can fail with. The text is the server's own where there is one."""

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from taskloom.errors import TaskloomError


class ClientError(TaskloomError):
    """The call did not succeed."""


class Unreachable(ClientError):
    """No server answers at this address. ``sent``: the call may have reached one all the same."""

    sent: bool = True


class NotEnded(ClientError):
    """The task has not ended within the time given."""


class Refused(ClientError):
    """The server said no. ``status`` is HTTP's, ``field`` the one at fault, ``body`` the whole answer."""

    def __init__(self, message: str, status: int, body: Mapping[str, Any], retry_after_s: float = 0.0) -> None:
        self.status = status
        self.body = dict(body)
        self.field = str(self.body.get("field", ""))
        self.retry_after_s = retry_after_s
        super().__init__(f"{message} (field {self.field})" if self.field and self.field not in message else message)


class Invalid(Refused):
    """The request is not valid; sent again as it is, it will be refused again."""


class NotFound(Refused):
    """There is no such task, executor or queue."""


class Conflict(Refused):
    """The task's state does not allow this, or the id belongs to another submission."""


class Busy(Refused):
    """Not now: too much is waiting, or a service is away. Try again after ``retry_after_s``."""


class ServerFault(Refused):
    """The server failed; its log says why."""


_KINDS: dict[int, type[Refused]] = {404: NotFound, 409: Conflict, 429: Busy, 503: Busy}


def refusal_of(response: httpx.Response) -> Refused:
    """The exception for an answer that is not a success; its body must have been read."""
    try:
        body = msgspec.json.decode(response.content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        body = {}
    told = body.get("error") or response.text[:500].strip()
    kind = _KINDS.get(response.status_code, ServerFault if response.status_code >= 500 else Invalid)
    return kind(
        str(told or f"the server answered {response.status_code}"), response.status_code, body, _retry_after_s(response)
    )


def unreachable(base_url: str, error: Exception) -> Unreachable:
    reason = str(error) or type(error).__name__
    fault = Unreachable(
        f"no Taskloom answers at {base_url} ({reason}); start one with `make up` or `taskloom up`, "
        "or say where one runs with TASKLOOM_URL"
    )
    fault.sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return fault


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
