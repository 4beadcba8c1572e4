"""Artifacts of tasks, and uploaded files."""

from typing import Annotated, Any, Final

from litestar import delete, get, put
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.files import ArtifactList, UploadList
from services.gateway.problems import BadRequest
from services.gateway.queries import read_query
from taskloom.artifacts import BadPath, parts_of

FILES: Final = "/api/v1/files"
FILE: Final = f"{FILES}/{{file_name:str}}"
ARTIFACTS: Final = "/api/v1/tasks/{task_id:str}/artifacts"
TAG: Final = "Files"
_BYTES: Final = Answered("The content", example="what the file holds", media_type="application/octet-stream")
_ARTIFACT: Final[dict[str, Any]] = {
    "path": "dist/report.html",
    "attempt": 1,
    "size_bytes": 5120,
    "modified_at": "2026-11-21T12:00:00Z",
}
_SEEN: Final[dict[str, Any]] = {"name": "orders.csv", "size_bytes": 5120, "modified_at": "2026-11-21T12:00:00Z"}


class AttemptQuery(Struct, frozen=True):
    attempt: Annotated[int, Meta(ge=1, description="Of this attempt; the last one that left the file")] | None = None


@get(
    ARTIFACTS,
    opt=documented(
        Doc(
            summary="Files that a task's attempts left",
            tag=TAG,
            details="Those that fit input.artifacts.",
            answers={200: Answered("All", ArtifactList, {"task_id": "task-1", "artifacts": [_ARTIFACT]})},
            errors=(400, 404, 503),
        )
    ),
)
async def list_artifacts(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return json_answer(await gateway_of(request).files.artifacts(caller_in(request), checked_id(task_id)))


@get(
    f"{ARTIFACTS}/{{path:path}}",
    opt=documented(
        Doc(
            summary="A file that a task left",
            tag=TAG,
            query=AttemptQuery,
            answers={200: _BYTES},
            errors=(400, 404, 503),
        )
    ),
)
async def get_artifact(request: AnyRequest, task_id: FromPath[str], path: FromPath[str]) -> ASGIApp:
    query = read_query(pairs_of(request), AttemptQuery)
    try:
        named = "/".join(parts_of(str(path).removeprefix("/")))
    except BadPath as error:
        raise BadRequest(str(error), field="path") from error
    return await gateway_of(request).files.artifact(caller_in(request), checked_id(task_id), named, query.attempt)


@get(
    FILES,
    opt=documented(
        Doc(
            summary="List uploaded files, by name",
            tag=TAG,
            answers={200: Answered("All, at most 10,000", UploadList, {"files": [_SEEN], "total_count": 1})},
            errors=(503,),
        )
    ),
)
async def list_files(request: AnyRequest) -> ASGIApp:
    return json_answer(await gateway_of(request).files.files(caller_in(request)))


@put(
    FILE,
    status_code=200,
    opt=documented(
        Doc(
            summary="Upload a file for tasks",
            tag=TAG,
            details='The body is its content. A task takes it by name: {"path": "in/orders.csv", "file": "orders.csv"} '
            "in input.files. In the place of one of the same name.",
            answers={200: Answered("Stored", example={"success": True, "size_bytes": 5120})},
            errors=(400, 413, 503),
        )
    ),
)
async def put_file(request: AnyRequest, file_name: FromPath[str]) -> ASGIApp:
    name, content = checked_id(file_name, "file_name"), await request.body()
    await gateway_of(request).files.put(caller_in(request), name, content)
    return json_answer({"success": True, "size_bytes": len(content)})


@get(
    FILE,
    opt=documented(Doc(summary="An uploaded file", tag=TAG, answers={200: _BYTES}, errors=(400, 404, 503))),
)
async def get_file(request: AnyRequest, file_name: FromPath[str]) -> ASGIApp:
    return await gateway_of(request).files.file(caller_in(request), checked_id(file_name, "file_name"))


@delete(
    FILE,
    status_code=200,
    opt=documented(
        Doc(
            summary="Remove an uploaded file",
            tag=TAG,
            answers={200: Answered("Removed", example={"success": True})},
            errors=(400, 404, 503),
        )
    ),
)
async def delete_file(request: AnyRequest, file_name: FromPath[str]) -> ASGIApp:
    await gateway_of(request).files.remove(caller_in(request), checked_id(file_name, "file_name"))
    return json_answer({"success": True})


HANDLERS: Final = [list_artifacts, get_artifact, list_files, put_file, get_file, delete_file]
