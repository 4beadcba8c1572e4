"""Histories that a release wrote are read by every later one, and give what they gave then."""

from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from taskloom.domain.task import events as e
from taskloom.domain.task.evolve import evolve, fold
from taskloom.domain.task.state import TaskState
from taskloom.domain.workflow.events import WorkflowEvent
from taskloom.views.task_executions.fold import fold as fold_view
from taskloom.views.task_executions.row import Row
from taskloom.wire.recorded import chain_fault, unseal
from tests.contract.make_histories import HISTORIES

RELEASES = sorted(HISTORIES.glob("*.jsonl"))


@cache
def bodies_of(release: Path) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for body in release.read_bytes().splitlines():
        found[unseal(body).task_id].append(body)
    return dict(found)


CASES = [
    pytest.param(release, expected, id=f"{release.stem}-{expected['task_id']}")
    for release in RELEASES
    for expected in msgspec.json.decode(release.with_suffix(".states.json").read_bytes())
]


def test_the_first_release_is_among_them() -> None:
    assert [release.stem for release in RELEASES][:1] == ["v0.1.0"]
    assert len(CASES) >= 8


@pytest.mark.parametrize(("release", "expected"), CASES)
def test_a_history_replays_to_the_states_that_it_had(release: Path, expected: dict[str, Any]) -> None:
    bodies = bodies_of(release)[expected["task_id"]]
    assert chain_fault(bodies) is None
    state: TaskState | None = None
    row: Row | None = None
    words, view_words, statuses = [], [], []
    for recorded in map(unseal, bodies):
        state, row = evolve(state, recorded), fold_view(row, recorded)
        words.append(state.word)
        view_words.append(row.state)
        statuses.append(row.status)
    assert words == view_words == expected["words"]
    assert statuses == expected["statuses"]
    assert state is not None
    assert (state.attempts, state.failures, state.digest.hex()) == (
        expected["attempts"],
        expected["failures"],
        expected["digest"],
    )


@pytest.mark.parametrize(("release", "expected"), CASES)
def test_a_replay_may_go_on_from_any_snapshot(release: Path, expected: dict[str, Any]) -> None:
    history = [unseal(body) for body in bodies_of(release)[expected["task_id"]]]
    whole = fold(history)
    for version in range(1, len(history)):
        before = fold(history[:version])
        if before is not None and before.run is not None:
            continue
        snapshot = msgspec.json.encode(before)
        assert fold(history[version:], msgspec.json.decode(snapshot, type=TaskState)) == whole


def test_the_histories_use_every_type_of_a_tasks_own_events_of_today() -> None:
    known = {kind.__struct_config__.tag for kind in get_args(e.TaskEvent) if not issubclass(kind, WorkflowEvent)}
    used = {unseal(body).type for release in RELEASES for bodies in bodies_of(release).values() for body in bodies}
    assert known - used == set()


@pytest.mark.parametrize(("release", "expected"), CASES)
def test_a_forged_event_is_found_in_every_place(release: Path, expected: dict[str, Any]) -> None:
    bodies = bodies_of(release)[expected["task_id"]]
    for place, body in enumerate(bodies):
        forged = body.replace(b'"tenant_id":"acme"', b'"tenant_id":"evil"')
        assert forged != body
        assert chain_fault([*bodies[:place], forged, *bodies[place + 1 :]]) is not None
    for place in range(len(bodies) - 1):
        assert chain_fault([*bodies[:place], *bodies[place + 1 :]]) is not None
