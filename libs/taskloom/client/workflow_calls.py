"""The calls about stored workflows, their runs and templates, as values."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict
from urllib.parse import quote

from taskloom.client import answers as a
from taskloom.client import workflow_answers as w
from taskloom.client.calls import Call
from taskloom.client.submission import Chosen, Control

WORKFLOWS: Final = "/api/v1/workflows"
TEMPLATES: Final = "/api/v1/templates"
Definition = Mapping[str, Any]


class Execution(TypedDict, total=False):
    """How a stored workflow is run; ``revision`` or ``version`` choose an older one. ``run_at`` and ``deadline`` are
    RFC 3339 texts."""

    revision: int
    version: str
    variables: Mapping[str, Any]
    context: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    task_id: str
    session_id: str
    name: str
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    priority: int | str
    queue: str
    run_at: str
    deadline: str
    depends_on: Sequence[str]


def of(name: str, part: str = "") -> str:
    return f"{WORKFLOWS}/{quote(name, safe='')}" + (f"/{part}" if part else "")


def save(definition: Definition, name: str = "", expected_revision: int | None = None) -> Call[w.SavedWorkflow]:
    body = _given(definition=definition, expected_revision=expected_revision)
    return Call(w.SavedWorkflow, of(name) if name else WORKFLOWS, "PUT" if name else "POST", body=body)


def list_workflows(after: str = "", limit: int = 20) -> Call[w.WorkflowPage]:
    return Call(w.WorkflowPage, WORKFLOWS, params=_given(after=after, limit=limit))


def get(name: str, revision: int | None = None, version: str = "") -> Call[w.StoredWorkflow]:
    return Call(w.StoredWorkflow, of(name), params=_given(revision=revision, version=version))


def revisions(name: str) -> Call[w.WorkflowRevisions]:
    return Call(w.WorkflowRevisions, of(name, "revisions"))


def remove(name: str, reason: str = "") -> Call[w.RemovedWorkflow]:
    return Call(w.RemovedWorkflow, of(name), "DELETE", params=_given(reason=reason))


def validate(definition: Definition) -> Call[w.Verdict]:
    return Call(w.Verdict, f"{WORKFLOWS}/validate", "POST", body={"definition": definition})


def execute(name: str, wish: Execution, *, idempotency_key: str = "") -> Call[w.Executed]:
    headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
    return Call(w.Executed, of(name, "execute"), "POST", headers=headers, body=wish)


def runs(name: str, chosen: Chosen) -> Call[a.TaskPage]:
    return Call(a.TaskPage, of(name, "runs"), params=_given(**chosen))


def control(run_id: str, verb: str, wish: Control) -> Call[a.Controlled]:
    """``verb``: cancel, pause, resume or retry."""
    return Call(a.Controlled, of(run_id, verb), "POST", body=_given(**wish))


def signal(run_id: str, name: str, payload: Any = None) -> Call[a.Controlled]:
    return Call(a.Controlled, of(run_id, "signal"), "POST", body={"name": name, "payload": payload})


def status(run_id: str) -> Call[w.RunStatus]:
    return Call(w.RunStatus, of(run_id, "status"))


def variables(run_id: str) -> Call[w.RunVariables]:
    return Call(w.RunVariables, of(run_id, "variables"))


def set_variables(run_id: str, values: Mapping[str, Any]) -> Call[a.Controlled]:
    return Call(a.Controlled, of(run_id, "variables"), "PATCH", body={"values": values})


def templates() -> Call[w.Templates]:
    return Call(w.Templates, TEMPLATES)


def instantiate(
    template: str, parameters: Mapping[str, Any], save_as: str = "", execute: Execution | None = None
) -> Call[w.Instantiated]:
    body = _given(parameters=parameters, save_as=save_as, execute=execute)
    return Call(w.Instantiated, f"{TEMPLATES}/{quote(template, safe='')}", "POST", body=body)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}
