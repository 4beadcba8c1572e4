"""What the gateway says no with: one exception per kind of answer, and the JSON that each becomes."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from taskloom.domain.refusals import HTTP_STATUS, Refusal
from taskloom.errors import TaskloomError
from taskloom.telemetry import get_logger
from taskloom.wire.commands import MAX_DEPTH, faulty_field, is_too_deep

T = TypeVar("T")
_log = get_logger(__name__)


class Problem(TaskloomError):
    """The request cannot be answered as wished."""

    status = 500

    def __init__(self, text: str | None = None, /, *, field: str = "", **more: Any) -> None:
        super().__init__(text)
        self.field = field
        self.more = more

    @property
    def headers(self) -> dict[str, str]:
        return {}

    def body(self) -> dict[str, Any]:
        """The answer's JSON: ``error``, ``field`` where one is at fault, and what the kind of answer adds."""
        return {"error": str(self), **({"field": self.field} if self.field else {}), **self.more}


class BadRequest(Problem):
    """The request is not valid."""

    status = 400


class Unknown(BadRequest):
    """A kind or queue that no executor announced; it may come."""


class Unauthorized(Problem):
    """Authentication required"""

    status = 401

    @classmethod
    def invalid(cls, why: str) -> "Unauthorized":
        return cls("Invalid token", message=why)

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="Shannon API"'}


class Forbidden(Problem):
    """The request comes from somebody, or from a place, that may not do this."""

    status = 403


class NotFound(Problem):
    """There is nothing under this id."""

    status = 404


class Gone(NotFound):
    """Retention took it out of the read tables; its events are there."""

    status = 410


class Conflict(Problem):
    """The task's state does not allow this."""

    status = 409


class TooLarge(Problem):
    """The request body is too large."""

    status = 413


class NotOffered(Problem):
    """This installation does not have it."""

    status = 501


class _ComeBack(Problem):
    """Not now."""

    def __init__(self, text: str | None = None, /, *, retry_after_s: int = 1, **more: Any) -> None:
        super().__init__(text, **more)
        self._retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self._retry_after_s)}


class TooMany(_ComeBack):
    """Too much is waiting already; try again later."""

    status = 429


class Unavailable(_ComeBack):
    """A service that is needed for this does not answer; nothing was lost, try again."""

    status = 503


def invalid_json(error: msgspec.MsgspecError | UnicodeDecodeError) -> BadRequest:
    """The 400 for a body that does not decode; ``field`` is the path of the fault, ``$`` for all of it."""
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest(f"the body is not JSON: {error}", field="$")
    return BadRequest(str(error), field=faulty_field(error))


def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """What ``decode`` reads from a request's body.

    Raises:
        BadRequest: the body is not JSON, does not fit (names the field), or nests deeper than a command may: what is
            accepted here must be one that the orchestrator takes.
    """
    if is_too_deep(body):
        raise BadRequest(f"the body nests deeper than {MAX_DEPTH} levels", field="$")
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise invalid_json(error) from error


def refused(refusal: Refusal, task_id: str) -> Problem:
    """The answer to a refusal of the orchestrator, with the texts of Shannon's contract."""
    kinds: dict[int, type[Problem]] = {400: BadRequest, 404: NotFound, 409: Conflict, 503: Unavailable}
    kind = kinds[HTTP_STATUS[refusal.code]]
    if kind is NotFound:
        return NotFound("Task not found", task_id=task_id)
    if kind is Conflict:
        return Conflict(
            refusal.message,
            field=refusal.field,
            success=False,
            message=refusal.message,
            **({"status": refusal.state} if refusal.state else {}),
        )
    return kind(refusal.message, field=refusal.field)


def answer_problem(_request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    return _response(problem.status, problem.body(), problem.headers)


def answer_http_exception(_request: Request[Any, Any, Any], fault: HTTPException) -> Response[bytes]:
    """Faults that Litestar finds: no such route, wrong method, a body over the limit."""
    texts = {404: "there is no such route", 413: "the request body is too large"}
    return _response(fault.status_code, {"error": texts.get(fault.status_code, fault.detail)}, fault.headers or {})


def answer_outage(_request: Request[Any, Any, Any], fault: Exception) -> Response[bytes]:
    """Kafka or PostgreSQL is away: nothing of ours is broken, and coming back helps."""
    _log.warning("answered 503", reason=str(fault))
    problem = Unavailable(f"Kafka or PostgreSQL does not answer now: {fault}", retry_after_s=2)
    return _response(problem.status, problem.body(), problem.headers)


def answer_too_slow(_request: Request[Any, Any, Any], fault: Exception) -> Response[bytes]:
    return _response(400, {"error": str(fault), "field": "$query"}, {})


def answer_fault(request: Request[Any, Any, Any], fault: Exception) -> Response[bytes]:
    """A fault of ours: logged with its trace, told without its inside."""
    _log.error("request failed", path=request.url.path, exc_info=fault)
    return _response(500, {"error": "internal error; the gateway's log holds the details under this X-Trace-ID"}, {})


def _response(status: int, body: dict[str, Any], headers: dict[str, str]) -> Response[bytes]:
    return Response(msgspec.json.encode(body), status_code=status, headers=headers, media_type="application/json")
