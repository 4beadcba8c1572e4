"""Rows of steps against the run's state, wherever it fails and however often it goes on."""

from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.workflow.events import AnyWorkflowEvent
from taskloom.domain.workflow.state import ENDED
from taskloom.testing.clock import START
from taskloom.views.steps.fold import StepRow, fold_all
from taskloom.views.steps.shape import Shape
from taskloom.wire.recorded import GENESIS, seal
from tests.unit.domain.workflow.runs import Run
from tests.unit.domain.workflow.test_restart import definitions, go, made


def _recorded(run: Run) -> list[Recorded]:
    digest, sealed = GENESIS, []
    for version, event in enumerate(run.history, start=1):
        one = seal(cast(AnyWorkflowEvent, event), EventMeta("r", version, START, "default"), digest)
        digest = one.digest
        sealed.append(one)
    return sealed


def _expected(run: Run) -> dict[str, str]:
    """Steps that have begun and are no tasks, as far as the state still knows them."""
    nodes = run.state.nodes.values()
    return {node.path: node.status for node in nodes if not node.plan.needs_slot and node.status != "ready"}


def _agree(run: Run) -> None:
    rows: dict[str, StepRow] = fold_all(_recorded(run), Shape(run.input)).rows
    # An item that is to be gone on with stands as it ended until its turn comes, and what is within it begins then.
    items = [row for row in rows.values() if row.kind == "item" and row.status in ("failed", "cancelled")]
    waiting = tuple(f"{row.path}." for row in items)
    expected = {path: word for path, word in _expected(run).items() if not f"{path}.".startswith(waiting)}
    failed = {row.path for row in items if row.status == "failed"}
    # Also when its turn did not come: the state calls it cancelled then, to a reader it is still what failed.
    expected |= {path: "failed" for path in failed & expected.keys() if expected[path] == "cancelled"}
    assert {path: rows[path].status if path in rows else "none" for path in expected} == expected


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(definitions(), st.data())
def test_the_rows_of_steps_are_as_the_state_of_the_run_has_them(definition: Any, data: Any) -> None:
    run = made(definition)
    for _ in range(data.draw(st.integers(1, 3))):
        go(run, data, data.draw(st.integers(1, 3)))
        _agree(run)
        if run.state.status == "completed":
            break
        run.retry()
        _agree(run)
    if run.state.status not in ENDED:
        go(run, None, 0)
        _agree(run)
