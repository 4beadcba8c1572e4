"""Writes one release's golden histories, once: ``python -m tests.contract.make_histories v0.2.0``.

``<release>.jsonl`` holds the stored bytes of every event, one a line, task after task; ``<release>.states.json`` what a
fold of each task gave then. Both stay as they are for ever: test_histories.py replays them with today's code.
"""

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from taskloom.domain.task import commands as c
from taskloom.domain.task.evolve import evolve
from taskloom.domain.task.state import TaskState
from taskloom.domain.values import ErrorInfo, OutputSummary, ResourceUse, Usage
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask
from taskloom.views.task_executions.fold import fold as fold_view
from taskloom.views.task_executions.row import Row

HISTORIES: Final = Path(__file__).parents[2] / "contracts" / "histories"
EX: Final = "ex-1"
ASSIGN: Final = c.AssignAttempt(EX, "a")
FIRE: Final = c.FireTimers()
DONE: Final[dict[str, Any]] = {
    "result": "42",
    "response": {"answer": 42, "é": [1.5, None, True]},
    "exit_code": 0,
    "output": OutputSummary(3, 3, 120),
    "resources": ResourceUse(12.5, 30.25, 0.5, 9),
    "usage": Usage(10, 20, 0.25, "echo", "offline"),
}


def task(name: str, **fields: Any) -> GivenTask:
    """A submitted task with every field of a submission that can be set."""
    submission = {
        "kind": "shell",
        "input": {"cmd": "true", "env": {"A": "b"}},
        "query": "do it",
        "session_id": "s-1",
        "context": {"k": ["v"]},
        "name": name,
        "tags": ["x", "y"],
        "metadata": {"owner": "ann"},
        "priority": "high",
        "retry": {"max_attempts": 3, "jitter": 0.5, "non_retryable": ["ValueError"]},
        **fields,
    }
    made = GivenTask(name, tenant_id="acme")
    made.when(
        msgspec.convert(submission, c.SubmitTask),
        command_id=f"{name}/submit",
        actor="ann",
        correlation_id="r-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return made


def started(made: GivenTask, attempt: int = 1) -> GivenTask:
    made.when(ASSIGN, after_s=0.25)
    made.when(c.ReportStarted(attempt, EX, 4711), after_s=0.125, command_id=f"{made.task_id}/{attempt}/started")
    return made


def report(made: GivenTask, command: Any) -> None:
    made.when(command, after_s=1, command_id=f"{made.task_id}/{command.attempt}/{len(made.history)}")


def lives() -> Iterator[GivenTask]:
    """One task for each way that a life can take; together they use every type of event."""
    it = started(task("success", capabilities=["gpu"], labels={"zone": "a"}, resources={"cpu_cores": 2}))
    report(it, c.ReportOutputStarted(1, EX))
    report(it, c.ReportHeartbeat(1, EX, 0.5, "half", {"row": 7}))
    report(it, c.ReportCompleted(1, EX, **DONE))
    it.when(c.ReportHeartbeat(1, EX), after_s=1, command_id="late")
    yield it

    it = started(task("retried"))
    report(it, c.ReportFailed(1, EX, ErrorInfo("OSError", "disk", details={"errno": 28}), 1, OutputSummary(1, 1, 9)))
    it.when(FIRE, after_s=5)
    report(started(it, 2), c.ReportCompleted(2, EX, **DONE))
    yield it

    it = started(task("told", callback_url="https://example.com/hook"))
    report(it, c.ReportCompleted(1, EX, **DONE))
    yield it

    it = started(task("failed"))
    report(it, c.ReportFailed(1, EX, ErrorInfo("ValueError", "no"), 2))
    yield it

    it = started(task("timed-out", timeouts={"start_to_close_s": 60, "heartbeat_s": 20, "total_s": 200}))
    report(it, c.ReportTimedOut(1, EX, "heartbeat", 20, OutputSummary(1, 1, 9)))
    it.when(FIRE, after_s=10)
    started(it, 2).when(FIRE, after_s=190)
    yield it

    it = started(task("cancelled"))
    it.when(c.CancelTask("not needed", 2), after_s=1, command_id="cancelled/c", actor="bob")
    report(it, c.ReportStopSignalled(1, EX, "signalled", "SIGTERM", 3))
    report(it, c.ReportStopSignalled(1, EX, "escalated", "SIGKILL", 2))
    report(it, c.ReportStopped(1, EX, -9, OutputSummary(1, 1, 9), ResourceUse(cpu_s=1.5)))
    yield it

    it = started(task("paused"))
    it.when(c.PauseTask("lunch"), after_s=1, command_id="paused/p", actor="bob")
    report(it, c.ReportPaused(1, EX, "row 7"))
    it.when(c.ResumeTask("back"), after_s=60, command_id="paused/r", actor="bob")
    report(it, c.ReportCompleted(1, EX, **DONE))
    yield it

    it = started(task("lost", retry={"max_attempts": 2}))
    it.when(c.LoseAttempt(1, "executor ex-1 was not heard of any more"), after_s=20)
    it.when(FIRE, after_s=5)
    it.when(ASSIGN)
    it.when(c.ReportDeclined(2, EX, "draining"), command_id="lost/2/declined")
    started(it, 3).when(c.LoseAttempt(3, "executor ex-1 was restarted"), after_s=1)
    yield it

    it = task("scheduled", run_at=START + timedelta(hours=1), deadline=START + timedelta(hours=2))
    it.when(FIRE, after_s=3600)
    it.when(FIRE, after_s=3600)
    yield it

    it = task("waiting", depends_on=["first", "second"], on_dependency_failure="continue")
    it.when(c.AddDependency("third"), after_s=1, command_id="waiting/a", actor="bob")
    it.when(c.RemoveDependency("second"), after_s=1, command_id="waiting/r", actor="bob")
    it.when(c.NoteDependency("first", "completed"), after_s=1, command_id="first/6/0")
    it.when(c.NoteDependency("third", "failed"), after_s=1, command_id="third/6/0")
    yield it

    it = started(task("watched"))
    it.when(c.WatchTask("w-1"), after_s=1, command_id="w-1/2/0")
    report(it, c.ReportCompleted(1, EX, **DONE))
    it.when(c.WatchTask("w-2"), after_s=1, command_id="w-2/2/0")
    yield it

    it = started(task("again", deadline=START + timedelta(days=1)))
    report(it, c.ReportFailed(1, EX, ErrorInfo("ValueError", "no"), 2))
    it.when(c.RetryTask("mended"), after_s=60, command_id="again/r", actor="bob")
    change = {"name": "renamed", "priority": 5, "assigned_to": EX, "metadata": {"owner": None, "ticket": 7}}
    change |= {"deadline": None, "tags": ["z"], "queue": "default", "description": "a second try"}
    it.when(msgspec.convert(change, c.UpdateTask), after_s=1, command_id="again/u", actor="bob")
    started(it, 2).when(c.DeleteTask("made by mistake", 2), after_s=1, command_id="again/d", actor="bob")
    report(it, c.ReportStopped(2, EX, -15))
    yield it

    it = task("approved", approval={"message": "go?", "approvers": ["ann"], "timeout_s": 60, "on_timeout": "reject"})
    it.when(FIRE, after_s=60)
    it.when(c.RetryTask("ask again"), after_s=1, command_id="approved/r", actor="bob")
    decision = c.DecideApproval("approved~.approval.2", True, "fine", {"rows": 3}, "the board")
    it.when(decision, after_s=1, command_id="approved/d", actor="ann")
    report(started(it), c.ReportCompleted(1, EX, **DONE))
    yield it

    steps = [
        {"step_type": "task", "id": "a", "task_template": {"kind": "echo", "input": {"n": "{{ n }}"}}},
        {"step_type": "wait", "id": "nap", "wait_seconds": 60, "depends_on": ["a"]},
        {"step_type": "signal", "id": "go", "signal": "go", "depends_on": ["nap"]},
        {"step_type": "approval", "id": "ok", "depends_on": ["go"]},
    ]
    plan = {"definition": {"name": "plan", "steps": steps}, "variables": {"n": 1}}
    it = task("workflow", kind="workflow", input=plan, query="")
    it.when(c.PauseTask("lunch"), after_s=1, command_id="workflow/p", actor="bob")
    it.when(c.NoteChild("a", "completed", {"variables": {"m": 2}}), after_s=1, command_id="workflow~a/5/0")
    it.when(c.ResumeTask("back"), after_s=1, command_id="workflow/r", actor="bob")
    it.when(FIRE, after_s=60)
    it.when(c.PatchVariables({"n": 3}), after_s=1, command_id="workflow/v", actor="bob")
    it.when(c.SignalTask("go", {"x": 1}), after_s=1, command_id="workflow/s", actor="bob")
    it.when(c.DecideApproval("ok", True, "fine"), after_s=1, command_id="workflow/d", actor="ann")
    yield it

    wide = {"step_type": "map", "id": "m", "items": [1, 2, 3], "task_template": {"kind": "echo"}, "depends_on": ["a"]}
    it = task("resumed", kind="workflow", input={"definition": {"name": "plan", "steps": [steps[0], wide]}}, query="")
    boom = ErrorInfo("ValueError", "boom", retryable=False)
    it.when(c.NoteChild("a", "completed"), after_s=1, command_id="resumed~a/5/0")
    it.when(c.NoteChild("m.0", "completed"), after_s=1, command_id="resumed~m.0/5/0")
    it.when(c.NoteChild("m.1", "failed", error=boom), after_s=1, command_id="resumed~m.1/5/0")
    it.when(c.NoteChild("m.2", "completed"), after_s=1, command_id="resumed~m.2/5/0")
    it.when(c.RetryTask("mended"), after_s=60, command_id="resumed/r", actor="bob")
    it.when(c.NoteChild("m.1", "completed", restart=1), after_s=1, command_id="resumed~m.1..2/5/0")
    yield it

    yield goal()


def goal() -> GivenTask:
    """One whose first plan fails, with a call that a model asked for, and a summary."""
    it = task(
        "goal", kind="goal", query="find it", input={"tools": {"files": {"tools": ["read"]}}}, budget={"tokens": 999}
    )
    usage = {"input_tokens": 5, "output_tokens": 7, "cost_usd": 0.25}

    def ended(path: str, **outcome: Any) -> None:
        it.when(c.NoteChild(path, **outcome), after_s=1, command_id=f"goal~{path}/5/0")

    def said(path: str, **answer: Any) -> None:
        ended(path, outcome="completed", result={"text": "so", "model_used": "m", "usage": usage, **answer})

    read = {"server": "files", "tool": "read", "args": {"path": "x"}}
    open_step = {"description": "look", "type": "tool-call"}
    summary = {"description": "sum up", "type": "summarization"}
    one, talk = "plans.1.work.{}.stepping.one", "plans.1.work.1.stepping.one.talking.converse.{}"
    said("plans.1.planning.asking.propose", steps=[open_step, summary, {"type": "tool-call", **read}])
    said(f"{talk.format(1)}.turn", calls=[{"id": "a", **read}, {"id": "b", "server": "files", "tool": "rm"}])
    found = {"server": "files", "tool": "read", "result": {"é": [1.5, None]}, "status": "success", "duration_ms": 3}
    ended(f"{talk.format(1)}.calling.calls.0", outcome="completed", result=found)
    said(f"{talk.format(2)}.turn")
    said(f"{one.format(2)}.do")
    ended(f"{one.format(3)}.do", outcome="failed", error=ErrorInfo("tool_failed", "no such file", retryable=False))
    said("plans.2.planning.asking.propose", steps="none")
    said("plans.2.work.1.stepping.one.do")
    return it


def expectation(it: GivenTask) -> dict[str, Any]:
    state: TaskState | None = None
    row: Row | None = None
    words, statuses = [], []
    for recorded in it.history:
        state, row = evolve(state, recorded), fold_view(row, recorded)
        words.append(state.word)
        statuses.append(row.status)
    assert state is not None
    return {
        "task_id": it.task_id,
        "words": words,
        "statuses": statuses,
        "attempts": state.attempts,
        "failures": state.failures,
        "digest": state.digest.hex(),
    }


def main(release: str) -> None:
    path = HISTORIES / f"{release}.jsonl"
    if path.exists():
        raise SystemExit(f"{path} is there already; histories of a release are never changed")
    made = list(lives())
    path.write_bytes(b"".join(recorded.body + b"\n" for it in made for recorded in it.history))
    expected = msgspec.json.format(msgspec.json.encode([expectation(it) for it in made]), indent=1)
    path.with_suffix(".states.json").write_bytes(expected + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
