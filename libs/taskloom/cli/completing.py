"""What the shell proposes for ids: asked of the server, for a second at most; nothing when there is none to ask."""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import httpx
import typer

from taskloom.client import (
    approval_calls,
    calls,
    schedule_calls,
    session_calls,
    tool_server_calls,
    webhook_calls,
    workflow_calls,
)
from taskloom.client.connection import key_headers, reads_environment, url_of
from taskloom.errors import TaskloomError

T = TypeVar("T")
Proposals = list[tuple[str, str]]

WITHIN_S: Final = 1.0
MOST: Final = 100


def tasks(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, calls.list_tasks({"limit": MOST}), lambda page: page.tasks)
    return _fitting(
        incomplete, ((each.task_id, f"{each.state}: {each.name or each.query or each.kind}") for each in found)
    )


def queues(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, calls.queues(), lambda answer: answer.queues)
    return _fitting(incomplete, ((each.name, f"{each.depth:,} waiting") for each in found))


def kinds(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, calls.executors(), lambda answer: answer.executors)
    return _fitting(incomplete, ((kind, "") for kind in sorted({kind for each in found for kind in each.kinds})))


def executors(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, calls.executors(), lambda answer: answer.executors)
    return _fitting(incomplete, ((each.executor_id, each.status) for each in found))


def schedules(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, schedule_calls.list_schedules(1, MOST), lambda page: page.schedules)
    return _fitting(incomplete, ((each.schedule_id, each.name) for each in found))


def sessions(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, session_calls.list_sessions({"limit": MOST}), lambda page: page.sessions)
    return _fitting(incomplete, ((each.session_id, each.title or each.latest_task_query) for each in found))


def workflows(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, workflow_calls.list_workflows("", MOST), lambda page: page.workflows)
    return _fitting(incomplete, ((each.id, each.name) for each in found))


def approvals(ctx: typer.Context, incomplete: str) -> Proposals:
    wish = approval_calls.list_approvals({"status": "pending", "limit": MOST})
    return _fitting(
        incomplete, ((each.approval_id, each.message) for each in _ask(ctx, wish, lambda page: page.approvals))
    )


def webhooks(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, webhook_calls.list_webhooks(), lambda answer: answer.webhooks)
    return _fitting(incomplete, ((each.webhook_id, each.url) for each in found))


def tool_servers(ctx: typer.Context, incomplete: str) -> Proposals:
    found = _ask(ctx, tool_server_calls.list_tool_servers(), lambda page: page.tool_servers)
    return _fitting(incomplete, ((each.name, each.description) for each in found))


def _ask(ctx: typer.Context, call: calls.Call[T], pick: Callable[[T], Iterable[Any]]) -> Iterable[Any]:
    url = url_of(ctx.params.get("url"))
    try:
        answer = httpx.request(
            call.method,
            f"{url}{call.path}",
            params=dict(call.params),
            headers=key_headers(None),
            timeout=WITHIN_S,
            trust_env=reads_environment(url),
        )
        return pick(call.read(answer.raise_for_status().content))
    except (httpx.HTTPError, httpx.InvalidURL, TaskloomError):
        return ()  # a shell that completes has nowhere to say what was wrong


def _fitting(incomplete: str, proposals: Iterable[tuple[str, str]]) -> Proposals:
    return [(name, text) for name, text in proposals if name.startswith(incomplete)]
