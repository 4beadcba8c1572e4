"""``taskloom workflows``, against a server that answers from a list."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Server
from tests.unit.cli.test_verbs import AT, run

WORKFLOWS = "/api/v1/workflows"
REVISION: dict[str, Any] = {"revision": 2, "version": "1.0", "steps": 3, "saved_at": AT, "saved_by": "ann"}
LISTED = {**REVISION, "id": "etl", "name": "[b]Nightly", "description": "", "created_at": AT}
SAVED = {"id": "etl", "revision": 2, "version": "1.0", "changed": True, "created_at": AT}
EXECUTED = {
    "task_id": "r1",
    "workflow_id": "r1",
    "status": "OK",
    "created_at": AT,
    "definition_id": "etl",
    "revision": 2,
}


def test_stored_workflows_are_a_table_with_what_they_hold_as_it_is(server: Server) -> None:
    server.answers[WORKFLOWS] = (200, {"workflows": [LISTED], "total_count": 3, "next_cursor": "etl"})

    shown = run("workflows", "list")

    assert "[b]Nightly" in shown.stdout
    assert "ann" in shown.stdout
    assert "3 in all; go on with --after etl" in shown.stdout


def test_a_workflow_is_shown_with_its_revisions_and_definition(server: Server) -> None:
    body = {**REVISION, "id": "etl", "newest_revision": 2, "created_at": AT, "definition": {"name": "x"}}
    server.answers[f"{WORKFLOWS}/etl"] = (200, body)
    server.answers[f"{WORKFLOWS}/etl/revisions"] = (200, {"id": "etl", "revisions": [REVISION], "total_count": 1})

    shown = run("workflows", "show", "etl", "--revision", "2")

    assert '"name": "x"' in shown.stdout
    assert server.queries[-1] == {"revision": ["2"]}
    assert json.loads(run("workflows", "show", "etl", "--json").stdout) == body


def test_a_file_is_stored_under_its_own_or_a_given_id(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "etl.json"
    file.write_text('{"name": "etl", "steps": []}')
    server.answers[WORKFLOWS] = (201, SAVED)
    server.answers[f"{WORKFLOWS}/mine"] = (200, {**SAVED, "changed": False})

    assert run("workflows", "save", str(file)).stdout == "etl is at revision 2 (version 1.0)\n"
    again = run("workflows", "save", "-", "--id", "mine", "--expected", "1", stdin=file.read_text())
    assert again.stdout == "etl was already at revision 2 (version 1.0)\n"
    definition = {"name": "etl", "steps": []}
    assert server.asked == [
        ("POST", WORKFLOWS, {"definition": definition}),
        ("PUT", f"{WORKFLOWS}/mine", {"definition": definition, "expected_revision": 1}),
    ]


@pytest.mark.parametrize("words", [("save", "nowhere.json"), ("run", "etl", "--var", "x"), ("validate", "nowhere")])
def test_what_cannot_be_read_is_said(server: Server, words: tuple[str, ...]) -> None:
    shown = run("workflows", *words)

    assert (shown.exit_code, shown.stderr.startswith("error: ")) == (1, True)
    assert server.asked == []


def test_variables_are_json_or_else_text(server: Server) -> None:
    server.answers[f"{WORKFLOWS}/etl/execute"] = (202, EXECUTED)

    shown = run("workflows", "run", "etl", "--var", "n=3", "--var", "who=ann b", "--var", "l=[1]", "--revision", "1")

    assert shown.stdout == "r1\n"
    [(_, _, body)] = server.asked
    assert body == {"variables": {"n": 3, "who": "ann b", "l": [1]}, "revision": 1}


def test_faults_are_told_by_path_and_by_the_exit_code(server: Server) -> None:
    faulty = {"valid": False, "faults": [{"path": "definition.steps", "message": "needs a step"}], "phases": []}
    server.answers[f"{WORKFLOWS}/validate"] = (200, faulty)
    shown = run("workflows", "validate", "-", stdin="{}")
    assert (shown.exit_code, shown.stdout) == (1, "definition.steps: needs a step\n")

    server.answers[f"{WORKFLOWS}/validate"] = (200, {"valid": True, "faults": [], "phases": [["a", "b"], ["c"]]})
    shown = run("workflows", "validate", "-", stdin="{}")
    assert (shown.exit_code, shown.stdout) == (0, "phase 1: a, b\nphase 2: c\n")


def test_templates_say_what_they_need_and_are_made_into_workflows(server: Server) -> None:
    schema = {"properties": {"repository_url": {}, "name": {}}, "required": ["repository_url"]}
    template = {"name": "ci_cd", "description": "Builds.", "parameters": schema, "example": {}}
    server.answers["/api/v1/templates"] = (200, {"templates": [template], "total_count": 1})
    made = {"template": "ci_cd", "definition": {"name": "x"}}
    server.answers["/api/v1/templates/ci_cd"] = (200, made)

    assert "repository_url" in run("workflows", "templates").stdout
    assert json.loads(run("workflows", "from-template", "ci_cd").stdout) == {"name": "x"}
    server.answers["/api/v1/templates/ci_cd"] = (200, {**made, "saved": SAVED, "run": EXECUTED})
    shown = run("workflows", "from-template", "ci_cd", "-p", '{"repository_url": "r"}', "--save-as", "etl", "--run")
    assert shown.stdout == "etl is at revision 2 (version 1.0)\nr1\n"
    assert server.asked[-1][2] == {"parameters": {"repository_url": "r"}, "save_as": "etl", "execute": {}}


def test_a_workflow_is_removed(server: Server) -> None:
    server.answers[f"{WORKFLOWS}/etl"] = (200, {"id": "etl", "revision": 2, "removed": True})

    assert run("workflows", "remove", "etl", "--reason", "old").stdout == "etl is removed\n"
    assert (server.asked[0][0], server.queries[0]) == ("DELETE", {"reason": ["old"]})
