"""Random tasks, commands and reports for the state machines and the properties."""

from datetime import timedelta
from functools import lru_cache

from hypothesis import strategies as st
from msgspec import UNSET

from taskloom.domain.task import commands as c
from taskloom.domain.values import Approval, Concurrency, ErrorInfo, OutputSummary, ResourceUse, Retry, Timeouts, Usage
from taskloom.testing.clock import START

EXECUTORS = ("ex-1", "ex-2")
TIMEOUT_KINDS = ("schedule_to_start", "start_to_close", "heartbeat", "total")

seconds = st.integers(1, 200).map(float)
maybe_seconds = st.none() | seconds
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=3)
texts = st.text(max_size=20)
moments = st.integers(-100, 400).map(lambda s: START + timedelta(seconds=s))
errors = st.builds(ErrorInfo, st.sampled_from(["ValueError", "timeout", "OSError"]), texts, st.booleans(), objects)
outputs = st.builds(OutputSummary, st.integers(0, 9), st.integers(0, 9), st.integers(0, 999))
resources = st.builds(ResourceUse, st.floats(0, 800), st.floats(0, 1e5), st.floats(0, 1e5), st.integers(0, 99))
usages = st.builds(Usage, st.integers(0, 99), st.integers(0, 99), st.floats(0, 9), texts, texts)

submissions = st.builds(
    c.SubmitTask,
    kind=st.sampled_from(["echo", "shell"]),
    query=texts,
    input=objects,
    metadata=objects,
    tags=st.lists(texts, max_size=3).map(tuple),
    priority=st.integers(1, 5) | st.sampled_from(["low", "URGENT"]),
    run_at=st.none() | moments,
    deadline=st.none() | moments,
    timeouts=st.builds(Timeouts, maybe_seconds, seconds, maybe_seconds, maybe_seconds),
    retry=st.none()
    | st.builds(
        Retry,
        st.integers(1, 4),
        st.floats(0, 50),
        st.floats(1, 5),
        st.floats(0, 100),
        st.floats(0, 1),
        st.lists(st.sampled_from(["ValueError", "timeout", "lost"]), max_size=2).map(tuple),
    ),
    executor_id=st.none() | st.sampled_from(EXECUTORS),
    concurrency=st.none() | st.builds(Concurrency, st.text(min_size=1, max_size=5), st.integers(1, 9)),
    approval=st.none()
    | st.builds(
        Approval,
        texts,
        st.lists(st.sampled_from(["ann", "bob"]), max_size=1).map(tuple),
        maybe_seconds,
        st.sampled_from(["fail", "approve", "reject"]),
    ),
)
updates = st.builds(
    c.UpdateTask,
    name=st.just(UNSET) | texts,
    priority=st.just(UNSET) | st.integers(1, 5),
    assigned_to=st.just(UNSET) | st.none() | st.sampled_from(EXECUTORS),
    metadata=st.just(UNSET) | objects,
    deadline=st.just(UNSET) | st.none() | moments,
    tags=st.just(UNSET) | st.lists(texts, max_size=3).map(tuple),
    queue=st.just(UNSET) | st.sampled_from(["default", "other"]),
)
client_commands = st.one_of(
    st.builds(c.CancelTask, texts, st.floats(0, 60)),
    st.builds(c.PauseTask, texts),
    st.builds(c.ResumeTask, texts),
    st.just(c.ExplainTask()),
    st.builds(c.RetryTask, texts),
    updates,
    st.builds(c.DeleteTask, texts, st.floats(0, 60)),
    st.builds(c.DecideApproval, st.just("approval"), st.booleans(), texts, json_values),
)


@lru_cache
def reports(attempt: int, executor_id: str) -> st.SearchStrategy[c.Report]:
    """Any report on this attempt."""
    it = (st.just(attempt), st.just(executor_id))
    return st.one_of(
        st.builds(c.ReportStarted, *it, st.integers(0, 99)),
        st.builds(c.ReportDeclined, *it, texts),
        st.builds(c.ReportHeartbeat, *it, st.none() | st.floats(0, 1), texts, objects),
        st.builds(c.ReportOutputStarted, *it, st.sampled_from(["stdout", "stderr", "message", "log"])),
        st.builds(c.ReportCompleted, *it, texts, json_values, st.none() | st.integers(), outputs, resources, usages),
        st.builds(c.ReportFailed, *it, errors, st.none() | st.integers(0, 255), outputs, resources, usages),
        st.builds(c.ReportTimedOut, *it, st.sampled_from(TIMEOUT_KINDS), seconds, outputs, resources),
        st.builds(c.ReportPaused, *it, texts),
        st.builds(c.ReportStopSignalled, *it, st.sampled_from(["signalled", "escalated"]), texts, st.integers(0, 9)),
        st.builds(c.ReportStopped, *it, st.none() | st.integers(-15, 255), outputs, resources),
    )


any_report = st.tuples(st.integers(1, 9), st.sampled_from(EXECUTORS)).flatmap(lambda it: reports(*it))
