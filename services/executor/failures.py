"""What goes wrong with an attempt, as the error that its report carries."""

import traceback
from typing import Final

from taskloom.domain.values import ErrorInfo
from taskloom.kinds.api import TaskError
from taskloom.kinds.inputs import InvalidInput
from taskloom.rules import RuleBroken

MAX_TRACEBACK_CHARS: Final = 8_000


def error_info(error: BaseException) -> ErrorInfo:
    """An exception as the attempt's error. One that is not a ``TaskError`` is retryable and brings its traceback."""
    if isinstance(error, TaskError):
        return ErrorInfo(error.type, error.message, error.retryable, error.details, error.fault)
    if isinstance(error, InvalidInput):
        return ErrorInfo("invalid_input", error.message, False, {"field": error.field})
    if isinstance(error, RuleBroken):
        return ErrorInfo("rule_denied", error.message, False, {"field": error.field, "rule": error.rule})
    trace = "".join(traceback.format_exception(error))
    details = {"traceback": trace[-MAX_TRACEBACK_CHARS:]}
    return ErrorInfo(type(error).__name__, str(error) or type(error).__name__, True, details, fault=True)


def executor_stopped(code: int | None = None) -> TaskError:
    return TaskError("executor_stopped", "the executor was stopped before the attempt had ended", exit_code=code)


def not_json(error: Exception) -> TaskError:
    return TaskError("result_not_json", f"the handler's result is not JSON: {error}", retryable=False)
