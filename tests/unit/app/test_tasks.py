"""Tasks: their kinds, options, types at the edge, and direct calls."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from taskloom.app import (
    App,
    AppError,
    Concurrency,
    Context,
    LocalContext,
    Mismatch,
    Resources,
    Retry,
    SyncContext,
    Task,
    TaskError,
    task,
)
from taskloom.app.app import app_of


class Colour(Enum):
    RED = "red"


class Address(msgspec.Struct):
    city: str
    zip_code: Annotated[str, msgspec.Meta(max_length=5)] = ""


class Item(BaseModel):
    sku: str
    count: int = Field(1, ge=1)


@dataclass
class Order:
    id: uuid.UUID
    items: list[Item]
    amount: Decimal = Decimal(0)


app = App("shop")


@app.task(
    name="pay",
    retry=Retry(max_attempts=5, non_retryable=("CardError",)),
    timeout_s=60,
    heartbeat_s=5,
    queue="money",
    concurrency=3,
    priority="high",
    resources=Resources(cpu_cores=1),
    tags=["a"],
    metadata={"team": "x"},
)
async def charge(order: Order, to: Address, colour: Colour = Colour.RED, at: datetime | None = None) -> Order:
    """Takes the money."""
    assert isinstance(order.items[0], Item)
    assert isinstance(to, Address)
    return order


ID = uuid.UUID(int=7)
ORDER = Order(ID, [Item(sku="a", count=2)], Decimal("9.5"))
INPUT: dict[str, Any] = {
    "order": {"id": str(ID), "items": [{"sku": "a", "count": 2}], "amount": "9.5"},
    "to": {"city": "Ulm", "zip_code": ""},
}


def test_a_submission_has_the_options_and_the_arguments_as_json() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    body = charge.options(task_id="t-1", title="Pay 7", run_at=at).submission(ORDER, Address("Ulm"), at=at)
    assert body == {
        "kind": "shop.pay",
        "name": "Pay 7",
        "task_id": "t-1",
        "run_at": "2026-01-01T00:00:00+00:00",
        "queue": "money",
        "priority": "high",
        "tags": ["a"],
        "metadata": {"team": "x"},
        "timeouts": {"start_to_close_s": 60, "heartbeat_s": 5},
        "retry": {"max_attempts": 5, "non_retryable": ["CardError"]},
        "resources": {"cpu_cores": 1.0},
        "concurrency": {"key": "shop.pay", "limit": 3},
        "input": {**INPUT, "at": "2026-01-01T00:00:00Z"},
    }
    assert charge.options(concurrency=Concurrency("k", 1)).submission(ORDER, Address("U"))["concurrency"]["key"] == "k"
    assert charge.submission(ORDER, Address("U"))["name"] == "pay"


async def test_arguments_arrive_in_their_declared_types_and_the_result_leaves_as_json() -> None:
    arguments = charge.arguments(INPUT | {"colour": "red"}, None)
    assert arguments == {"order": ORDER, "to": Address("Ulm"), "colour": Colour.RED}
    assert charge.dumped(await charge.function(**arguments)) == INPUT["order"]


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"order": {**INPUT["order"], "items": [{"sku": "a", "count": 0}]}}, "input.order.items[0].count", "greater"),
        ({"order": {**INPUT["order"], "id": "7"}}, "input.order.id", "UUID"),
        ({"to": {"zip_code": "1"}}, "input.to", "city"),
        ({"to": {"city": "Ulm", "zip_code": "123456"}}, "input.to.zip_code", "length <= 5"),
        ({"colour": "blue"}, "input.colour", "'red'"),
        ({"ordr": 1}, "input.ordr", "pay takes order, to, colour, at"),
    ],
)
def test_a_wrong_input_is_not_retried_and_names_the_path_of_its_fault(
    change: dict[str, Any], field: str, told: str
) -> None:
    with pytest.raises(TaskError) as refused:
        charge.arguments(INPUT | change, None)
    assert (refused.value.type, refused.value.retryable, refused.value.details["field"]) == (
        "invalid_input",
        False,
        field,
    )
    assert told in str(refused.value)
    if field != "input.order.id":  # a format is a note in JSON Schema, no rule
        assert not Draft202012Validator(charge.signature.schema).is_valid(INPUT | change)


def test_all_faults_are_told_at_once_and_a_missing_argument_is_one() -> None:
    with pytest.raises(TaskError) as refused:
        charge.arguments({"order": INPUT["order"], "at": "soon"}, None)
    assert [fault["field"] for fault in refused.value.details["faults"]] == ["input.at", "input.to"]
    with pytest.raises(Mismatch, match=r"^order\.items"):
        charge.submission(Order(ID, "many"), Address("Ulm"))  # type: ignore[arg-type]


def test_a_result_of_another_type_than_declared_is_not_retried() -> None:
    with pytest.raises(TaskError) as refused:
        charge.dumped(Order("x", [Item(sku="a")]))  # type: ignore[arg-type]
    assert (refused.value.type, refused.value.details["field"]) == ("invalid_result", "result.id")

    @app.task
    def untyped() -> Any: ...

    assert untyped.dumped({"at": datetime(2026, 1, 1, tzinfo=UTC), "to": Address("Ulm")})["to"]["city"] == "Ulm"
    with pytest.raises(TaskError, match="result: is not JSON"):
        untyped.dumped(object())


def test_the_schema_takes_what_the_task_takes() -> None:
    schema = charge.signature.schema
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(INPUT)
    assert (schema["required"], schema["additionalProperties"]) == (["order", "to"], False)
    assert set(schema["$defs"]) == {"Order", "Item", "Address", "Colour"}


async def test_a_direct_call_runs_the_function_with_a_context_of_its_own() -> None:
    @app.task
    async def counts(number: int, ctx: Context) -> int:
        await ctx.heartbeat(0.5)
        await ctx.write("x")
        return number + ctx.attempt

    @app.task
    def plain(number: int, ctx: SyncContext | None = None) -> int:
        assert ctx is not None
        ctx.heartbeat(1.0, "done")
        return number

    assert await counts(3) == 4
    given = LocalContext(attempt=2)
    assert await counts(3, given) == 5
    assert (given.heartbeats, given.written, given.idempotency_key) == ([(0.5, "")], ["x"], "local")
    assert plain(3) == 3
    assert charge.__doc__ == "Takes the money."


def test_what_a_task_cannot_be_is_said_when_it_is_made_or_checked() -> None:
    other = App("other")

    def twice() -> None: ...

    other.task(twice)
    with pytest.raises(AppError, match=r"two tasks are called other\.twice"):
        other.task(name="twice")(lambda: None)
    with pytest.raises(AppError, match="travel by name"):
        other.task(name="star")(lambda *many: many)
    with pytest.raises(AppError, match="no option 'retries'"):
        other.task(name="o", retries=3)(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(AppError, match="cannot be a task's kind"):
        Task(twice, "shell", {})
    with pytest.raises(AppError, match="name is 1 to 64"):
        App("my shop")

    class Strange: ...

    def strange(it: Strange) -> None: ...

    async def wrong_context(ctx: SyncContext) -> None: ...

    async def async_process() -> None: ...

    for function, process, told in (
        (strange, False, r"strange\(it\): values of .*Strange.* cannot be checked"),
        (wrong_context, False, "annotate Context"),
        (async_process, True, "not async"),
    ):
        with pytest.raises(AppError, match=told):
            Task(function, "x.y", {}, process=process).check()
    with pytest.raises(AppError, match="can be chosen for a step"):
        charge.options(on_failure="continue").submission(ORDER, Address("Ulm"))
    with pytest.raises(AppError, match="no option 'prio'"):
        charge.options(prio=3)  # type: ignore[call-arg]


@task
def alone(number: int) -> int:
    return number


def test_a_module_is_an_app_by_itself() -> None:
    import sys

    found = app_of(sys.modules[__name__])
    assert alone.kind == f"{__name__}.alone"
    assert {alone.kind, "shop.pay"} <= found.tasks.keys()
