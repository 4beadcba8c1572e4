"""A shop's checkout as decorated functions. Beside a running Taskloom, in this directory:

taskloom executor --app app:app    # runs the tasks
python app.py                      # submits two orders and waits for them
"""

from dataclasses import dataclass, field
from decimal import Decimal

from taskloom import App, Client, Context, Retry, branch, default, otherwise

app = App("example-shop")


@dataclass
class Order:
    id: int
    price: Decimal
    items: list[str] = field(default_factory=list)


@dataclass
class Receipt:
    ok: bool
    amount: Decimal


@app.task(retry=Retry(max_attempts=5, initial_s=0.1), timeout_s=30)
async def charge(order: Order, ctx: Context) -> Receipt:
    """The idempotency key is the same in all attempts: a bank would take the money once."""
    if ctx.attempt == 1:
        raise ConnectionError(f"the bank did not answer to {ctx.idempotency_key}")
    return Receipt(ok=order.price < 100, amount=order.price)


@app.task
def send(item: str, order_id: int) -> str:
    return f"parcel {order_id}-{item}"


@app.task
def thank(order_id: int, amount: Decimal, parcels: list[str]) -> str:
    return f"order {order_id}: paid {amount:.2f}, sent {len(parcels)} parcels"


@app.task
def apologise(order_id: int) -> str:
    return f"order {order_id}: refused, the customer was told"


@app.workflow(version="1.0")
def checkout(order: Order) -> str:
    """Runs once, to be written down: what it calls becomes the steps of the workflow."""
    receipt = charge(order)
    with branch(receipt.ok == True):  # noqa: E712  (an expression that the workflow evaluates)
        parcels = send.map(order.items, order_id=order.id)
        thanked = thank(order.id, receipt.amount, parcels)
    with otherwise():
        apologised = apologise(order.id)
    return default(thanked, apologised)  # type: ignore[return-value]


if __name__ == "__main__":
    with Client() as client:
        runs = [
            checkout.submit(client, Order(1, Decimal("12.5"), ["book", "pen", "lamp"])),
            checkout.submit(client, Order(2, Decimal(4000), ["piano"])),
        ]
        for run in runs:
            print(run.result(timeout_s=60))
