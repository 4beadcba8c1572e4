"""The routes of the gateway and what answers faults: the same for every application of a process."""

from copy import copy
from functools import lru_cache
from typing import Final

from litestar import Litestar
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from psycopg import OperationalError

from services.gateway.chat import routes as chat
from services.gateway.nodelink import routes as nodelink
from services.gateway.problems import (
    Problem,
    answer_fault,
    answer_http_exception,
    answer_outage,
    answer_problem,
    answer_too_slow,
)
from services.gateway.routes import (
    agent_links,
    agents,
    approvals,
    audit,
    auth,
    changes,
    definitions,
    dependencies,
    docs_page,
    executors,
    files,
    forks,
    goals,
    health,
    histories,
    metrics,
    queues,
    quotas,
    runs,
    schedules,
    secrets,
    sessions,
    sign_in,
    streams,
    tasks,
    templates,
    tool_servers,
    unoffered,
    usage,
    users,
    webhooks,
    workflows,
)
from services.gateway.scopes import check_scope
from taskloom.bus.errors import BusError
from taskloom.store.errors import StoreUnavailable
from taskloom.views.reading import TooSlow

_ROUTES: Final = (
    *(tasks, changes, goals, forks, dependencies, histories, sessions, executors, queues, metrics, streams),
    *(approvals, workflows, definitions, runs, templates, schedules, auth, sign_in, users, quotas, usage, audit),
    *(health, agents, agent_links, unoffered, docs_page, webhooks, nodelink, chat, secrets, files, tool_servers),
)


def routed(max_body_bytes: int, state: State) -> Litestar:
    """An application with all routes and this state. A larger body is refused with 413.

    What Litestar works out about routes takes a tenth of a second and is kept, so a second application costs nothing:
    it has its own state and middleware, and nobody adds routes to it.
    """
    app = copy(_worked_out(max_body_bytes))
    app.state = state
    return app


@lru_cache(maxsize=8)
def _worked_out(max_body_bytes: int) -> Litestar:
    return Litestar(
        route_handlers=[handler for routes in _ROUTES for handler in routes.HANDLERS],
        guards=[check_scope],
        exception_handlers={
            Problem: answer_problem,
            HTTPException: answer_http_exception,
            TooSlow: answer_too_slow,
            **dict.fromkeys((BusError, StoreUnavailable, OperationalError), answer_outage),
            Exception: answer_fault,
        },
        request_max_body_size=max_body_bytes,
        openapi_config=None,
        logging_config=None,
    )
