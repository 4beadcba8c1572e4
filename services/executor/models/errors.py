"""What went wrong with a model, as the task's error: its type says what to do, and whether another try may help."""

from collections.abc import Iterable
from typing import Final

from taskloom.kinds import TaskError

MAX_MESSAGE: Final = 1_000
_RETRYABLE_STATUS: Final = frozenset({408, 409, 425, 429})


def task_error(error: Exception, model: str, secrets: Iterable[str] = ()) -> TaskError:
    """
    ``model_rate_limited``, ``model_unavailable``, ``model_unreachable``, ``model_timeout`` and ``model_broken`` may be
    tried again; ``context_overflow``, ``model_quota``, ``model_denied``, ``model_not_found``, ``model_refused`` and
    ``model_rejected`` not. ``secrets`` never stand in its message.
    """
    kind, retryable = _class_of(error)
    message = str(error) or type(error).__name__
    for secret in secrets:
        message = message.replace(secret, "***") if secret else message
    details = {"model": model}
    wait_s = getattr(error, "retry_after", None)
    told = {**details, "retry_after_s": wait_s} if isinstance(wait_s, int | float) else details
    return TaskError(kind, f"{model}: {message[:MAX_MESSAGE]}", retryable=retryable, details=told)


def _class_of(error: Exception) -> tuple[str, bool]:
    from pydantic_ai import exceptions as ai

    classes: tuple[tuple[type[Exception], str, bool], ...] = (
        (ai.ModelContextWindowExceededError, "context_overflow", False),
        (ai.ModelQuotaExceededError, "model_quota", False),
        (ai.ModelAuthenticationError, "model_denied", False),
        (ai.ModelNotFoundError, "model_not_found", False),
        (ai.ModelRequestRejectedError, "model_rejected", False),
        (ai.ModelRateLimitError, "model_rate_limited", True),
        (ai.ModelUnavailableError, "model_unavailable", True),
        (ai.ModelServerError, "model_unavailable", True),
        (ai.ModelTimeoutError, "model_timeout", True),
        (ai.ModelRequestTimeout, "model_timeout", True),
        (TimeoutError, "model_timeout", True),
        (ai.ModelConnectionError, "model_unreachable", True),
        (ai.ContentFilterError, "model_refused", False),
        (ai.UnexpectedModelBehavior, "model_broken", True),
        (ai.UserError, "model_rejected", False),
    )
    for cls, kind, retryable in classes:
        if isinstance(error, cls):
            return kind, retryable
    if isinstance(error, ai.ModelHTTPError):
        again = error.status_code >= 500 or error.status_code in _RETRYABLE_STATUS
        return ("model_unavailable", True) if again else ("model_rejected", False)
    return "model_broken", True
