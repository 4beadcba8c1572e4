"""What is no fault of a definition, but may be one when it runs."""

from collections.abc import Collection
from itertools import islice
from typing import Any

import msgspec

from taskloom.domain.workflow import check
from taskloom.domain.workflow import definition as d
from taskloom.domain.workflow.check import MAX_FAULTS
from taskloom.domain.workflow.faults import Fault, Unknown


def warnings(raw: Any, path: str = "definition", given: Collection[str] = ()) -> list[Fault]:
    """What is no fault of a valid definition, but may be one when it runs: names in its expressions that no variable of
    it has, nor its context, nor one of those ``given``. At most 100."""
    definition = msgspec.convert(raw, d.Definition)
    known = {*given, *definition.variables, *definition.context}
    known |= {f"variables.{name}" for name in (*definition.variables, *given)}
    known |= {f"context.{name}" for name in definition.context}
    unknown = (
        each for each in check.parts(definition, path, {}) if isinstance(each, Unknown) and each.name not in known
    )
    return list(islice((Fault(each.path, _may_lack(each.name)) for each in unknown), MAX_FAULTS))


def _may_lack(name: str) -> str:
    scope, _, key = name.rpartition(".")
    where = {"variables": "no variable", "context": "no entry of the context"}.get(
        scope, "neither a variable nor an entry of the context"
    )
    return f"{where} of this definition is called {key!r}: it has to come with the run, or from a step's result"
