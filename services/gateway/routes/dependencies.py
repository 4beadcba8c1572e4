"""Tasks that wait for tasks: look at it, add, remove; graph and plan of several."""

from typing import Annotated, Final

from litestar import delete, get, put
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.control import Controlled
from services.gateway.dependencies import Dependencies, Graph, Plan
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import BadRequest
from services.gateway.queries import read_query
from taskloom.domain.task.commands import AddDependency, RemoveDependency

TASKS: Final = "/api/v1/tasks"
TASK: Final = f"{TASKS}/{{task_id:str}}/dependencies"


class IdsQuery(Struct, frozen=True):
    ids: Annotated[str, Meta(min_length=1, max_length=130_000, description="Task ids, separated by commas")]


def _ids(request: AnyRequest) -> list[str]:
    names = [name.strip() for name in read_query(pairs_of(request), IdsQuery).ids.split(",") if name.strip()]
    for name in names:
        checked_id(name)
    return names


@get(
    TASK,
    opt=documented(
        Doc(
            summary="What a task waits for, and what waits for it",
            tag="Dependencies",
            answers={200: Answered("Both directions", Dependencies)},
            errors=(400, 404),
        )
    ),
)
async def get_dependencies(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return json_answer(await gateway_of(request).dependencies.of(caller_in(request).tenant_id, checked_id(task_id)))


_CHANGE: Final = Doc(
    summary="Let a task wait for one more",
    tag="Dependencies",
    details="Until it was handed to an executor. A circle is refused, naming it.",
    answers={202: Answered("Taken by the owner of the task", Controlled)},
    errors=(400, 404, 409, 503),
)


@put(f"{TASK}/{{dependency:str}}", opt=documented(_CHANGE))
async def add_dependency(request: AnyRequest, task_id: FromPath[str], dependency: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    if checked_id(dependency) == checked_id(task_id):
        raise BadRequest("a task cannot depend on itself", field="dependency")
    await gateway.dependencies.check_no_circle(caller_in(request).tenant_id, task_id, dependency)
    controlled = await gateway.controller.control(task_id, AddDependency(dependency), origin_of(request, gateway))
    return json_answer(controlled, status=202)


_REMOVE: Final = Doc(
    summary="Let a task no longer wait for another",
    tag="Dependencies",
    answers={202: Answered("Taken by the owner of the task", Controlled)},
    errors=(400, 404, 409, 503),
)


@delete(f"{TASK}/{{dependency:str}}", status_code=202, opt=documented(_REMOVE))
async def remove_dependency(request: AnyRequest, task_id: FromPath[str], dependency: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    command = RemoveDependency(checked_id(dependency))
    controlled = await gateway.controller.control(checked_id(task_id), command, origin_of(request, gateway))
    return json_answer(controlled, status=202)


@get(
    f"{TASKS}/graph",
    opt=documented(
        Doc(
            summary="Tasks and what they depend on, as nodes and edges",
            tag="Dependencies",
            query=IdsQuery,
            answers={200: Answered("The graph", Graph)},
            errors=(400, 404),
        )
    ),
)
async def get_graph(request: AnyRequest) -> ASGIApp:
    return json_answer(await gateway_of(request).dependencies.graph(caller_in(request).tenant_id, _ids(request)))


@get(
    f"{TASKS}/plan",
    opt=documented(
        Doc(
            summary="In which order, and how much at once, tasks can run",
            tag="Dependencies",
            query=IdsQuery,
            answers={200: Answered("Order and phases", Plan)},
            errors=(400, 404, 409),
        )
    ),
)
async def get_plan(request: AnyRequest) -> ASGIApp:
    return json_answer(await gateway_of(request).dependencies.plan(caller_in(request).tenant_id, _ids(request)))


HANDLERS: Final = [get_graph, get_plan, get_dependencies, add_dependency, remove_dependency]
