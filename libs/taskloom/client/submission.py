"""What can be submitted."""

from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict


class Timeouts(TypedDict, total=False):
    """Limits in seconds; ``start_to_close_s`` (300) is of each attempt, ``total_s`` of the task."""

    schedule_to_start_s: float
    start_to_close_s: float
    heartbeat_s: float
    total_s: float


class Retry(TypedDict, total=False):
    """Attempts count the first. The n-th retry follows ``initial_s * factor ** (n - 1)`` s later, ``max_s`` at most."""

    max_attempts: int
    initial_s: float
    factor: float
    max_s: float
    jitter: float
    non_retryable: Sequence[str]
    max_lost: int


class Approval(TypedDict, total=False):
    """Somebody has to agree before the task starts: one of ``approvers``, or anybody. ``on_timeout``: what silence for
    ``timeout_s`` means, fail, reject or approve."""

    message: str
    approvers: Sequence[str]
    timeout_s: float
    on_timeout: str


class Resources(TypedDict, total=False):
    """What an attempt needs; an executor has to have it free."""

    cpu_cores: float
    memory_gb: float
    disk_gb: float
    gpu_memory_gb: float


class Concurrency(TypedDict):
    """At most ``limit`` attempts with that key at once."""

    key: str
    limit: int


class Budget(TypedDict, total=False):
    tokens: int
    cost_usd: float


class Affinity(TypedDict, total=False):
    """Prefer the executor that had the workflow's, the session's or the key's last task, for ``wait_s`` seconds."""

    to: str
    key: str
    wait_s: float


class Submission(TypedDict, total=False):
    """A task to run: a ``query``, or a ``kind`` with its ``input``. The server has defaults for what is left out.

    ``run_at`` and ``deadline`` are RFC 3339 texts; ``priority`` is 1 to 5 or low, normal, high, urgent, critical;
    ``on_dependency_failure`` is fail, skip or continue. From ``mode`` on: what a ``query`` hands to its executor.
    """

    query: str
    kind: str
    input: Mapping[str, Any]
    context: Mapping[str, Any]
    task_id: str
    session_id: str
    name: str
    description: str
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    queue: str
    priority: int | str
    run_at: str
    deadline: str
    timeouts: Timeouts
    retry: Retry
    executor_id: str
    capabilities: Sequence[str]
    labels: Mapping[str, str]
    resources: Resources
    concurrency: Concurrency
    affinity: Affinity
    depends_on: Sequence[str]
    on_dependency_failure: str
    budget: Budget
    callback_url: str
    approval: Approval
    mode: str
    model_tier: str
    model_override: str
    provider_override: str
    research_strategy: str
    max_iterations: int
    max_concurrent_agents: int
    enable_verification: bool
    skill: str


class Chosen(TypedDict, total=False):
    """Which tasks a list holds. ``status``: words of the API, comma-separated; times are RFC 3339 texts."""

    status: str
    kind: str
    queue: str
    session_id: str
    tag: str
    q: str
    priority: str
    assigned_to: str
    error_type: str
    overdue: bool
    scheduled: bool
    created_after: str
    created_before: str
    as_of: str
    cursor: str
    limit: int
    offset: int


class ChosenTasks(Chosen, total=False):
    """``workflow_id``: the tasks of this workflow's own steps."""

    workflow_id: str


class TaskChanges(TypedDict, total=False):
    """What is named changes. ``assigned_to``: the executor it has to run on, None frees it; ``metadata`` is merged,
    None removes a key; ``deadline`` None is none."""

    name: str
    description: str
    priority: int | str
    assigned_to: str | None
    metadata: Mapping[str, Any]
    deadline: str | None
    tags: Sequence[str]
    queue: str


class TaskFilter(TypedDict, total=False):
    """Tasks of a bulk operation, as those of a list; or the tasks themselves, by id."""

    status: str
    kind: str
    queue: str
    session_id: str
    tag: str
    metadata: Mapping[str, str]
    q: str
    priority: str
    assigned_to: str
    error_type: str
    overdue: bool
    scheduled: bool
    created_after: str
    created_before: str
    task_ids: Sequence[str]


class Bulk(TypedDict, total=False):
    """How a bulk operation is carried out. ``all`` has to be True where the filter names nothing; ``changes`` belong to
    update, ``grace_s`` to cancel and delete; ``cursor`` goes on where the last answer ended."""

    all: bool
    reason: str
    changes: TaskChanges
    grace_s: float
    dry_run: bool
    limit: int
    cursor: str


Control = TypedDict("Control", {"reason": Required[str], "grace_s": float, "from": str}, total=False)
"""``grace_s``: of a cancel or delete only, seconds between SIGTERM and SIGKILL; ``from``: of a retry only."""
