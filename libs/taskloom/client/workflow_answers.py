"""The server's answers about stored workflows, their runs and templates, as values."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class SavedWorkflow(Struct, frozen=True):
    """``changed`` is false when the newest revision was this very definition."""

    id: str
    revision: int
    version: str
    changed: bool = True
    created_at: datetime | None = None


class RemovedWorkflow(Struct, frozen=True):
    id: str
    revision: int
    removed: bool


class WorkflowSummary(Struct, frozen=True, kw_only=True):
    """A stored workflow in its newest revision; ``steps`` is the number of its top-level steps."""

    id: str
    name: str
    revision: int
    version: str
    steps: int
    saved_at: datetime
    created_at: datetime
    saved_by: str = ""
    description: str = ""


class WorkflowPage(Struct, frozen=True):
    """``next_cursor`` is the ``after`` of the next page."""

    workflows: list[WorkflowSummary]
    total_count: int
    next_cursor: str | None = None


class WorkflowRevision(Struct, frozen=True, kw_only=True):
    revision: int
    version: str
    steps: int
    saved_at: datetime
    saved_by: str = ""
    digest: str = ""


class WorkflowRevisions(Struct, frozen=True):
    """Newest first."""

    id: str
    revisions: list[WorkflowRevision]


class StoredWorkflow(WorkflowRevision, frozen=True, kw_only=True):
    """One revision with its definition."""

    id: str
    newest_revision: int
    definition: dict[str, Any]
    created_at: datetime


class WorkflowFault(Struct, frozen=True):
    path: str
    message: str


class Verdict(Struct, frozen=True):
    """``phases``: ids of top-level steps that can run side by side, phase by phase. ``warnings``: what may be missing
    when it runs, such as a variable that nothing in the definition sets."""

    valid: bool
    faults: list[WorkflowFault] = []
    phases: list[list[str]] = []
    warnings: list[WorkflowFault] = []


class Executed(Struct, frozen=True):
    """``task_id`` is the run's id: with it the client's other calls look at the run."""

    task_id: str
    created_at: datetime
    definition_id: str = ""
    revision: int | None = None


class RunStatus(Struct, frozen=True, kw_only=True):
    """``status``: pending, running, paused, completed, failed or cancelled; steps are those of the top level.
    ``restarts``: how often the run was retried."""

    id: str
    name: str
    status: str
    progress_percentage: float
    step_count: int
    completed_steps: int
    failed_steps: int
    running_steps: int
    started_at: datetime | None = None
    completed_at: datetime | None = None
    restarts: int = 0


class RunVariables(Struct, frozen=True):
    task_id: str
    variables: dict[str, Any]


class Template(Struct, frozen=True):
    """``parameters`` is their JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    example: dict[str, Any] = {}


class Templates(Struct, frozen=True):
    templates: list[Template]


class Instantiated(Struct, frozen=True):
    """``saved`` and ``run`` are there where they were asked for."""

    template: str
    definition: dict[str, Any]
    saved: SavedWorkflow | None = None
    run: Executed | None = None
