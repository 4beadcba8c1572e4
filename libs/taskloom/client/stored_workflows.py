"""``client.workflows``: stored workflows, their runs, and templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, Unpack

from taskloom.client import answers as a
from taskloom.client import workflow_answers as w
from taskloom.client import workflow_calls as calls
from taskloom.client.calls import Call
from taskloom.client.submission import Chosen, Control
from taskloom.client.workflow_calls import Definition, Execution

T = TypeVar("T")


class Calls(Protocol):
    def call(self, call: Call[T]) -> T: ...


class Workflows:
    """``workflow_id`` is the id of a stored workflow, ``run_id`` the task id of a run. Every call may raise
    ``Unreachable`` or a kind of ``Refused``, whose ``body["faults"]`` has all faults of a definition."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    def save(
        self, definition: Definition, workflow_id: str = "", *, expected_revision: int | None = None
    ) -> w.SavedWorkflow:
        """A revision of its own, unless it is the newest one already. Without ``workflow_id`` it is the definition's,
        or made of its name.

        Raises:
            Conflict: another revision than ``expected_revision`` is the newest; 0 says that there is none.
        """
        return self._client.call(calls.save(definition, workflow_id, expected_revision))

    def get(self, workflow_id: str, *, revision: int | None = None, version: str = "") -> w.StoredWorkflow:
        """With its definition: the newest revision, or the one asked for."""
        return self._client.call(calls.get(workflow_id, revision, version))

    def page(self, after: str = "", limit: int = 20) -> w.WorkflowPage:
        """One page, by id."""
        return self._client.call(calls.list_workflows(after, limit))

    def list(self) -> Iterator[w.WorkflowSummary]:
        """All of them, by id, page by page."""
        after: str | None = ""
        while after is not None:
            page = self.page(after, 100)
            yield from page.workflows
            after = page.next_cursor

    def revisions(self, workflow_id: str) -> Sequence[w.WorkflowRevision]:
        """Newest first, without their definitions."""
        return self._client.call(calls.revisions(workflow_id)).revisions

    def remove(self, workflow_id: str, reason: str = "") -> w.RemovedWorkflow:
        """Its runs go on."""
        return self._client.call(calls.remove(workflow_id, reason))

    def validate(self, definition: Definition) -> w.Verdict:
        """What is wrong with it, or in which phases its steps run; nothing is stored."""
        return self._client.call(calls.validate(definition))

    def execute(self, workflow_id: str, *, idempotency_key: str = "", **wish: Unpack[Execution]) -> w.Executed:
        """A run, once the orchestrator has it; ``client.wait`` waits for its end."""
        return self._client.call(calls.execute(workflow_id, wish, idempotency_key=idempotency_key))

    def runs(self, workflow_id: str, **chosen: Unpack[Chosen]) -> a.TaskPage:
        """One page of the runs that ``execute`` began, newest first."""
        return self._client.call(calls.runs(workflow_id, chosen))

    def status(self, run_id: str) -> w.RunStatus:
        return self._client.call(calls.status(run_id))

    def variables(self, run_id: str) -> dict[str, Any]:
        """As they are now."""
        return self._client.call(calls.variables(run_id)).variables

    def set_variables(self, run_id: str, values: Mapping[str, Any]) -> a.Controlled:
        """Those that are not named stay."""
        return self._client.call(calls.set_variables(run_id, values))

    def signal(self, run_id: str, name: str, payload: Any = None) -> a.Controlled:
        """Kept until a step takes it."""
        return self._client.call(calls.signal(run_id, name, payload))

    def pause(self, run_id: str, reason: str = "") -> a.Controlled:
        return self._client.call(calls.control(run_id, "pause", {"reason": reason}))

    def resume(self, run_id: str, reason: str = "") -> a.Controlled:
        return self._client.call(calls.control(run_id, "resume", {"reason": reason}))

    def cancel(self, run_id: str, reason: str = "") -> a.Controlled:
        """Its steps too."""
        return self._client.call(calls.control(run_id, "cancel", {"reason": reason}))

    def retry(self, run_id: str, reason: str = "", *, start: bool = False) -> a.Controlled:
        """A run that ended badly goes on where it failed, or, with ``start``, begins again with nothing done.

        Raises:
            Conflict: it has not ended badly, or steps of it were undone, so that it can only begin again.
        """
        wish: Control = {"reason": reason, "from": "start"} if start else {"reason": reason}
        return self._client.call(calls.control(run_id, "retry", wish))

    def templates(self) -> Sequence[w.Template]:
        return self._client.call(calls.templates()).templates

    def instantiate(
        self, template: str, parameters: Mapping[str, Any], *, save_as: str = "", execute: Execution | None = None
    ) -> w.Instantiated:
        """The definition that a template gives; stored under ``save_as``, run with ``execute``, which may be empty."""
        return self._client.call(calls.instantiate(template, parameters, save_as, execute))
