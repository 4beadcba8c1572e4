"""Forking a task, and two tasks side by side: what is sent and what comes back."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from taskloom.client.calls import Call, given, of, with_key


class Forked(Struct, frozen=True):
    """A new task, made of ``forked_from``. ``repeated``: this fork was there before."""

    success: bool
    message: str
    task_id: str
    forked_from: str
    state: str = ""
    repeated: bool = False


class FieldDifference(Struct, frozen=True):
    """A field of the submission, as ``input.cmd``; None on a side that does not have it."""

    path: str
    a: Any = None
    b: Any = None


class StepSide(Struct, frozen=True):
    """How a step went; ``result`` is its JSON, cut at 500 characters. ``restored``: it was done before the fork."""

    status: str
    seconds: float | None = None
    result: str = ""
    error: str = ""
    restored: bool = False


class StepPair(Struct, frozen=True):
    path: str
    a: StepSide | None = None
    b: StepSide | None = None
    same: bool = False


class Side(Struct, frozen=True):
    """A task as of ``version``; ``seconds`` from its submission to its end."""

    task_id: str
    version: int
    kind: str
    state: str
    attempts: int = 0
    seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    result: str = ""
    error: str = ""


class Difference(Struct, frozen=True):
    """``same``: neither a field nor a step nor the outcome differs. At most 200 fields and 500 steps are listed."""

    a: Side
    b: Side
    same: bool
    fields: list[FieldDifference]
    fields_total: int
    steps: list[StepPair]
    steps_total: int
    steps_different: int


def fork(
    task_id: str,
    at: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    new_id: str = "",
    idempotency_key: str = "",
) -> Call[Forked]:
    """``at``: the version it branches off; ``overrides``: a JSON Merge Patch of the submission."""
    body = {**given(task_id=new_id), **({} if at is None else {"at": at}), "overrides": dict(overrides or {})}
    return Call(Forked, of(task_id, "fork"), "POST", headers=with_key(idempotency_key), body=body)


def diff(
    task_id: str,
    other_id: str,
    a_version: int | None = None,
    b_version: int | None = None,
    only: Literal["all", "different"] = "all",
) -> Call[Difference]:
    versions = {name: at for name, at in (("a_version", a_version), ("b_version", b_version)) if at is not None}
    return Call(Difference, of(task_id, f"diff/{other_id}"), params={"only": only, **versions})
