"""The functions of docs/python.md: they are decorated, traced and run as the page says."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.docs.test_documents import blocks

BEFORE = """
from dataclasses import dataclass, field

from taskloom import branch, compensation, default, otherwise


@dataclass
class Order:
    id: int
    amount: int
    lines: list[str] = field(default_factory=list)


@dataclass
class Receipt:
    ok: bool
    id: str = ""


class Bank:
    async def take(self, amount: int, key: str) -> Receipt:
        assert key
        return Receipt(ok=True, id="receipt-1")


bank = Bank()
"""
BETWEEN = """
@app.task
def refund(receipt_id: str) -> None: ...


@app.task
def pack(line: str, order_id: int) -> str:
    return f"{line} of order {order_id}"


@app.task
def ship(order: Order, note: str) -> str:
    return f"sent: {note}"


@app.task
def apologise(order: Order) -> str:
    return f"sorry for order {order.id}"
"""


@pytest.fixture
def page() -> Iterator[Any]:
    """A module into which the page's blocks are run; types of tasks are looked up there."""
    module = ModuleType("docs_python_page")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_the_pages_functions_run_as_it_says(page: Any) -> None:
    texts = [block.text for block in blocks("docs/python.md") if block.info == ("python",)]
    task, submit, workflow, testing = texts
    assert "charge.submit(client" in submit
    for text in (BEFORE, task, BETWEEN, workflow, testing):
        exec(compile(text, "docs/python.md", "exec"), vars(page))
    assert page.checkout.definition["name"]
    assert page.app.definitions()
