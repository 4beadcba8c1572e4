"""Stored workflows: save, list, read, check, execute, remove."""

from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import Headers, json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.definitions import (
    RUN_OF,
    Checked,
    DefinitionList,
    DefinitionSeen,
    Execute,
    Executed,
    Number,
    Removed,
    RevisionList,
    Saved,
    SaveRevision,
    SaveWorkflow,
    Verdict,
    Version,
    verdict_on,
)
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import NotFound, decoded
from services.gateway.queries import Limit100, TaskListQuery, metadata_filters, read_query
from services.gateway.shapes import TaskList, summary_of
from services.gateway.submit import Accepted

WORKFLOWS: Final = "/api/v1/workflows"
WORKFLOW: Final = f"{WORKFLOWS}/{{workflow_id:str}}"
TAG: Final = "Stored workflows"

DEFINITION: Final[dict[str, Any]] = {
    "name": "Nightly ETL",
    "version": "1.2",
    "variables": {"region": "eu"},
    "steps": [
        {
            "step_type": "task",
            "id": "extract",
            "task_template": {"kind": "shell", "input": {"cmd": "echo extract {{ variables.region }}"}},
        },
        {"step_type": "child", "id": "load", "workflow": "load", "depends_on": ["extract"]},
    ],
}
_WRITE_HEADERS: Final = {
    "Idempotency-Key": "A repeat under the same key changes nothing and is answered with how things stand",
    "Prefer": "wait=N (seconds, at most 30): wait so long for the owner's answer",
}


class DefinitionsQuery(Struct, frozen=True):
    after: Annotated[str, Meta(max_length=128, description="Ids that come after this one; next_cursor of a page")] = ""
    limit: Limit100 = 20


class RevisionQuery(Struct, frozen=True):
    """Without both the newest one."""

    revision: Number | None = None
    version: Version | None = None


class RemoveQuery(Struct, frozen=True):
    reason: Annotated[str, Meta(max_length=4096, description="Kept in its history")] = ""


def _id(workflow_id: str) -> str:
    return checked_id(workflow_id, "id")


@post(
    WORKFLOWS,
    opt=documented(
        Doc(
            summary="Store a workflow",
            tag=TAG,
            details="Each save of another body is a revision, and none is ever changed. Without id it is the "
            "definition's own, or made of its name.",
            body=SaveWorkflow,
            examples={"a workflow": {"definition": DEFINITION}},
            headers=_WRITE_HEADERS,
            answers={201: Answered("Stored", Saved)},
            errors=(400, 409, 413, 503),
        )
    ),
)
async def save_workflow(request: AnyRequest) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(SaveWorkflow).decode, await request.body())
    return await _save(request, wish.id, wish.definition, wish.expected_revision, 201)


@put(
    WORKFLOW,
    opt=documented(
        Doc(
            summary="Store a revision of a workflow",
            tag=TAG,
            details="expected_revision refuses the save when somebody else was faster.",
            body=SaveRevision,
            examples={"after revision 1": {"definition": DEFINITION, "expected_revision": 1}},
            headers=_WRITE_HEADERS,
            answers={200: Answered("Stored", Saved)},
            errors=(400, 409, 413, 503),
        )
    ),
)
async def save_revision(request: AnyRequest, workflow_id: FromPath[str]) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(SaveRevision).decode, await request.body())
    return await _save(request, _id(workflow_id), wish.definition, wish.expected_revision, 200)


async def _save(
    request: AnyRequest, name: str | None, definition: dict[str, Any], expected: int | None, status: int
) -> ASGIApp:
    gateway = gateway_of(request)
    saved = await gateway.definitions.save(name, definition, expected, origin_of(request, gateway))
    return json_answer(saved, status=status, headers=[("Location", f"{WORKFLOWS}/{saved.id}")])


@get(
    WORKFLOWS,
    opt=documented(
        Doc(
            summary="List stored workflows, by id",
            tag=TAG,
            query=DefinitionsQuery,
            answers={200: Answered("One page, each in its newest revision", DefinitionList)},
            errors=(400,),
        )
    ),
)
async def list_workflows(request: AnyRequest) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), DefinitionsQuery)
    found = await gateway.definitions.page(caller_in(request), query.after, query.limit)
    return json_answer(found, headers=gateway.lag.header())


@get(
    WORKFLOW,
    opt=documented(
        Doc(
            summary="A stored workflow: its newest revision, or the one asked for",
            tag=TAG,
            details="A version that several revisions share means the newest of them.",
            query=RevisionQuery,
            answers={200: Answered("The revision with its definition", DefinitionSeen)},
            errors=(400, 404),
        )
    ),
)
async def get_stored_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), RevisionQuery)
    found = await gateway.definitions.seen(caller_in(request), _id(workflow_id), query.revision, query.version)
    return json_answer(found, headers=gateway.lag.header())


