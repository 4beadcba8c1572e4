"""What the orchestrator tells an executor. Each names one incarnation; an empty one means whichever runs now."""

from typing import Any, Final

from msgspec import Struct


class RunAttempt(Struct, frozen=True, omit_defaults=True, tag="taskloom.attempt.run.v1"):
    """Work for one incarnation of one executor. ``input`` and ``context`` may be claims (wire/claims.py)."""

    task_id: str
    attempt: int
    executor_id: str
    incarnation: str
    kind: str
    input: dict[str, Any] = {}
    query: str = ""
    context: dict[str, Any] = {}
    tenant_id: str = "default"
    session_id: str = ""
    name: str = ""
    start_to_close_s: float = 300.0
    heartbeat_s: float | None = None
    paused: bool = False
    traceparent: str = ""


class StopAttempt(Struct, frozen=True, omit_defaults=True, tag="taskloom.attempt.stop.v1"):
    """Ends an attempt: signal its process group, after ``grace_s`` kill it, report each step. Unknown attempts are
    confirmed as stopped, since nothing of them runs there."""

    task_id: str
    attempt: int
    executor_id: str
    incarnation: str
    grace_s: float = 5.0
    reason: str = ""


class PauseAttempt(Struct, frozen=True, omit_defaults=True, tag="taskloom.attempt.pause.v1"):
    """Holds the attempt at its next checkpoint."""

    task_id: str
    attempt: int
    executor_id: str
    incarnation: str


class ResumeAttempt(Struct, frozen=True, omit_defaults=True, tag="taskloom.attempt.resume.v1"):
    task_id: str
    attempt: int
    executor_id: str
    incarnation: str


class RecallAttempt(Struct, frozen=True, omit_defaults=True, tag="taskloom.attempt.recall.v1"):
    """Gives an attempt back (declined, ``RECALLED``) when it has not started; else it stays, nothing is said."""

    task_id: str
    attempt: int
    executor_id: str
    incarnation: str


RECALLED: Final = "recalled"
"""Why a recalled attempt is declined."""

Directive = RunAttempt | StopAttempt | PauseAttempt | ResumeAttempt | RecallAttempt
