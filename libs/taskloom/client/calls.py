"""The API's calls as values: what is sent and what comes back, the same for both clients."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from taskloom.client import answers as a
from taskloom.client import figures as f
from taskloom.client.errors import ServerFault
from taskloom.client.goal_answers import Goal
from taskloom.client.submission import Bulk, ChosenTasks, Control, Submission, TaskChanges, TaskFilter

T = TypeVar("T")

TASKS = "/api/v1/tasks"


class Call(Struct, Generic[T], frozen=True):
    """One request, and the type of its answer. ``wait_s``: how long the server may take before it answers."""

    answer: type[T]
    path: str
    method: str = "GET"
    params: Mapping[str, str | int] = {}
    headers: Mapping[str, str] = {}
    body: Any = None
    wait_s: int = 0

    def content(self) -> bytes | None:
        return None if self.body is None else msgspec.json.encode(self.body)

    def sent_headers(self) -> dict[str, str]:
        typed = {} if self.body is None else {"content-type": "application/json"}
        patient = {"prefer": f"wait={self.wait_s}"} if self.wait_s else {}
        return {**typed, **patient, **self.headers}

    def read(self, content: bytes) -> T:
        """The answer.

        Raises:
            ServerFault: it is not what this client knows.
        """
        try:
            return msgspec.json.decode(content, type=self.answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ServerFault(
                f"{self.method} {self.path} was answered with something else: {error}", 200, {}
            ) from error


def of(task_id: str, part: str = "") -> str:
    return f"{TASKS}/{quote(task_id, safe='')}" + (f"/{part}" if part else "")


def submit(task: Submission, *, idempotency_key: str = "", wait_s: int = 0) -> Call[a.Submitted]:
    return Call(a.Submitted, TASKS, "POST", headers=with_key(idempotency_key), body=task, wait_s=wait_s)


def submit_batch(tasks: Sequence[Submission], *, idempotency_key: str = "", wait_s: int = 0) -> Call[a.Batch]:
    body = {"tasks": tasks}
    return Call(a.Batch, f"{TASKS}/batch", "POST", headers=with_key(idempotency_key), body=body, wait_s=wait_s)


def get(task_id: str, as_of: int | str = "") -> Call[a.Task]:
    return Call(a.Task, of(task_id), params=given(as_of=as_of))


def list_tasks(chosen: ChosenTasks, metadata: Mapping[str, str] | None = None) -> Call[a.TaskPage]:
    by_metadata = {f"metadata.{name}": value for name, value in (metadata or {}).items()}
    return Call(a.TaskPage, TASKS, params={**given(**chosen), **by_metadata})


def events(task_id: str, *, limit: int = 200, offset: int = 0, as_of: int | str = "") -> Call[a.Events]:
    return Call(a.Events, of(task_id, "events"), params={"limit": limit, "offset": offset, **given(as_of=as_of)})


def timeline(task_id: str, *, full: bool = False, as_of: int | str = "") -> Call[a.Timeline]:
    params = {"mode": "full" if full else "summary", **given(as_of=as_of)}
    return Call(a.Timeline, of(task_id, "timeline"), params=params)


def output(task_id: str, *, after: int = 0, streams: Collection[str] = (), limit: int = 200) -> Call[a.Output]:
    params = {"after": after, "limit": limit, **given(stream=",".join(streams))}
    return Call(a.Output, of(task_id, "output"), params=params)


def executions(task_id: str) -> Call[a.Executions]:
    return Call(a.Executions, of(task_id, "executions"))


def why(task_id: str) -> Call[a.Why]:
    return Call(a.Why, of(task_id, "why"))


def run(task_id: str) -> Call[a.Run]:
    return Call(a.Run, of(task_id, "workflow"))


def steps(task_id: str, after: str = "", limit: int = 100) -> Call[a.RunSteps]:
    return Call(a.RunSteps, of(task_id, "steps"), params={"after": after, "limit": limit})


def goal(task_id: str, as_of: int | str = "", traces: int = 50) -> Call[Goal]:
    return Call(Goal, of(task_id, "goal"), params={"traces": traces, **given(as_of=as_of)})


def control(task_id: str, verb: str, wish: Control) -> Call[a.Controlled]:
    """``verb``: cancel, pause, resume or retry."""
    return Call(
        a.Controlled, of(task_id, verb), "POST", body={name: value for name, value in wish.items() if value != ""}
    )


def signal(task_id: str, name: str, payload: Any = None) -> Call[a.Controlled]:
    return Call(a.Controlled, of(task_id, "signal"), "POST", body={"name": name, "payload": payload})


def patch_variables(task_id: str, values: Mapping[str, Any]) -> Call[a.Controlled]:
    return Call(a.Controlled, of(task_id, "variables"), "PATCH", body={"values": values})


def update(task_id: str, changes: TaskChanges) -> Call[a.Controlled]:
    return Call(a.Controlled, of(task_id), "PATCH", body=changes)


def delete(task_id: str, wish: Control) -> Call[a.Controlled]:
    return Call(a.Controlled, of(task_id), "DELETE", body={name: value for name, value in wish.items() if value != ""})


def bulk(verb: str, tasks: TaskFilter, how: Bulk) -> Call[a.BulkResult]:
    """``verb``: cancel, pause, resume, retry, delete or update."""
    return Call(a.BulkResult, f"{TASKS}/batch/{verb}", "POST", body={"filter": tasks, **how})


def executors() -> Call[a.Executors]:
    return Call(a.Executors, "/api/v1/executors")


def queues() -> Call[a.Queues]:
    return Call(a.Queues, "/api/v1/queues")


def system_metrics() -> Call[f.SystemMetrics]:
    return Call(f.SystemMetrics, "/api/v1/metrics/system")


def report(hours: int = 24) -> Call[f.Report]:
    return Call(f.Report, "/api/v1/metrics/report", params={"hours": hours})


def queue_statistics() -> Call[f.QueueStatistics]:
    return Call(f.QueueStatistics, "/api/v1/queue/stats")


def executor_statistics() -> Call[f.ExecutorStatsList]:
    return Call(f.ExecutorStatsList, "/api/v1/executors/stats")


def statistics_of(executor_id: str) -> Call[f.ExecutorStats]:
    return Call(f.ExecutorStats, f"/api/v1/executors/{quote(executor_id, safe='')}/stats")


def health() -> Call[f.Health]:
    return Call(f.Health, "/api/v1/health/components")


def with_key(key: str) -> dict[str, str]:
    return {"idempotency-key": key} if key else {}


def given(**values: Any) -> dict[str, str | int]:
    """Parameters of a query string: those that say something."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in values.items()
        if value not in ("", None)
    }
