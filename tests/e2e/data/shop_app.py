"""The app of test_python_apps.py: ``taskloom executor --app shop_app:app``, started in this directory."""

import os
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, Field

from taskloom import (
    App,
    Context,
    Retry,
    SyncContext,
    approval,
    branch,
    compensation,
    default,
    each,
    loop,
    on_failure,
    otherwise,
    parallel,
    wait,
)

app = App("shop")
ONCE = Retry(max_attempts=1)


class Line(BaseModel):
    sku: str
    count: int = Field(1, ge=1)


@dataclass
class Order:
    id: str
    lines: list[Line] = field(default_factory=list)
    amount: Decimal = Decimal(10)


class Receipt(msgspec.Struct):
    id: str
    ok: bool
    amount: Decimal


@app.task(retry=Retry(max_attempts=3, initial_s=0.05), queue="shop", timeout_s=20)
async def charge(order: Order, ctx: Context, fail_times: int = 0) -> Receipt:
    await ctx.heartbeat(0.5, "asking the bank")
    if ctx.attempt <= fail_times:
        raise ConnectionError("the bank is away")
    return Receipt(f"c-{order.id}-{ctx.idempotency_key == ctx.task_id}", order.amount < 100, order.amount)


@app.task(queue="shop")
def pack(line: Line, order_id: str) -> str:
    assert isinstance(line, Line)
    return f"{order_id}:{line.sku}x{line.count}"


@app.task(queue="shop", process=True, retry=ONCE)
def weigh(skus: list[str], ctx: SyncContext) -> dict[str, Any]:
    ctx.heartbeat(1.0, "weighed")
    print("on the scales")
    return {"grams": 100 * len(skus), "pid": os.getpid()}


@app.task(queue="shop", process=True, retry=ONCE)
def endless(marker: str) -> None:
    while marker:
        time.sleep(0.05)


@app.task(queue="shop", retry=ONCE)
def patient(seconds: Annotated[float, Field(gt=0)], ctx: SyncContext) -> str:
    ctx.write("waiting\n")
    ctx.sleep(seconds)
    return "slept"


@app.task(queue="shop")
def lies() -> int:
    return "many"  # type: ignore[return-value]


@app.task(queue="shop", retry=ONCE)
def polled(round_number: int) -> dict[str, bool]:
    return {"done": round_number >= 3}


@app.task(queue="shop")
def note(text: str) -> str:
    return text


@app.workflow
def packing(order: Order) -> list[str]:
    packed: Any = pack.map(order.lines, order_id=order.id, max_parallel=2)
    return packed  # type: ignore[no-any-return]


@app.workflow(version="1.2", on_failure="compensate", max_parallel_tasks=4)
def checkout(order: Order, ask: bool = False) -> dict[str, Any]:
    """Takes the money, packs and ships; an expensive order is refused."""
    receipt = charge(order, fail_times=1)
    with compensation(receipt):
        note(f"refunded {receipt.id}")
    with on_failure():
        note(f"{order.id} failed")
    with branch(ask == True):  # noqa: E712
        approval(f"Ship {order.id}?", timeout_s=60)
    with branch(receipt.ok == True):  # noqa: E712
        packed = packing(order)
        with parallel():
            weight = weigh(["a", "b"])
            label = note(f"to {order.id}: {packed[0]}")
        with loop(max_rounds=5) as rounds:
            seen = polled(rounds.iteration)
            wait(0.01)
            rounds.until(seen.done == True)  # noqa: E712
        lines = each(order.lines)
        with lines as line:
            note(f"{lines.index}{line.sku}")
    with otherwise():
        patient(default(receipt.seconds, -1))
    return {"receipt": receipt, "label": label, "grams": weight.grams, "notes": lines.results, "rounds": rounds.rounds}
