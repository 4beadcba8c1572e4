"""What a task of the task API runs, given its fields as JSON has them: the first that fits.

1. ``execution_context["kind"]`` with ``["input"]``: that kind of work; a ``query`` asks the description.
2. ``execution_context["function"]`` with ``["args"]`` and ``["kwargs"]``: that registered Python function.
3. ``cmd`` in the execution context or in the metadata, with ``env``, ``cwd``, ``stdin``, ``limits``: a shell command.
4. The task type, where an executor announces a kind of that name; its input is ``{"task": …}``.
5. Else the capability of that name: a registered agent's function. While no agent has it the task waits, and
   ``/why`` says so.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import Struct

OWN: Final = "task."
"""Metadata under keys that begin so are the task API's own: fields that the server has no place for."""

AGENT_FUNCTION: Final = "taskloom.agent:perform"
"""Registered by ``taskloom.client.tasks.agent_process``, which each agent's process imports."""

ANY_TYPE: Final = "custom"
_SHELL: Final = ("cmd", "env", "cwd", "stdin", "limits")
_TOLD: Final = (
    "name",
    "description",
    "task_type",
    "created_by",
    "priority",
    "tags",
    "metadata",
    "execution_context",
    "resource_requirements",
    "max_retries",
    "timeout_seconds",
    "deadline",
    "workflow_id",
    "workflow_step_id",
)


class Work(Struct, frozen=True):
    kind: str
    input: Mapping[str, Any]
    capabilities: tuple[str, ...] = ()


def work_of(task: Mapping[str, Any], kinds: Collection[str] = ()) -> Work:
    """What a task runs. ``kinds``: those that executors announce."""
    context, metadata = task.get("execution_context") or {}, task.get("metadata") or {}
    if kind := context.get("kind"):
        return Work(kind, context.get("input") or {})
    if "function" in context:
        return Work("python", {name: context[name] for name in ("function", "args", "kwargs") if name in context})
    for place in (context, metadata):
        if "cmd" in place:
            return Work("shell", {name: place[name] for name in _SHELL if name in place})
    told = {name: task[name] for name in _TOLD if task.get(name) not in (None, [], {})}
    task_type = str(task.get("task_type") or ANY_TYPE)
    if task_type in kinds:
        return Work(task_type, {"task": told})
    return Work("python", {"function": AGENT_FUNCTION, "kwargs": {"task": told}}, (task_type,))


def tell_workflow(work_input: Mapping[str, Any]) -> dict[str, Any]:
    """The input with the workflow's context and variables in the metadata of the task that an agent gets."""
    told = {"workflow_context": "{{ context }}", "workflow_variables": "{{ variables }}"}
    if work_input.get("function") == AGENT_FUNCTION:
        return {**work_input, "kwargs": tell_workflow(work_input["kwargs"])}
    if task := work_input.get("task"):
        return {**work_input, "task": {**task, "metadata": {**task.get("metadata", {}), **told}}}
    return dict(work_input)
