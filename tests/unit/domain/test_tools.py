"""Lists of tools that were pinned, and calls that are not repeated."""

from typing import Any

import pytest

from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.submission import normalise
from taskloom.domain.tools import AllowedTools, is_allowed, may_repeat, retry_of_call
from taskloom.domain.values import Retry

PINNED = {"files": AllowedTools(("read", "write"), ("read",)), "time": AllowedTools()}


def test_a_tool_is_allowed_when_its_own_server_names_it() -> None:
    assert is_allowed(PINNED, "files", "read")
    assert is_allowed(PINNED, "time", "anything")
    assert not is_allowed(PINNED, "files", "remove")
    assert not is_allowed(PINNED, "taskloom", "shell")
    assert not is_allowed({}, "time", "now")
    assert is_allowed(None, "time", "now")
    assert may_repeat(PINNED, "files", "read")
    assert not may_repeat(PINNED, "files", "write")
    assert not may_repeat(None, "files", "read")


@pytest.mark.parametrize(
    ("given", "repeated"),
    [
        ({"server": "files", "tool": "write"}, False),
        ({"server": "files", "tool": "write", "allowed": {"files": {"idempotent": ["read"]}}}, False),
        ({"server": "files", "tool": "write", "allowed": {"other": {"idempotent": ["write"]}}}, False),
        ({"server": "files", "tool": "write", "allowed": "nonsense"}, False),
        ({"$claim": "somewhere"}, False),
        ({"server": "files", "tool": "write", "allowed": {"files": {"idempotent": ["write"]}}}, True),
        ({"server": "files"}, True),
    ],
)
def test_a_call_that_may_have_taken_place_is_repeated_only_with_a_say_so(given: dict[str, Any], repeated: bool) -> None:
    wished = Retry(max_attempts=7, non_retryable=("timeout", "mine"))
    done = retry_of_call(wished, given)
    if repeated:
        assert done == wished
    else:
        assert (done.max_lost, done.max_attempts) == (1, 7)
        assert done.non_retryable == ("timeout", "mine", "executor_stopped")


def test_only_tasks_of_the_kind_tool_are_not_repeated() -> None:
    for kind, max_lost in (("tool", 1), ("shell", 5)):
        spec = normalise(
            SubmitTask(kind=kind, input={"server": "a", "tool": "b"}), task_id="t", tenant_id="d", user_id="u"
        )
        assert spec.retry.max_lost == max_lost
