"""The task management engine's document: each of its Python snippets, as it stands, run in order on a live server.

The snippets are read from data/task_engine_snippets.md. What they import from ``src.graph_sitter.task_management`` is
ours under that name; names that they use without saying where they come from are those below. Text is changed only
where the document left a hole or names a place (``SUBSTITUTIONS``).
"""

import ast
import logging
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest

from taskloom.client import tasks, workflows
from taskloom.client.tasks import Task, TaskAPI, TaskExecution, TaskStatus
from taskloom.client.workflows import Workflow, WorkflowBuilder, WorkflowStatus, WorkflowStep
from taskloom.testing.processes import RunningSystem

pytestmark = pytest.mark.e2e

DOCUMENT: Final = Path(__file__).parent / "data" / "task_engine_snippets.md"
SNIPPETS: Final = 37
SUBSTITUTIONS: Final = (
    # The placeholder of further fields; a task needs to say who made it.
    (", ...)", ', created_by="user123")'),
    ("    # ... other fields\n)", '    created_by="user123",\n)'),
    ('    name="Resource Intensive Task",\n', '    name="Resource Intensive Task",\n    created_by="user123",\n'),
    # A directory that a test may write to.
    ('"/var/log/tasks.log"', 'str(log_directory / "tasks.log")'),
)
AGENT: Final = "engine_agent"
EVERYTHING: Final = {"code_analysis", "code_generation", "code_review", "testing", "deployment", "monitoring", "custom"}


def everything(task: Task, _context: dict[str, Any]) -> dict[str, Any]:
    """The function of an agent that can do all types of task."""
    return {"task": task.name, "variables": {"test_status": "passed"}}


class Snippet(NamedTuple):
    heading: str
    code: str
    line: int


