"""Faults of definitions: what is wrong, and the path of it."""

import re
from typing import Final

import msgspec
from msgspec import Struct

from taskloom.domain.workflow import conditions
from taskloom.domain.workflow import definition as d
from taskloom.errors import TaskloomError

_PATH: Final = re.compile(r" - at `\$(.*)`$")
_NAMED: Final = re.compile(r"Object (?:contains unknown|missing required) field `([^`]*)`")


class Fault(Struct, frozen=True):
    path: str
    message: str


class Named(Fault, frozen=True):
    """An expression at ``path`` names this step: a fault if there is none of that id."""

    step_id: str = ""


class Unknown(Fault, frozen=True):
    """An expression at ``path`` uses a name that the definition says nothing of: no fault, but worth a warning."""

    name: str = ""


class BadDefinition(TaskloomError):
    """The definition of the workflow is wrong."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault.path}: {fault.message}" for fault in faults[:5]))
        self.faults = faults


def malformed(error: msgspec.ValidationError, path: str) -> Fault:
    """What msgspec says of the JSON at ``path``."""
    message = str(error)
    at = _PATH.search(message)
    where = path + (at[1] if at else "")
    message = message[: at.start()] if at else message
    named = _NAMED.match(message)
    if named:
        where = f"{where}.{named[1]}"
    if where.endswith(".step_type"):
        message = f"{message}; known kinds of steps are {', '.join(d.KINDS)}"
    elif message.startswith("Invalid enum value") and (known := conditions.KNOWN.get(where.rpartition(".")[2])):
        message = f"{message}; choose one of {', '.join(known)}"
    return Fault(where, message)
