"""Real histories for tests and measurements: every event comes from ``decide``, as in a running system."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from taskloom.domain.refusals import Refusal
from taskloom.domain.task import commands as c
from taskloom.domain.task.caller import Caller
from taskloom.domain.task.decide import decide
from taskloom.domain.task.evolve import evolve
from taskloom.domain.task.state import TaskState, next_due
from taskloom.domain.values import OUTPUT_SEQ_SPAN, ErrorInfo, OutputSummary, ResourceUse, Retry, Timeouts, Usage
from taskloom.wire.recorded import GENESIS, EventMeta, Recorded, seal

STEPS: Final = 21
FIRST_CHANGE: Final = 18

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class TaskLife:
    """A task and what happened to it so far: ``recorded`` are its events, ``state`` what the orchestrator remembers."""

    def __init__(
        self,
        task_id: str = "task-1",
        submit: c.SubmitTask | None = None,
        *,
        tenant_id: str = "default",
        actor: str = "ada",
        at: datetime = START,
    ) -> None:
        self.task_id, self.tenant_id, self.actor, self.now = task_id, tenant_id, actor, at
        self.recorded: list[Recorded] = []
        self.state: TaskState | None = None
        self._commands = 0
        self.do(submit or c.SubmitTask(kind="echo", input={"n": 1}))

    @property
    def bodies(self) -> list[bytes]:
        return [recorded.body for recorded in self.recorded]

    def do(self, command: c.TaskCommand, after_s: float = 0.5) -> "TaskLife":
        """Time passes, then the command is decided and its events recorded; a refusal changes nothing."""
        self.now += timedelta(seconds=after_s)
        self._commands += 1
        caller = Caller(self.task_id, self.tenant_id, f"{self.task_id}-{self._commands}", self.actor, "", "")
        decision = decide(self.state, command, self.now, caller)
        if not isinstance(decision, Refusal):
            for event in decision:
                version = self.state.version if self.state is not None else 0
                actor = self.actor if isinstance(command, _BY_PEOPLE) else ""
                meta = EventMeta(self.task_id, version + 1, self.now, self.tenant_id, caller.command_id, actor)
                recorded = seal(event, meta, self.state.digest if self.state is not None else GENESIS)
                self.recorded.append(recorded)
                self.state = evolve(self.state, recorded)
        return self

    def start(self, executor: str = "e1") -> "TaskLife":
        return self.do(c.AssignAttempt(executor, "i1")).do(c.ReportStarted(self._attempt, executor))

    def complete(self, result: str = "done", response: Any = None, output: OutputSummary | None = None) -> "TaskLife":
        usage = Usage(3, 5, 0.001, "taskloom-offline", "taskloom")
        return self.do(
            c.ReportCompleted(self._attempt, "e1", result, response, 0, output or OutputSummary(), ResourceUse(), usage)
        )

    def fail(self, message: str = "broken", *, retryable: bool = True) -> "TaskLife":
        return self.do(c.ReportFailed(self._attempt, "e1", ErrorInfo("ValueError", message, retryable), 1))

    def step(self, choice: int) -> "TaskLife":
        """One of many things that may happen next, chosen by a number modulo ``STEPS``; what cannot happen now changes
        nothing. From ``FIRST_CHANGE`` on they are retries, updates and deletes."""
        commands = self._possible()
        assert len(commands) == STEPS
        return self.do(commands[choice % STEPS], after_s=1 + choice % 7)

    def wait_for_timer(self) -> "TaskLife":
        due = next_due(self.state) if self.state is not None else None
        if due is not None:
            self.now = max(self.now, due)
        return self.do(c.FireTimers())

    @property
    def _attempt(self) -> int:
        return max(1, self.state.attempts if self.state is not None else 1)

    def _possible(self) -> Sequence[c.TaskCommand]:
        n = self._attempt
        output = OutputSummary((n - 1) * OUTPUT_SEQ_SPAN + 2, 2, 20)
        error = ErrorInfo("ValueError", "broken\x00", retryable=True)
        if self.state is not None and (due := next_due(self.state)) is not None and due > self.now:
            self.now = due if self._commands % 3 == 0 else self.now
        return (
            c.AssignAttempt("e1", "i1"),
            c.ReportStarted(n, "e1", 7),
            c.ReportHeartbeat(n, "e1", 0.5, "half"),
            c.ReportOutputStarted(n, "e1"),
            c.ReportCompleted(
                n, "e1", "text", {"a": [1, None]}, 0, output, ResourceUse(5.0, 2.0), Usage(1, 2, 0.5, "m")
            ),
            c.ReportFailed(n, "e1", error, 3, output, usage=Usage(1, 1, 0.25)),
            c.ReportTimedOut(n, "e1", "start_to_close", 300.0, output),
            c.LoseAttempt(n, "silent"),
            c.ReportDeclined(n, "e1", "full"),
            c.PauseTask("wait"),
            c.ReportPaused(n, "e1", "middle"),
            c.ResumeTask(),
            c.CancelTask("enough"),
            c.ReportStopSignalled(n, "e1", "signalled", "SIGTERM", 2),
            c.ReportStopSignalled(n, "e1", "escalated", "SIGKILL", 1),
            c.ReportStopped(n, "e1", -15, output),
            c.FireTimers(),
            c.ReportCompleted(n - 1 or 1, "other", "late"),
            c.RetryTask("again"),
            c.UpdateTask(name=f"renamed {n}", metadata={"k": None, "n": n}, priority=1 + n % 5, deadline=None),
            c.DeleteTask("not needed") if n > 2 else c.RetryTask(),
        )


_BY_PEOPLE: Final = (
    c.SubmitTask, c.CancelTask, c.PauseTask, c.ResumeTask, c.RetryTask, c.UpdateTask, c.DeleteTask,
    c.DecideApproval,
)  # fmt: skip


def varied_submission(choice: int) -> c.SubmitTask:
    """Submissions that differ in what they use, by a number."""
    return c.SubmitTask(
        query="say hello\x00" if choice % 2 else "",
        kind="" if choice % 2 else "echo",
        session_id="session-1" if choice % 3 else None,
        tags=("a", "b") if choice % 5 == 0 else (),
        metadata={"k": {"deep": [1, "x"]}} if choice % 7 == 0 else {},
        context={"c": 1} if choice % 11 == 0 else {},
        run_at=START + timedelta(seconds=60) if choice % 13 == 0 else None,
        deadline=START + timedelta(seconds=30) if choice % 4 == 0 else None,
        retry=Retry(max_attempts=1 + choice % 4),
        timeouts=Timeouts(schedule_to_start_s=40.0 if choice % 9 == 0 else None),
    )


def one_step_task(task_id: str, at: datetime, payload: str = "x" * 150, *, session_id: str | None = None) -> TaskLife:
    """A task that is submitted, queued, assigned, started and completed: five events."""
    life = TaskLife(task_id, c.SubmitTask(kind="echo", input={"payload": payload}, session_id=session_id), at=at)
    return life.start().complete(payload, {"payload": payload})
