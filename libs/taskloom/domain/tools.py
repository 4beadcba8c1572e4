"""Lists of tools that may be called, pinned when a task is submitted: nothing that is said later widens them."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, structs

from taskloom.domain.values import Retry, Text256

Names = Annotated[tuple[Text256, ...], Meta(max_length=1000)]


class AllowedTools(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Of one server. ``tools``: None for all of them. ``idempotent``: which of them may be called again when it is not
    known whether a call took place."""

    tools: Names | None = None
    idempotent: Names = ()


Allowance = Annotated[dict[str, AllowedTools], Meta(max_length=200)]
"""By the server's name."""

UNCERTAIN: Final = ("timeout", "executor_stopped")
"""Errors of attempts of which it is not known whether their call took place."""


def is_allowed(allowed: Mapping[str, AllowedTools] | None, server: str, tool: str) -> bool:
    """Without a list nothing is pinned."""
    if allowed is None:
        return True
    found = allowed.get(server)
    return found is not None and (found.tools is None or tool in found.tools)


def may_repeat(allowed: Mapping[str, AllowedTools] | None, server: str, tool: str) -> bool:
    """Whether the list says that the tool is idempotent."""
    found = (allowed or {}).get(server)
    return found is not None and tool in found.idempotent


def retry_of_call(retry: Retry, given: Mapping[str, Any]) -> Retry:
    """The retry policy of a task of kind ``tool`` with this input. A call that may have taken place when its executor
    was lost, or its time was over, is not repeated unless the input says that its tool is idempotent, or names none."""
    try:
        allowed = msgspec.convert(given.get("allowed"), Allowance | None)
    except msgspec.ValidationError:
        allowed = None
    server, tool = given.get("server"), given.get("tool")
    if server and (not tool or may_repeat(allowed, str(server), str(tool))):
        return retry
    unrepeated = (*retry.non_retryable, *(each for each in UNCERTAIN if each not in retry.non_retryable))
    return structs.replace(retry, max_lost=1, non_retryable=unrepeated)
