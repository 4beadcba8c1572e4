"""Expressions, templates and conditions: what they give, and what they refuse."""

import time
from typing import Any

import pytest
from immutables import Map

from taskloom.domain.workflow.conditions import Condition, holds
from taskloom.domain.workflow.expressions import BadExpression, Unresolved, check, evaluate, render
from taskloom.domain.workflow.naming import check_template

NAMES: dict[str, Any] = {
    "variables": Map({"n": 3, "name": "ann", "list": [1, {"x": 2}], "empty": None, "yes": True}),
    "result": {"status": "passed", "n": 7, "tests": [{"ok": True}]},
    "context": {"region": "eu", "status": "none"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("variables.n * 2 + 1", 7),
        ("variables.n / 2", 1.5),
        ("-variables.n // 2 % 5", 3),
        ("variables['list'][1].x", 2),
        ("variables.list[-1]", {"x": 2}),
        ("variables.name[0]", "a"),
        ('variables.name + "!"', "ann!"),
        ("variables.list + [3]", [1, {"x": 2}, 3]),
        ("variables.n > 2 and not variables.empty", True),
        ("variables.n in [1, 2] or result.status == 'passed'", True),
        ("'yes' if variables.yes else 'no'", "yes"),
        ("len(variables.list) + len(variables.name)", 5),
        ("upper(variables.name)", "ANN"),
        ("exists(variables.nothing)", False),
        ("default(variables.nothing.deeper, 5)", 5),
        ("default(variables.n, 5)", 3),
        ("max(1, variables.n)", 3),
        ("round(2.567, 1)", 2.6),
        ("int('12')", 12),
        ("str(variables.list)", '[1,{"x":2}]'),
        ("true != false and variables.empty is null", True),
        ("1 < 2 < 3", True),
        ("variables", {"empty": None, "list": [1, {"x": 2}], "n": 3, "name": "ann", "yes": True}),
    ],
)
def test_an_expression_gives_a_value(text: str, value: Any) -> None:
    assert evaluate(text, NAMES) == value


@pytest.mark.parametrize("text", ["variables.nothing", "nothing", "variables.list[2]", "variables.n.x", "result['x']"])
def test_what_is_not_there_is_named(text: str) -> None:
    with pytest.raises(Unresolved, match="not there"):
        evaluate(text, NAMES)


ATTACKS = [
    "().__class__.__bases__[0].__subclasses__()",
    "variables.__class__",
    "variables.mutate",
    "variables.get('n')",
    "result.keys",
    "'x'.format",
    "__import__('os')",
    "open('/etc/passwd')",
    "eval('1')",
    "(lambda: 1)()",
    "[x for x in [1]]",
    "{1: 2}",
    "f'{variables}'",
    "9 ** 9",
    "1 << 9999",
    "x := 1",
    "x = 1",
    "1; 2",
    "import os",
    "len(value=[])",
    "max(*[1])",
    "b'x'",
    "1j",
    "...",
    "",
    "len.__self__",
    "_x",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_but_data_can_be_reached(text: str) -> None:
    with pytest.raises(BadExpression):
        evaluate(text, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "'x' * 1000000000",
        "variables.list * 1000000000",
        "'%1000000000d' % 1",
        "1.0e308 * 10",
        "*".join(["99999999999999999999"] * 90),
        "(" * 3000 + ")" * 3000,
        "-" * 1900 + "1",
        "+".join(["1"] * 200),
        "9" * 1999,
        "int('" + "9" * 1900 + "')",
        "1 / 0",
        "'a' < 1",
        "1 + 'a'",
        "len(5)",
        "variables.list['x']",
    ],
)
def test_the_cost_is_bounded_and_faults_are_values(text: str) -> None:
    before = time.process_time()
    with pytest.raises(BadExpression):
        evaluate(text, NAMES)
    assert time.process_time() - before < 1.0


def test_a_name_of_a_function_is_no_value() -> None:
    with pytest.raises(Unresolved):
        evaluate("len", NAMES)


def test_one_look_up_does_not_walk_the_data() -> None:
    names = {"variables": {"big": list(range(1_000_000)), "n": 1}}
    evaluate("variables.n", names)
    before = time.process_time()
    for _ in range(100):
        evaluate("variables.n + variables.big[5]", names)
    assert time.process_time() - before < 0.5, "walking the list once alone takes longer than these hundred look-ups"


def test_a_template_alone_keeps_its_type_and_among_text_becomes_text() -> None:
    template = {"a": "{{ variables.list }}", "b": ["n={{variables.n}}, {{ result.tests }}"], "c": 5, "d": "{ plain }"}
    assert render(template, NAMES) == {
        "a": [1, {"x": 2}],
        "b": ['n=3, [{"ok":true}]'],
        "c": 5,
        "d": "{ plain }",
    }
    assert render("{{ variables.n }}{{ variables.n }}", NAMES) == "33"


def test_faults_in_templates_are_found_before_they_run() -> None:
    assert check("variables.n >") is not None
    assert check("variables.n > 1") is None
    faults = check_template({"a": ["ok {{ x }}", "{{ 1 + }}"], "b": {"c": "{{ y( }}"}})
    assert [path for path, _ in faults] == ["a[1]", "b.c"]


def is_true(**fields: Any) -> bool:
    import msgspec

    return holds(msgspec.convert(fields, Condition), NAMES)


@pytest.mark.parametrize(
    ("operator", "field", "value", "expected"),
    [
        ("equals", "n", 3, True),
        ("equals", "status", "passed", True),
        ("equals", "region", "eu", True),
        ("equals", "nothing", None, True),
        ("equals", "nothing", 1, False),
        ("not_equals", "n", 3, False),
        ("not_equals", "nothing", 1, True),
        ("greater_than", "n", 2, True),
        ("greater_than", "n", 3, False),
        ("greater_than", "nothing", 0, False),
        ("less_than", "n", 4.5, True),
        ("less_than", "nothing", 4, False),
        ("contains", "list", 1, True),
        ("contains", "name", "nn", True),
        ("contains", "name", 5, False),
        ("contains", "n", 3, False),
        ("contains", "nothing", 3, False),
        ("exists", "name", None, True),
        ("exists", "nothing", True, False),
        ("exists", "empty", True, False),
        ("equals", "list.1.x", 2, True),
        ("equals", "tests.0.ok", True, True),
        ("exists", "list.9", None, False),
        ("exists", "name.x", None, False),
    ],
)
def test_the_six_operators(operator: str, field: str, value: Any, expected: bool) -> None:
    assert is_true(field=field, operator=operator, value=value) is expected


def test_a_source_narrows_where_a_field_is_looked_up() -> None:
    assert is_true(field="n", operator="equals", value=7, source="result")
    assert is_true(field="status", operator="equals", value="none", source="context")
    assert not is_true(field="status", operator="exists", source="variables")


def test_conditions_are_joined_by_and_or_not() -> None:
    one, two = {"field": "n", "operator": "equals", "value": 3}, {"field": "n", "operator": "equals", "value": 4}
    assert is_true(**{"and": [one, {"not": two}, "variables.n == 3", True]})
    assert not is_true(**{"and": [one, two]})
    assert is_true(**{"or": [two, one]})
    assert not is_true(**{"or": [two, False]})


def test_values_of_different_kinds_cannot_be_compared() -> None:
    with pytest.raises(BadExpression, match="cannot be compared"):
        is_true(field="name", operator="greater_than", value=3)