@get(
    f"{WORKFLOW}/revisions",
    opt=documented(
        Doc(
            summary="All revisions of a stored workflow, newest first",
            tag=TAG,
            answers={200: Answered("The revisions, without their definitions", RevisionList)},
            errors=(400, 404),
        )
    ),
)
async def list_revisions(request: AnyRequest, workflow_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    found = await gateway.definitions.revisions(caller_in(request), _id(workflow_id))
    return json_answer(found, headers=gateway.lag.header())


@delete(
    WORKFLOW,
    status_code=200,
    opt=documented(
        Doc(
            summary="Remove a stored workflow",
            tag=TAG,
            details="Its runs go on. Saved again, it goes on with the next revision.",
            query=RemoveQuery,
            headers=_WRITE_HEADERS,
            answers={200: Answered("Removed", Removed)},
            errors=(400, 404, 503),
        )
    ),
)
async def remove_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), RemoveQuery)
    removed = await gateway.definitions.remove(_id(workflow_id), query.reason, origin_of(request, gateway))
    return json_answer(removed)


@post(
    f"{WORKFLOWS}/validate",
    opt=documented(
        Doc(
            summary="Check a workflow without storing it",
            tag=TAG,
            body=Checked,
            examples={"a workflow": {"definition": DEFINITION}},
            answers={
                200: Answered(
                    "Its faults with their paths, or the phases of its steps",
                    Verdict,
                    {"valid": True, "faults": [], "phases": [["extract"], ["load"]]},
                )
            },
            errors=(400, 413),
        )
    ),
)
async def validate_workflow(request: AnyRequest) -> ASGIApp:
    wish = decoded(msgspec.json.Decoder(Checked).decode, await request.body())
    return json_answer(verdict_on(wish.definition), status=200)


@post(
    f"{WORKFLOW}/execute",
    opt=documented(
        Doc(
            summary="Run a stored workflow",
            tag=TAG,
            details="The run keeps the revision that it began with. It is a task of kind workflow: task_id is its id.",
            body=Execute,
            body_required=False,
            examples={"with variables": {"variables": {"region": "us"}}, "an older one": {"revision": 1}},
            headers={
                "Idempotency-Key": "The same key gives the same run; another body under it is 409",
                "Prefer": "wait=N (seconds, at most 30): wait so long for the confirmation",
            },
            answers={202: Answered("Taken", Executed)},
            errors=(400, 404, 409, 413, 429, 503),
        )
    ),
)
async def execute_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    gateway.limits.admit_submission()
    wish = decoded(msgspec.json.Decoder(Execute).decode, await request.body() or b"{}")
    accepted, executed = await gateway.definitions.execute(_id(workflow_id), wish, origin_of(request, gateway))
    return json_answer(executed, status=202, headers=run_headers(accepted))


def run_headers(accepted: Accepted) -> Headers:
    repeated = [("X-Idempotency-Cached", "true")] if accepted.repeated else []
    return [("X-Workflow-ID", accepted.task_id), ("X-Session-ID", accepted.session_id), *repeated]


@get(
    f"{WORKFLOW}/runs",
    opt=documented(
        Doc(
            summary="Runs of a stored workflow, newest first",
            tag=TAG,
            details="Those begun by execute: tasks with this id as metadata.definition_id. The query is that of tasks.",
            query=TaskListQuery,
            answers={200: Answered("One page", TaskList)},
            errors=(400, 404),
        )
    ),
)
async def list_runs(request: AnyRequest, workflow_id: FromPath[str]) -> ASGIApp:
    gateway, pairs, caller = gateway_of(request), pairs_of(request), caller_in(request)
    name = _id(workflow_id)
    filters = metadata_filters(pairs) | {RUN_OF: name}
    page = await gateway.reader.tasks(caller, read_query(pairs, TaskListQuery), filters)
    if not page.rows and not await gateway.definitions.exists(caller, name):
        raise NotFound(f"there is no stored workflow {name!r}", workflow_id=name)
    body = TaskList([summary_of(row) for row in page.rows], page.total_count, page.total_is_exact, page.next_cursor)
    return json_answer(body, headers=gateway.lag.header())


HANDLERS: Final = [
    save_workflow,
    save_revision,
    list_workflows,
    get_stored_workflow,
    list_revisions,
    remove_workflow,
    validate_workflow,
    execute_workflow,
    list_runs,
]
