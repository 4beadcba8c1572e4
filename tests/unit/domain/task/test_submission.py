from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from taskloom.domain.task import commands as c
from taskloom.domain.task.submission import MAX_QUERY_CHARS, Invalid, body_hash, normalise
from taskloom.domain.values import TaskSpec
from tests.unit.domain.task.lives import submit
from tests.unit.domain.task.strategies import submissions


def spec(command: c.SubmitTask | None = None, **fields: Any) -> TaskSpec:
    known = {"task_id": "t", "tenant_id": "default", "user_id": "ann"}
    return normalise(submit(**fields) if command is None else command, **known)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "", "query": "  "}, "query"),
        ({"kind": "query"}, "query"),
        ({"query": "x" * (MAX_QUERY_CHARS + 1)}, "query"),
        ({"mode": "quick"}, "mode"),
        ({"priority": 0}, "priority"),
        ({"priority": 6}, "priority"),
        ({"priority": "soon"}, "priority"),
        ({"model_tier": "huge"}, "model_tier"),
        ({"model_tier": "small", "context": {"disable_ai": True}}, "context.disable_ai"),
        ({"callback_url": "http://example.org"}, "callback_url"),
        ({"callback_url": "https:///path"}, "callback_url"),
        ({"callback_url": "https://["}, "callback_url"),
        ({"run_at": "9999-12-31T23:59:59-23:59"}, "run_at"),
        ({"run_at": "0001-01-01T00:00:00+23:59"}, "run_at"),
        ({"deadline": "9500-01-01T00:00:00Z"}, "deadline"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        spec(**fields)
    assert refused.value.field == field
    assert refused.value.message


def test_a_kind_that_nobody_runs_is_named_with_those_that_are() -> None:
    with pytest.raises(Invalid, match=r"no executor runs the kind 'x'; known kinds: echo, shell"):
        normalise(submit(kind="x"), task_id="t", tenant_id="d", user_id="", kinds=["shell", "echo"])


@pytest.mark.parametrize(
    ("word", "number"), [("low", 1), ("Normal", 2), ("HIGH", 3), ("urgent", 4), ("critical", 5), (3, 3)]
)
def test_priorities_are_words_or_numbers(word: str | int, number: int) -> None:
    assert spec(priority=word).priority == number


def test_a_task_without_a_kind_is_a_query() -> None:
    assert spec(kind="", query="hello").kind == "query"


def test_attachments_may_stand_in_for_the_query() -> None:
    assert spec(kind="", context={"attachments": [{"name": "a"}]}).query == ""


def test_choices_of_a_model_go_into_the_context_and_win_over_it() -> None:
    found = spec(query="q", model_tier="small", max_iterations=3, context={"model_tier": "large", "x": 1})
    assert found.context == {"model_tier": "small", "max_iterations": 3, "x": 1}


def test_times_become_utc() -> None:
    found = spec(run_at="2026-01-01T02:00:00+02:00", deadline="2026-01-01T00:00:00-01:00")
    assert (found.run_at, found.deadline) == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC))
    assert found.run_at is not None
    assert found.run_at.tzinfo is UTC


def test_a_task_without_a_session_gets_one_of_its_own() -> None:
    mine, again = spec(), spec()
    other = normalise(submit(), task_id="t", tenant_id="rival", user_id="")
    assert mine.session_id == again.session_id
    assert mine.session_id != other.session_id
    assert len(mine.session_id) == 36


def test_tags_keep_their_order_and_capabilities_have_none() -> None:
    found = spec(tags=["b", "a", "b"], capabilities=["z", "y", "z"])
    assert (found.tags, found.capabilities) == (("b", "a"), ("y", "z"))


@given(submissions)
def test_the_same_submission_gives_the_same_specification_and_hash(command: c.SubmitTask) -> None:
    assert spec(command) == spec(command)
    assert body_hash(spec(command)) == body_hash(spec(command))


def test_another_order_of_keys_is_the_same_body_and_another_value_is_not() -> None:
    assert body_hash(spec(input={"a": 1, "b": {"c": 2, "d": 3}})) == body_hash(
        spec(input={"b": {"d": 3, "c": 2}, "a": 1})
    )
    assert body_hash(spec(input={"a": 1})) != body_hash(spec(input={"a": 2}))
