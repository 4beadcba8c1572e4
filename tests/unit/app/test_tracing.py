"""Each construct of a workflow's function, run by the real engine in memory, and what a function cannot do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from taskloom.app import (
    App,
    TraceError,
    approval,
    branch,
    checkpoint,
    compensation,
    contains,
    context,
    default,
    each,
    error,
    exists,
    length,
    loop,
    on_failure,
    otherwise,
    parallel,
    sequential,
    signal,
    status,
    variables,
    wait,
)
from taskloom.app.workflows import Workflow
from taskloom.domain.workflow.check import validate
from taskloom.testing.workflows import LocalRun, RunEnded, StillWaiting, run


@dataclass
class Line:
    sku: str
    count: int = 1


@dataclass
class Order:
    id: str
    lines: list[Line] = field(default_factory=list)
    amount: Decimal = Decimal(10)


app = App("shop")


@app.task
async def charge(order: Order) -> dict[str, Any]:
    return {"id": f"c-{order.id}", "ok": order.amount < 100, "amount": order.amount}


@app.task
def note(text: str) -> str:
    return text


@app.task
def refuse(text: str = "no") -> str:
    raise ValueError(text)


@app.task
def pack(line: Line, order_id: str = "") -> str:
    return f"{order_id}:{line.sku}x{line.count}"


@app.task
def following(number: int) -> dict[str, Any]:
    return {"number": number + 1, "variables": {"number": number + 1}}


ORDER = Order("7", [Line("a"), Line("b", 2)])


def described(function: Callable[..., Any], **options: Any) -> Workflow[Any]:
    return App("t").workflow(**options)(function)


def notes(held: LocalRun[Any]) -> list[str]:
    return [given["text"] for _path, kind, given in held.calls if kind == "shop.note"]


def test_steps_follow_each_other_as_they_are_written_and_results_flow_into_arguments() -> None:
    def w(order: Order) -> Any:
        receipt = charge(order)
        return note(f"{receipt.id} took {receipt.amount} for {{{{order}}}} {order.id}")

    workflow = described(w)
    first, second = workflow.definition["steps"]
    assert (first["id"], second["depends_on"]) == ("charge", ["charge"])
    assert first["task_template"] == {"kind": "shop.charge", "input": {"order": "{{ variables.order }}"}}
    assert run(workflow, ORDER) == "c-7 took 10 for {{order}} 7"


def test_a_structured_argument_may_hold_references_anywhere() -> None:
    def w(order: Order) -> Any:
        receipt = charge(order)
        return [pack(Line(receipt.id, count=3)), {"id": receipt["id"], "first": order.lines[0].sku}]

    assert run(described(w), ORDER) == [":c-7x3", {"id": "c-7", "first": "a"}]


@pytest.mark.parametrize(("amount", "said"), [(10, "paid"), (500, "large"), (50_000, "huge")])
def test_a_branch_takes_one_of_its_blocks(amount: int, said: str) -> None:
    def w(order: Order) -> Any:
        receipt = charge(order)
        with branch(receipt.ok == True):  # noqa: E712 - an expression, not a comparison
            told = note("paid")
        with otherwise((order.amount == "500") | ~exists(receipt.id)):
            other = note("large")
        with otherwise():
            note("huge")
        return default(told, default(other, "neither"))

    held = LocalRun(described(w), Order("7", amount=Decimal(amount)))
    assert notes(held) == [said]
    assert held.result == (said if said != "huge" else "neither")


def test_a_block_for_each_item_of_a_list_gives_their_results_in_order() -> None:
    def w(order: Order) -> Any:
        lines = each(order.lines, max_parallel=1)
        with lines as line:
            packed = pack(line, order_id=order.id)
            note(f"{lines.index}: {packed}")
        mapped = pack.map(order.lines, order_id="m")
        return {"all": mapped, "length": length(lines.results), "last": mapped[1]}

    workflow = described(w)
    assert "task_template" in workflow.definition["steps"][1]
    held = LocalRun(workflow, ORDER)
    assert held.result == {"all": ["m:ax1", "m:bx2"], "length": 2, "last": "m:bx2"}
    assert notes(held) == ["0: 7:ax1", "1: 7:bx2"]


def test_items_that_may_fail_are_listed_with_their_errors() -> None:
    def w(order: Order) -> Any:
        lines = each(order.lines, allow_failures=True)
        with lines as line:
            refuse.options(retry=None)(line.sku)  # type: ignore[arg-type]
        return lines.errors

    assert run(described(w), ORDER) == [{"index": 0, "error": "a"}, {"index": 1, "error": "b"}]


def test_a_loop_ends_after_the_round_that_its_condition_holds_in_also_within_an_each() -> None:
    def w(order: Order) -> Any:
        with each(order.lines), loop(max_rounds=9) as rounds:
            step = following(rounds.iteration)
            rounds.until(step.number > 2)
        with loop(default(variables.number, 0) < 6) as more:
            following(variables.number)
        return {"reached": more.reached, "rounds": more.rounds, "number": variables.number}

    held = LocalRun(described(w), ORDER)
    assert held.result == {"reached": True, "rounds": 3, "number": 6}
    assert [path for path, *_ in held.calls[:4]] == [f"each.{item}.loop.{n}.following" for n in (1, 2) for item in "01"]


def test_a_loop_that_reaches_its_limit_says_so() -> None:
    def w() -> Any:
        with loop(max_rounds=2) as rounds:
            note("again")
        return rounds.reached

    assert run(described(w)) is False


def test_steps_of_a_parallel_block_wait_only_for_what_they_use() -> None:
    def w() -> Any:
        with parallel(fail_fast=True):
            one = note("1")
            two = note("2")
            with sequential():
                note("lane")
                note(f"uses {one}")
            pair = [note(f"{one}+{two}")]
        return pair[0]

    workflow = described(w)
    block = workflow.definition["steps"][0]
    assert [step.get("depends_on", []) for step in block["sub_steps"]] == [[], [], ["note"], ["note", "note_2"]]
    assert (block["fail_fast"], run(workflow)) == (True, "1+2")


def test_after_replaces_the_order_of_writing() -> None:
    def w() -> Any:
        one = note("1")
        note.options(after=[], step_id="free")("2")
        note.options(after=[one], step_id="third", title="Third")(f"{one}")

    steps = described(w).definition["steps"]
    assert [step.get("depends_on", []) for step in steps] == [[], [], ["note"]]
    assert (steps[1]["id"], steps[2]["name"]) == ("free", "Third")


def test_waits_pass_time_and_wait_for_conditions() -> None:
    def w(delay: float) -> Any:
        wait(delay * 2)
        wait(until=default(variables.go, "") == "yes", name="gate")
        late = wait(until=exists(variables.never), timeout_s=30, on_timeout="continue")
        return late.wait_completed

    held = LocalRun(described(w), 5.0)
    with pytest.raises(StillWaiting, match="gate"):
        _ = held.result
    held.set_variables(go="yes")
    held.pass_time(30)
    assert held.result is False
    assert (held.now.minute, held.now.second) == (0, 40)


def test_approvals_and_signals_hold_until_somebody_comes() -> None:
    def w(order: Order) -> Any:
        decision = approval(f"Ship {order.id}?", on_reject="continue", timeout_s=60, on_timeout="reject")
        payment = signal("paid", timeout_s=60)
        checkpoint("paid up")
        return [decision.approved, decision.by, payment.amount]

    held = LocalRun(described(w), ORDER)
    held.signal("paid", {"amount": 3})
    held.decide("approval", approved=True, by="ann")
    assert held.result == [True, "ann", 3]
    steps = described(w).definition["steps"]
    assert [step["step_type"] for step in steps] == ["approval", "signal", "checkpoint"]
    assert steps[0]["message"] == "Ship {{ variables.order.id }}?"


def test_a_workflow_called_in_another_is_its_child() -> None:
    def inner(order: Order) -> Any:
        return pack.map(order.lines)

    child = described(inner)

    def w(order: Order) -> Any:
        return child.options(title="packing")(order)[1]

    workflow = described(w)
    assert run(workflow, ORDER) == ":bx2"
    step = workflow.definition["steps"][0]
    assert (step["step_type"], step["name"], step["definition"]) == ("child", "packing", child.definition)
    assert set(workflow.tasks) == {"shop.pack"}


def test_a_failed_workflow_undoes_what_was_done_and_runs_its_failure_steps() -> None:
    def w(order: Order) -> Any:
        receipt = charge(order)
        with compensation(receipt) as undone:
            note(f"refund {undone.id}")
        with on_failure():
            note(f"failed after {default(status(receipt), 'nothing')}")
        refuse()

    held = LocalRun(described(w, on_failure="compensate"), ORDER)
    with pytest.raises(RunEnded, match="ValueError: step refuse: no"):
        _ = held.result
    assert notes(held) == ["refund c-7", "failed after completed"]


def test_a_step_that_may_fail_is_asked_how_it_ended() -> None:
    def w() -> Any:
        tried = refuse.options(on_failure="continue")("broken")
        with branch((status(tried) == "failed") & contains(error(tried), "brok")):
            note("as expected")
        return error(tried)

    held = LocalRun(described(w))
    assert (held.result, notes(held)) == ("broken", ["as expected"])


def test_expressions_keep_their_precedence() -> None:
    def w(number: int) -> Any:
        note("x")
        return [(number + 1) * 2, 10 - number, -number, number % 2 == 1, ~(number > 5), [number, "x"]]

    assert run(described(w), 3) == [8, 7, -3, True, True, [3, "x"]]


def test_options_of_a_workflow_arrive_in_its_definition() -> None:
    def w(order: Order, note_text: str = "x") -> None:
        """What it is for."""
        note(f"{context}{note_text}")

    workflow = described(w, version="2.1", max_parallel_tasks=3, timeout_s=60, fail_fast=True, tags=["a"])
    told = workflow.definition
    assert (told["id"], told["version"], told["description"]) == ("t.w", "2.1", "What it is for.")
    assert (told["max_parallel_tasks"], told["timeout_seconds"], told["tags"]) == (3, 60, ["a"])
    assert told["variables"] == {"note_text": "x"}
    assert told["metadata"]["arguments"]["required"] == ["order"]
    assert run(workflow, ORDER) is None
    assert validate(told) == []


def decides(order: Order) -> None:
    if charge(order).ok:
        note("x")


def iterates(order: Order) -> None:
    for line in order.lines:
        pack(line)


def counts(order: Order) -> None:
    if len(order.lines) > 1:
        note("x")


def searches(order: Order) -> None:
    if "a" in charge(order):
        note("x")


def formats(order: Order) -> None:
    note(f"{charge(order).amount:.2f}")


def calls(order: Order) -> None:
    note(charge(order).id.upper())


def changes(order: Order) -> None:
    order.id = "9"


def converts(order: Order) -> None:
    following(int(charge(order).number))


def wrong_type(_order: Order) -> None:
    following("many")


def missing(_order: Order) -> None:
    pack(order_id="x")


def orphan(_order: Order) -> None:
    with otherwise():
        note("x")


def hollow(order: Order) -> None:
    with branch(order.amount > 3):
        pass


def item_outside(order: Order) -> None:
    with each(order.lines) as line:
        pack(line)
    note(line.sku)


def item_hidden(order: Order) -> None:
    with each(order.lines) as line, each([1, 2]):
        pack(line)


def result_of_one_item(order: Order) -> None:
    with each(order.lines) as line:
        packed = pack(line)
        note("second")
    note(packed)


def no_condition(_order: Order) -> None:
    with branch("yes"):
        note("x")


def submission_option(_order: Order) -> None:
    note.options(task_id="x")("x")


def nested_failure(order: Order) -> None:
    with branch(order.amount > 3), on_failure():
        note("x")


def twice_until(_order: Order) -> None:
    with loop() as rounds:
        note("x")
        rounds.until(variables.x == 1)
        rounds.until(variables.x == 2)


def object_compared(order: Any) -> None:
    with branch(order == {"id": 7}):
        note("x")


def key(order: Order) -> None:
    charge({order.id: 1})


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (decides, "use branch"),
        (iterates, r"use each\(…\), or task.map"),
        (counts, r"use length\(…\)"),
        (searches, r"use contains\(…\)"),
        (formats, "the format '.2f': do that in a task"),
        (calls, "call a method of"),
        (changes, "let a task return the changed value"),
        (converts, "do that in a task"),
        (wrong_type, "following: number: .*valid integer"),
        (missing, "needs line|missing a required argument: 'line'"),
        (orphan, "directly after the block of a branch"),
        (hollow, "has no step in it"),
        (item_outside, "cannot be used outside its block"),
        (item_hidden, "cannot be used inside another each"),
        (result_of_one_item, "one result for each item"),
        (no_condition, "'yes' is no condition"),
        (submission_option, "task_id: a step's task gets this from the workflow"),
        (nested_failure, "belongs to the whole workflow"),
        (twice_until, "a loop has one until"),
        (object_compared, "compare field by field"),
        (key, "cannot be a key"),
    ],
)
def test_what_only_a_running_program_could_do_says_what_to_do_instead(function: Callable[..., Any], told: str) -> None:
    with pytest.raises((TraceError, TypeError), match=told):
        _ = described(function).definition


def test_results_of_another_workflow_are_refused() -> None:
    kept = []

    def first(order: Order) -> None:
        kept.append(charge(order))

    def second(_order: Order) -> None:
        note(kept[0].id)

    _ = described(first).definition
    with pytest.raises(TraceError, match="result of another workflow"):
        _ = described(second).definition


def test_a_fault_of_the_definition_is_named_by_its_path() -> None:
    def empty() -> None:
        return None

    with pytest.raises(TraceError, match=r"definition\.steps: needs at least one step"):
        _ = described(empty).definition


def test_blocks_outside_a_workflow_and_workflows_called_as_functions_say_so() -> None:
    with pytest.raises(TraceError, match="belongs into the function of a workflow"):
        wait(1)

    def w() -> None:
        note("x")

    with pytest.raises(TraceError, match=r"w\.submit\(client"):
        described(w)()
