"""When a call that did not succeed is sent once more, the same for both clients."""

import random
import uuid
from typing import Any, Final

import msgspec
from tenacity import RetryCallState, stop_before_delay

from taskloom.client.calls import TASKS, Call
from taskloom.client.errors import Busy, Unreachable

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
_TOO_MANY: Final = 429
_SUBMIT: Final = frozenset({TASKS, f"{TASKS}/batch"})
_KEY: Final = "idempotency-key"


class Patience:
    """``server_was_there``: it has answered this client before, so that it is worth waiting for."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.server_was_there = False

    def with_call(self, call: Call[Any]) -> dict[str, Any]:
        """Arguments of tenacity's ``Retrying``: what is worth another try, when, and until when. A pause that would end
        after the patience is not made: the refusal is raised at once."""
        return {
            "retry": lambda state: self._is_worth_it(call, state),
            "wait": _pause_s,
            "stop": stop_before_delay(self._patience_s),
            "reraise": True,
        }

    def _is_worth_it(self, call: Call[Any], state: RetryCallState) -> bool:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, Busy):
            # What is refused by a limit was not looked at; what another service did not answer may have been done.
            return fault.status == _TOO_MANY or _is_repeatable(call)
        return isinstance(fault, Unreachable) and self.server_was_there and (not fault.sent or _is_repeatable(call))


def repeatable(call: Call[Any]) -> Call[Any]:
    """The call with a key of its own if it changes something, so that it is done once however often it is sent.

    Not so for submissions: a key makes each of them wait for the orchestrator, and is for the caller to choose.
    """
    if call.method == "GET" or call.path in _SUBMIT or _KEY in call.headers:
        return call
    return msgspec.structs.replace(call, headers={**call.headers, _KEY: str(uuid.uuid4())})


def _is_repeatable(call: Call[Any]) -> bool:
    if call.method == "GET" or _KEY in call.headers:
        return True
    tasks = [call.body] if call.path == TASKS else call.body["tasks"]
    return all(task.get("task_id") for task in tasks)


def _pause_s(state: RetryCallState) -> float:
    fault = state.outcome.exception() if state.outcome else None
    wanted_s = fault.retry_after_s if isinstance(fault, Busy) else 0.0
    own_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (state.attempt_number - 1))
    # Many clients are refused at once: they shall not all come back at once.
    return max(wanted_s, own_s) + random.uniform(0.0, own_s)
