"""Typed identifiers, so that a session id cannot be passed where a task id is meant."""

import re
from typing import Final, NewType

TaskId = NewType("TaskId", str)
SessionId = NewType("SessionId", str)
TenantId = NewType("TenantId", str)
ExecutorId = NewType("ExecutorId", str)
CommandId = NewType("CommandId", str)

ID_PATTERN: Final = r"^[A-Za-z0-9:_\-.]{1,128}(?!\n)$"
"""What an id may look like in a path, a body or a Kafka key. The look-ahead is for Python, whose ``$`` would let a
newline pass; it means nothing to other dialects, so the pattern can stand in JSON Schemas."""

MAX_ID_CHARS: Final = 128
_ID = re.compile(r"[A-Za-z0-9:_\-.]{1,128}")

_TASK_ID = re.compile(r"[A-Za-z0-9:_\-.]{1,128}(~[A-Za-z0-9:_\-.]+)*")
MAX_TASK_ID_CHARS: Final = 512

DEFAULT_TENANT: Final = TenantId("default")


def is_valid_id(text: str) -> bool:
    """True when ``text`` may be used as a task, session, tenant or executor id."""
    return _ID.fullmatch(text) is not None


def is_task_id(text: str) -> bool:
    """True for an id that a task may bear: a chosen one, or ``<run>~<path>`` of a workflow's step."""
    return len(text) <= MAX_TASK_ID_CHARS and _TASK_ID.fullmatch(text) is not None


def placing_key(task_id: str) -> str:
    """The part of an id that decides on its partition: a workflow's steps are where the workflow is."""
    return task_id.partition("~")[0]
