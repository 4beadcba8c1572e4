"""A new task made of another one, and two tasks side by side."""

from typing import Annotated, Final, Literal

import msgspec
from litestar import get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.forks import Forked, ForkWish
from services.gateway.problems import decoded
from services.gateway.queries import read_query
from taskloom.replay.diff import Difference

TASK: Final = "/api/v1/tasks/{task_id:str}"
_wishes: Final = msgspec.json.Decoder(ForkWish)


class DiffQuery(Struct, frozen=True):
    """``a_version`` and ``b_version``: as of which version; as they are without one. ``only``: all steps, or those that
    differ."""

    a_version: Annotated[int, Meta(ge=1)] | None = None
    b_version: Annotated[int, Meta(ge=1)] | None = None
    only: Literal["all", "different"] = "all"


@post(
    f"{TASK}/fork",
    status_code=202,
    opt=documented(
        Doc(
            summary="Make a new task of this one, with changes",
            tag="Control",
            details="It is the task as it was at version at, changed by overrides, a JSON Merge Patch (RFC 7396) of "
            "its submission. A run's fork takes over what its steps at the top level had completed by then, and its "
            "variables; a completed one begins at its start. metadata.forked_from says where it comes from.",
            body=ForkWish,
            body_required=False,
            examples={
                "with another command": {"overrides": {"input": {"cmd": "make test"}}},
                "a run from version 40 on": {"at": 40, "overrides": {"input": {"variables": {"limit": 5}}}},
            },
            headers={"Idempotency-Key": "A repeat under the same key gives the same fork"},
            answers={202: Answered("Forked", Forked)},
            errors=(400, 404, 409, 429, 503),
        )
    ),
)
async def fork_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    gateway.limits.admit_submission()
    wish = decoded(_wishes.decode, await request.body() or b"{}")
    forked = await gateway.forks.fork(checked_id(task_id), wish, origin_of(request, gateway))
    return json_answer(forked, status=202)


@get(
    f"{TASK}/diff/{{other_id:str}}",
    opt=documented(
        Doc(
            summary="Two tasks or runs side by side",
            tag="Tasks",
            details="What they were submitted with, field by field, and what they did, step by step, aligned by path. "
            "Of histories up to 20,000 events; the first 200 fields and 500 steps are listed, all are counted.",
            query=DiffQuery,
            answers={200: Answered("What is different", Difference)},
            errors=(400, 404),
        )
    ),
)
async def diff_tasks(request: AnyRequest, task_id: FromPath[str], other_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), DiffQuery)
    found = await gateway.forks.compare(
        *(caller_in(request), checked_id(task_id), checked_id(other_id)),
        a_version=query.a_version,
        b_version=query.b_version,
        only_different=query.only == "different",
    )
    return json_answer(found)


HANDLERS: Final = [fork_task, diff_tasks]