def snippets() -> list[Snippet]:
    found, heading, text = [], "", DOCUMENT.read_text()
    for part in re.finditer(r"^#{2,4} ([^\n]*)$|^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if part[1]:
            heading = part[1]
        else:
            found.append(Snippet(heading, part[2], text[: part.start()].count("\n") + 2))
    return found


def filled(code: str) -> str:
    for hole, content in SUBSTITUTIONS:
        code = code.replace(hole, content)
    return code


class Notebook:
    """Runs snippets statement by statement in one namespace, and keeps what has to be ended."""

    def __init__(self, **names: Any) -> None:
        self.names = names
        self.apis: list[Any] = []

    async def run(self, snippet: Snippet) -> None:
        tree = ast.parse(filled(snippet.code), f"{DOCUMENT.name}: {snippet.heading}")
        ast.increment_lineno(tree, snippet.line)
        for statement in tree.body:
            module = ast.Module([statement], [])
            code = compile(module, DOCUMENT.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            try:
                waiting = eval(code, self.names)
                if waiting is not None:
                    await waiting
            finally:
                self._keep()

    def _keep(self) -> None:
        for value in list(self.names.values()):
            if isinstance(value, (TaskAPI, tasks.TaskExecutor, tasks.TaskScheduler)) and value not in self.apis:
                self.apis.append(value)

    async def close(self) -> None:
        for api in reversed(self.apis):
            await api.shutdown()


@pytest.fixture
async def notebook(
    running_system: RunningSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Notebook]:
    monkeypatch.setenv("TASKLOOM_URL", running_system.url)
    monkeypatch.setenv("TASKLOOM_HOME", str(running_system.home))
    exported = {name: getattr(place, name) for place in (tasks, workflows) for name in place.__all__}
    for name in ("src", "src.graph_sitter", "src.graph_sitter.task_management", "codegen"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules["src.graph_sitter.task_management"]).update(exported)
    vars(sys.modules["codegen"])["Agent"] = object
    typing_names = {name: getattr(sys.modules["typing"], name) for name in ("Any", "Dict", "List", "Optional", "Set")}
    notebook = Notebook(
        **exported,
        **typing_names,
        BaseModel=object,
        UUID=type(uuid4()),
        logging=logging,
        log_directory=tmp_path,
        threshold=1_000_000,
        agent_id=AGENT,
    )
    yield notebook
    await notebook.close()


def step(name: str) -> WorkflowStep:
    return WorkflowStep(id=name, name=name, task_template={"metadata": {"cmd": "true"}})


def quick(name: str, **fields: Any) -> Task:
    return Task(**{"name": name, "created_by": "user123", "metadata": {"cmd": "true"}, "max_retries": 0, **fields})


async def prepare(notebook: Notebook, heading: str) -> None:
    """What a section takes for granted."""
    names = notebook.names
    if heading == "Workflow Creation":
        await names["api"].register_agent(AGENT, "codegen", EVERYTHING, everything)
    elif heading in ("Dependency Validation", "Circular Dependencies"):
        known = [names["task1"], names["task2"], names["task3"]]
        names |= {"dependency_resolver": tasks.DependencyResolver(known), "task": known[2]}
    elif heading.endswith(" Steps"):
        # They have no function, so they would fail what the agent that has one is here for.
        for agent_id in ("codegen_agent_1", "claude_agent_1"):
            await names["api"].unregister_agent(agent_id)
        made = ("unit_test", "integration_test", "deploy", "verify", "notify", "rollback", "retry")
        names |= {f"{name}_step": step(name) for name in made} | {"builder": WorkflowBuilder(heading, "user123")}
    elif heading in ("Error Recovery", "Resource Monitoring", "Execution Operations", "Cancellation and Cleanup"):
        # The last one is retried, so it fails.
        failing = {"assigned_to": AGENT, "metadata": {"cmd": "exit 3"}} if heading == "Execution Operations" else {}
        task = quick(heading, **failing)
        names |= {"task": await names["api"].create_task(task), "task_id": task.id, "workflow_id": uuid4()}
        names["logger"] = tasks.TaskLogger()
    elif heading == "Task Operations":
        create = tasks.CreateTaskRequest(name="ops", created_by="user123", metadata={"cmd": "true"})
        later = quick("later", scheduled_at=datetime.now(UTC) + timedelta(hours=1))
        names["task_id"] = (await names["api"].create_task(later)).id
        names |= {"create_request": create, "update_request": tasks.UpdateTaskRequest(name="operations")}
    elif heading == "Workflow Operations":
        names["workflow"] = WorkflowBuilder("two", "user123").add_task_step("a", {"metadata": {"cmd": "true"}}).build()
        names["workflow_id"] = names["workflow"].id
    elif heading == "Monitoring Operations":
        names["task_ids"] = [names["task_id"]]
    elif heading == "With Codegen SDK":
        await names["api"].unregister_agent("codegen_agent")


async def check(notebook: Notebook, heading: str) -> None:
    """What a section promises."""
    names = notebook.names
    if heading == "Basic Task Creation":
        assert names["task_response"].id == names["task"].id
    elif heading == "Workflow Creation":
        assert names["result"].status is WorkflowStatus.COMPLETED, names["result"].error_message
        assert names["result"].steps[2].result["condition_result"] is True
    elif heading in ("Task Model", "TaskExecution Model", "Workflow Model"):
        ours = {"Task Model": Task, "TaskExecution Model": TaskExecution, "Workflow Model": Workflow}[heading]
        told = names.pop(ours.__name__)
        assert told is not ours
        assert set(told.__annotations__) <= set(ours.__struct_fields__)
        names[ours.__name__] = ours
    elif heading == "Adding Dependencies":
        assert names["task3"].depends_on == {names["task2"].id}
    elif heading == "Dependency Validation":
        assert names["errors"] == []
    elif heading in ("Execution Order", "Circular Dependencies"):
        order = names["execution_order"]
        assert order == [names[f"task{number}"].id for number in (1, 2, 3)]
    elif heading.endswith(" Steps"):
        workflow = names["builder"].build()
        assert {each.step_type.value for each in workflow.steps} == {heading.removesuffix(" Steps").lower()}
        if heading != "Wait Steps":  # the document waits five minutes
            assert (await names["api"].execute_workflow(workflow, timeout_s=60)).status is WorkflowStatus.COMPLETED
    elif heading == "Error Recovery":
        assert names["execution"].is_successful()
    elif heading == "Task Operations":
        assert names["updated_task"].name == "operations"
        assert names["success"] is True
        assert await names["api"].get_task(names["task_id"]) is None
    elif heading == "Execution Operations":
        assert (names["execution"].executor_id, names["execution"].execution_number) == (AGENT, 2)
    elif heading == "Workflow Operations":
        assert names["result"].status is WorkflowStatus.COMPLETED
        assert names["success"] is False
        assert names["status"]["completed_steps"] == 1
    elif heading == "Failed Tasks":
        assert all(task.status is TaskStatus.FAILED for task in names["failed_tasks"])
    elif heading == "Logging Configuration":
        assert (names["log_directory"] / "tasks.log").exists()
    elif heading == "Debugging":
        assert names["health"]["status"] in ("healthy", "degraded")


async def test_each_snippet_of_the_document_runs_as_it_stands(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    found = snippets()
    assert len(found) == SNIPPETS
    heading = ""
    for at, snippet in enumerate(found):
        if snippet.heading != heading:
            await prepare(notebook, snippet.heading)
        heading = snippet.heading
        await notebook.run(snippet)
        if at + 1 == len(found) or found[at + 1].heading != heading:
            await check(notebook, heading)
    said = capsys.readouterr().out
    assert "Created task: " in said
    assert "System status: " in said
