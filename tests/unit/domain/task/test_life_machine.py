"""One task, whatever comes in whatever order: after every step the rules that no task may break are checked."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskloom.domain.refusals import Refusal
from taskloom.domain.task import commands as c
from taskloom.domain.task import events as e
from taskloom.domain.task.directives import StopAttempt
from taskloom.domain.task.state import MAX_IGNORED_REPORTS, next_due
from taskloom.testing.given import GivenTask, Outcome
from taskloom.views.task_executions.fold import fold as fold_view
from taskloom.views.task_executions.row import STATUSES, Row
from tests.unit.domain.task.strategies import EXECUTORS, any_report, client_commands, reports, submissions

AFTER_END = (e.ReportIgnored, e.TaskRetried, e.TaskUpdated, e.TaskDeleted)
ENDS_ATTEMPT = (e.AttemptDeclined, e.AttemptFailed, e.AttemptTimedOut, e.AttemptLost, e.TaskCompleted)


class TaskLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.task = GivenTask()
        self.row: Row | None = None
        self.seen = 0
        self.open_attempt: int | None = None
        self.started: set[int] = set()
        self.commands = 0

    @initialize(submission=submissions)
    def submit(self, submission: c.SubmitTask) -> None:
        self.task.when(submission, command_id="submit", actor="ann")

    @rule(executor_id=st.sampled_from(EXECUTORS), incarnation=st.sampled_from("ab"))
    def assign(self, executor_id: str, incarnation: str) -> None:
        was_dispatchable = self.task.state.dispatchable
        outcome = self.apply(c.AssignAttempt(executor_id, incarnation))
        assert isinstance(outcome.decision, Refusal) is not was_dispatchable

    @rule(command=client_commands)
    def wish(self, command: c.TaskCommand) -> None:
        self.apply(command, command_id=self.new_id(), actor="ann")

    @precondition(lambda self: self.task.state.live is not None)
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        live = self.task.state.live
        assert live is not None
        self.apply(data.draw(reports(live.number, live.executor_id)), command_id=self.new_id())

    @precondition(lambda self: self.task.state.live is not None)
    @rule(data=st.data())
    def report_twice(self, data: st.DataObject) -> None:
        live = self.task.state.live
        assert live is not None
        report, command_id = data.draw(reports(live.number, live.executor_id)), self.new_id()
        if self.apply(report, command_id=command_id).events:
            self.apply(report, command_id=command_id).then_nothing()

    @rule(report=any_report)
    def report_of_any_attempt(self, report: c.Report) -> None:
        before, live = self.task.state, self.task.state.live
        outcome = self.apply(report, command_id=self.new_id())
        if live is None or (live.number, live.executor_id) != (report.attempt, report.executor_id):
            assert isinstance(outcome.decision, Refusal) or all(isinstance(x, e.ReportIgnored) for x in outcome.events)
            assert (before.phase, before.attempts, before.failures) == self.progress()

    @rule(attempt=st.integers(1, 6))
    def lose(self, attempt: int) -> None:
        live = self.task.state.live
        outcome = self.apply(c.LoseAttempt(attempt, "gone"))
        assert bool(outcome.events) is (live is not None and live.number == attempt)

    @rule(seconds=st.integers(0, 120))
    def time_passes(self, seconds: int) -> None:
        self.task.after(seconds)

    @rule()
    def fire(self) -> None:
        due = next_due(self.task.state)
        outcome = self.apply(c.FireTimers())
        assert bool(outcome.events) is (due is not None and due <= self.task.clock.now)

    @precondition(lambda self: next_due(self.task.state) is not None)
    @rule()
    def fire_when_due(self) -> None:
        due = next_due(self.task.state)
        assert due is not None
        self.task.clock.to(due)
        assert self.apply(c.FireTimers()).events

    def progress(self) -> tuple[str, int, int]:
        state = self.task.state
        return state.phase, state.attempts, state.failures

    def new_id(self) -> str:
        self.commands += 1
        return f"c-{self.commands}"

    def apply(self, command: c.TaskCommand, **caller: Any) -> Outcome:
        before = self.task.state.live
        outcome = self.task.when(command, **caller)
        for directive in outcome.directives:
            if isinstance(directive, StopAttempt) and not directive.incarnation:
                assert directive.executor_id == command.executor_id  # type: ignore[union-attr]
            else:
                live = self.task.state.live or before
                assert live is not None
                addressed = (directive.attempt, directive.executor_id, directive.incarnation)
                assert addressed == (live.number, live.executor_id, live.incarnation)
        return outcome

    @invariant()
    def replay_gives_the_live_state(self) -> None:
        self.task.check_replay()

    @invariant()
    def history_keeps_the_rules(self) -> None:
        for recorded in self.task.history[self.seen :]:
            self.seen += 1
            assert recorded.version == self.seen
            self.row = fold_view(self.row, recorded)
            self.follow(recorded.event)
        assert self.row is not None
        assert (self.row.state, self.row.version) == (self.task.state.word, self.task.state.version)
        assert self.row.status == STATUSES[self.task.state.phase if self.deleted else self.task.state.word]
        assert self.row.ended is self.ended
        assert (self.row.deleted_at is not None) is self.deleted
        self.row_shows_the_specification(self.row)
        live = self.task.state.live
        assert self.open_attempt == (None if live is None else live.number)

    def row_shows_the_specification(self, row: Row) -> None:
        spec = self.task.state.spec
        shown = (row.priority, row.assigned_to, row.deadline, row.queue, row.overdue)
        assert shown == (spec.priority, spec.executor_id, spec.deadline, spec.queue, self.task.state.overdue)

    def follow(self, event: e.TaskEvent) -> None:
        assert not self.ended or isinstance(event, AFTER_END), "only what is recorded late follows the end"
        assert not self.deleted or isinstance(event, e.ReportIgnored), "a deleted task does not change"
        self.deleted = self.deleted or isinstance(event, e.TaskDeleted)
        if isinstance(event, e.TaskRetried):
            assert (self.ended, self.ended_well) == (True, False), "only what ended badly begins anew"
            self.ended = False
        if isinstance(event, e.AttemptAssigned):
            assert self.open_attempt is None, "two attempts at once"
            assert event.attempt == len(self.started) + 1
            self.open_attempt = event.attempt
            self.started.add(event.attempt)
        elif isinstance(event, ENDS_ATTEMPT):
            assert self.open_attempt == event.attempt, "ended twice, or never assigned"
            self.open_attempt = None
        elif isinstance(event, e.TaskCancelled):
            self.open_attempt = None
        if isinstance(event, e.TERMINAL_EVENTS):
            assert self.open_attempt is None, "the task ended, its attempt did not"
            self.ended, self.ended_well = True, isinstance(event, e.TaskCompleted)

    ended = ended_well = deleted = False

    @invariant()
    def what_is_remembered_is_bounded(self) -> None:
        state = self.task.state
        assert state.ignored <= MAX_IGNORED_REPORTS
        assert state.failures <= state.spec.retry.max_attempts
        assert (state.ended, state.deleted) == (self.ended, self.deleted)
        assert not (state.deletion and state.ended and not state.deleted), "the wish was forgotten"
        assert not (state.ended and next_due(state))


TaskLife.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestTaskLife = TaskLife.TestCase
