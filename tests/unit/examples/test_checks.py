"""What the code review example finds and mends."""

import pytest

from examples.code_review.checks import dangerous_calls, without_eval


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ("eval(text)", ["runs-text"]),
        ("exec(text, {})", ["runs-text"]),
        ("run(command, shell=True)", ["shell"]),
        ("run(command, shell=wanted)", ["shell"]),
        ("run(command, shell=False)", []),
        ("frame.eval('a + b')", []),
        ("name = 'eval(text)'", []),
    ],
)
def test_calls_that_run_text_are_found(source: str, codes: list[str]) -> None:
    assert [issue.code for issue in dangerous_calls(f"\n{source}\n", "a.py")] == codes


def test_an_issue_names_its_file_and_line() -> None:
    [issue] = dangerous_calls("x = 1\ny = [\n    eval(x)\n]\n", "a.py")

    assert (issue.file, issue.line) == ("a.py", 3)


def test_eval_is_replaced_below_what_must_stay_first() -> None:
    source = '"""Says what."""\nfrom __future__ import annotations\nimport os\nü = "ü", eval(a), eval(b)\n'

    assert without_eval(source) == (
        '"""Says what."""\nfrom __future__ import annotations\nfrom ast import literal_eval\nimport os\n'
        'ü = "ü", literal_eval(a), literal_eval(b)\n'
    )


def test_what_cannot_be_mended_safely_is_left_alone() -> None:
    source = "eval(text, names)\nexec(text)\n"

    assert without_eval(source) == source
