"""What a submission that names no kind becomes, by its mode."""

from typing import Any

import pytest
from msgspec import structs

from taskloom.domain.task import commands as c
from taskloom.domain.task.modes import kind_in, kind_of, resolved
from taskloom.domain.task.submission import Invalid, body_hash, normalise
from taskloom.domain.values import TaskSpec


def spec(**fields: Any) -> TaskSpec:
    return normalise(c.SubmitTask(**fields), task_id="t", tenant_id="default", user_id="ann")


@pytest.mark.parametrize("mode", ["complex", "Complex", "standard", "STANDARD"])
def test_complex_and_standard_are_goals_and_standard_asks_the_model_first(mode: str) -> None:
    found = spec(query="find it", mode=mode, context={"note": "x"}, model_tier="small")
    assert (found.kind, found.input["goal"], found.query, found.mode) == ("goal", "find it", "find it", mode.lower())
    assert found.input.get("detect", False) is (mode.lower() == "standard")
    assert found.context == {"note": "x", "model_tier": "small"}
    assert found.input["model"] == {"tier": "small"}


@pytest.mark.parametrize("mode", ["", "simple", "supervisor", "Simple"])
def test_other_modes_are_queries_as_they_were(mode: str) -> None:
    command = c.SubmitTask(query="find it", mode=mode, input={"max_steps": 3})
    assert resolved(command) is command
    found = spec(query="find it", mode=mode, input={"max_steps": 3})
    assert (found.kind, found.input) == ("query", {"max_steps": 3})


@pytest.mark.parametrize("kind", ["query", "echo", "workflow", "goal"])
def test_a_kind_that_is_named_is_taken_whatever_the_mode(kind: str) -> None:
    command = c.SubmitTask(kind=kind, query="find it", mode="standard")
    assert (resolved(command), kind_of(command)) == (command, kind)
    assert "detect" not in resolved(command).input


def test_without_words_there_is_nothing_to_pursue_and_it_stays_a_query() -> None:
    assert spec(mode="complex", context={"attachments": [{"name": "a"}]}).kind == "query"
    with pytest.raises(Invalid) as refused:
        spec(mode="complex", query=" ")
    assert refused.value.field == "query"
    assert spec(mode="complex", input={"goal": "find it"}).kind == "goal"


def test_what_a_goal_takes_can_be_sent_with_the_mode_and_wins_over_it() -> None:
    found = spec(query="find it", mode="standard", input={"detect": False, "max_steps": 3})
    assert (found.kind, found.input["max_steps"], found.input.get("detect", False)) == ("goal", 3, False)
    with pytest.raises(Invalid) as refused:
        spec(query="find it", mode="complex", input={"max_stepps": 3})
    assert refused.value.field.startswith("input")


def test_a_mode_that_is_none_is_refused_as_such() -> None:
    with pytest.raises(Invalid) as refused:
        spec(query="x", mode="complexx")
    assert refused.value.field == "mode"


@pytest.mark.parametrize("mode", ["complex", "standard"])
def test_resolving_twice_and_before_the_door_leads_to_the_same_task(mode: str) -> None:
    command = c.SubmitTask(query="find it", mode=mode, input={"max_steps": 3})
    once = resolved(command)
    assert resolved(once) is once
    told = {"task_id": "t", "tenant_id": "default", "user_id": "ann"}
    assert normalise(command, **told) == normalise(once, **told)
    assert body_hash(normalise(command, **told)) == body_hash(normalise(once, **told))


@pytest.mark.parametrize(
    "fields",
    [
        {"query": "x", "mode": "complex"},
        {"query": "x", "mode": "simple"},
        {"query": " ", "mode": "complex"},
        {"kind": "echo", "mode": "complex"},
        {"mode": "standard", "input": {"goal": "x"}},
        {},
    ],
)
def test_the_json_of_a_submission_has_the_kind_of_the_submission(fields: dict[str, Any]) -> None:
    assert kind_in(fields) == kind_of(structs.replace(c.SubmitTask(), **fields))


def test_json_that_is_no_submission_is_a_query() -> None:
    assert kind_in({"kind": 3, "mode": ["complex"], "query": 7, "input": "x"}) == "query"
