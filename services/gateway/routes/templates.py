"""Templates of workflows: what there is, and what they give."""

from typing import Final

import msgspec
from litestar import get, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, gateway_of, origin_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.templates import Instantiate, Instantiated, TemplateList, TemplateSeen, found, seen
from taskloom.templates import TEMPLATES

PATH: Final = "/api/v1/templates"
TAG: Final = "Templates"


@get(
    PATH,
    opt=documented(
        Doc(
            summary="Templates of workflows, with their parameters",
            tag=TAG,
            answers={200: Answered("All of them", TemplateList)},
        )
    ),
)
async def list_templates() -> ASGIApp:
    return json_answer(TemplateList([seen(template) for template in TEMPLATES.values()], len(TEMPLATES)))


@get(
    f"{PATH}/{{name:str}}",
    opt=documented(
        Doc(
            summary="A template: what it does, its parameters as JSON Schema, an example",
            tag=TAG,
            answers={200: Answered("The template", TemplateSeen)},
            errors=(404,),
        )
    ),
)
async def get_template(name: FromPath[str]) -> ASGIApp:
    return json_answer(seen(found(name)))


@post(
    f"{PATH}/{{name:str}}",
    opt=documented(
        Doc(
            summary="Make a workflow from a template; store it, run it, or only look at it",
            tag=TAG,
            details="Steps run as commands where `parameters.commands` names them, else on agents that have the "
            "capability; until there is one, `GET /api/v1/tasks/{task_id}/why` of the step says so.",
            body=Instantiate,
            examples={
                "only look": {"parameters": TEMPLATES["ci_cd"].example},
                "store and run": {"parameters": TEMPLATES["monitoring"].example, "save_as": "watch", "execute": {}},
            },
            headers={
                "Idempotency-Key": "A repeat under the same key changes nothing, and gives the same run",
                "Prefer": "wait=N (seconds, at most 30): wait so long for the orchestrator's answer",
            },
            answers={200: Answered("The definition, and what became of it", Instantiated)},
            errors=(400, 404, 409, 413, 429, 503),
        )
    ),
)
async def instantiate_template(request: AnyRequest, name: FromPath[str]) -> ASGIApp:
    gateway, template = gateway_of(request), found(name)
    wish = decoded(msgspec.json.Decoder(Instantiate).decode, await request.body() or b"{}")
    if wish.execute is not None:
        gateway.limits.admit_submission()
    return json_answer(await gateway.templates.instantiate(template, wish, origin_of(request, gateway)), status=200)


HANDLERS: Final = [list_templates, get_template, instantiate_template]
