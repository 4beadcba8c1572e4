"""Schedules: each due time leads to exactly one fact, that a run was triggered, buffered or skipped.

A run is a task whose id follows from the schedule and the due time, and whose whole submission stands in the event that
triggered it; so whoever finds that event sends the same submission again, and it is the same task.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import (
    BackfillSchedule,
    FireSchedule,
    NoteRun,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    SaveSchedule,
    ScheduleCommand,
    ScheduleSpec,
    TriggerSchedule,
)
from taskloom.domain.entities.due import BadTiming, begins, check, due_times, next_due
from taskloom.domain.entities.events import (
    RunBuffered,
    RunEnded,
    RunsSkipped,
    RunTriggered,
    ScheduleEvent,
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleSaved,
)
from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.ids import DEFAULT_TENANT, MAX_ID_CHARS
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.submission import Invalid, normalise

MISSED_AFTER_S: Final = 60.0
"""A run that begins later than this was missed, and its schedule's ``catch_up`` says what becomes of it."""

MAX_AT_ONCE: Final = 100
"""Runs that one firing triggers; the next firing goes on."""

MAX_OPEN_RUNS: Final = 1_000
MAX_DUE_TIMES: Final = 100_000
"""Due times that are looked at in one go: beyond them the older ones count as skipped."""


class Schedule(Struct, frozen=True, omit_defaults=True, tag="schedule"):
    """What is remembered. ``next_at``: earliest due time that no fact stands for yet. ``open_runs`` are task ids."""

    spec: ScheduleSpec
    saved_by: str = ""
    next_at: datetime | None = None
    paused_at: datetime | None = None
    pause_reason: str = ""
    removed: bool = False
    open_runs: tuple[str, ...] = ()
    buffered: datetime | None = None
    total_runs: int = 0
    successful_runs: int = 0
    failed_runs: int = 0
    skipped_runs: int = 0
    last_run_at: datetime | None = None

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"next_run_at": self.next_at if self.paused_at is None else None, "removed": self.removed}


def fires_at(state: Schedule, name: str) -> datetime | None:
    """When it next needs the clock."""
    if state.removed or state.paused_at is not None or state.next_at is None:
        return None
    return begins(state.spec.timing, name, state.next_at)


def decide(state: Schedule | None, command: ScheduleCommand, asked: Asked) -> list[ScheduleEvent] | Refusal:
    if isinstance(command, SaveSchedule):
        return _save(state, command, asked)
    if state is None or state.removed:
        if isinstance(command, NoteRun | FireSchedule):
            return []
        return Refusal("not_found", f"there is no schedule {asked.name!r}")
    return _HANDLERS[type(command)](state, command, asked)


def _save(state: Schedule | None, command: SaveSchedule, asked: Asked) -> list[ScheduleEvent] | Refusal:
    if command.new and state is not None:
        return Refusal("conflict", f"schedule {asked.name!r} exists", "schedule_id")
    if not command.new and (state is None or state.removed):
        return Refusal("not_found", f"there is no schedule {asked.name!r}")
    if command.expected_version not in (None, asked.version):
        return Refusal("conflict", "it was changed meanwhile; read it again", "expected_version")
    spec = _anchored(command.spec, asked.now)
    try:
        check(spec.timing)
        submission = _submission(spec, asked.name, asked.now)
        normalise(submission, task_id=asked.name, tenant_id=asked.tenant_id, user_id=asked.actor)
    except BadTiming as bad:
        return Refusal("invalid", bad.message, bad.field)
    except Invalid as invalid:
        return Refusal("invalid", invalid.message, f"task.{invalid.field}")
    except msgspec.ValidationError as error:
        return Refusal("invalid", str(error), "task")
    if state is not None and state.spec == spec:
        return []
    due = next_due(spec.timing, asked.now)
    if due is None and spec.timing.at is not None:
        return Refusal("invalid", f"{spec.timing.at.isoformat()} has passed", "at")
    return [ScheduleSaved(spec, due)]


def _anchored(spec: ScheduleSpec, now: datetime) -> ScheduleSpec:
    """An interval counts from when it was first saved, unless it says from when."""
    timing = spec.timing
    if timing.interval_s is None or timing.anchor is not None:
        return spec
    return structs.replace(spec, timing=structs.replace(timing, anchor=timing.start_at or now))


def _pause(state: Schedule, command: PauseSchedule, _asked: Asked) -> list[ScheduleEvent]:
    return [] if state.paused_at is not None else [SchedulePaused(command.reason)]


def _resume(state: Schedule, command: ResumeSchedule, asked: Asked) -> list[ScheduleEvent]:
    """Due times of the pause are passed over: who paused it did not want them."""
    return [] if state.paused_at is None else [ScheduleResumed(command.reason, next_due(state.spec.timing, asked.now))]


def _remove(_state: Schedule, command: RemoveSchedule, _asked: Asked) -> list[ScheduleEvent]:
    return [ScheduleRemoved(command.reason)]


def _trigger(state: Schedule, _command: TriggerSchedule, asked: Asked) -> list[ScheduleEvent] | Refusal:
    if len(state.open_runs) >= MAX_OPEN_RUNS:
        return Refusal("conflict", f"{MAX_OPEN_RUNS} runs of it are open")
    number = state.total_runs + 1
    return [_run(state, asked, asked.now, "manual", f"manual-{number}")]


def _backfill(state: Schedule, command: BackfillSchedule, asked: Asked) -> list[ScheduleEvent] | Refusal:
    if command.end <= command.start:
        return Refusal("invalid", "the end is before the start", "end")
    if command.end > asked.now:
        return Refusal("invalid", "only due times that have passed can be filled in", "end")
    found: list[datetime] = []
    for due in due_times(state.spec.timing, command.start - timedelta(microseconds=1)):
        if due >= command.end or len(found) > MAX_AT_ONCE:
            break
        found.append(due)
    if len(found) > MAX_AT_ONCE or len(state.open_runs) + len(found) > MAX_OPEN_RUNS:
        return Refusal("invalid", f"more than {MAX_AT_ONCE} due times lie between; fill in less at a time", "end")
    number = state.total_runs + 1
    return [_run(state, asked, due, "backfill", f"backfill-{number}") for due in found]


def _fire(state: Schedule, _command: FireSchedule, asked: Asked) -> list[ScheduleEvent]:
    """What becomes of each due time that has come, in order."""
    name, now = asked.name, asked.now
    if (at := fires_at(state, name)) is None or at > now:
        return []
    assert state.next_at is not None
    timing = state.spec.timing
    due_now, following = _come(state, name, now)
    missed = [due for due in due_now if (now - begins(timing, name, due)).total_seconds() > MISSED_AFTER_S]
    dropped = set(missed).difference(_caught_up(state.spec, missed, now))
    wanted = [due for due in due_now if due not in dropped]
    if len(wanted) > MAX_AT_ONCE:
        following, wanted = wanted[MAX_AT_ONCE], wanted[:MAX_AT_ONCE]
    passed = sorted(due for due in dropped if following is None or due < following)
    events: list[ScheduleEvent] = []
    if passed:
        events.append(RunsSkipped(passed[0], passed[-1], len(passed), "missed"))
    for due in wanted:
        events.append(_due(_after(state, events), asked, due))
    return _with_next(events, following)


def _come(state: Schedule, name: str, now: datetime) -> tuple[list[datetime], datetime | None]:
    """The due times that have come, and the one after them."""
    assert state.next_at is not None
    found: list[datetime] = []
    for due in due_times(state.spec.timing, state.next_at - timedelta(microseconds=1)):
        if begins(state.spec.timing, name, due) > now or len(found) >= MAX_DUE_TIMES:
            return found, due
        found.append(due)
    return found, None


def _caught_up(spec: ScheduleSpec, missed: list[datetime], now: datetime) -> list[datetime]:
    if spec.catch_up == "all":
        return missed
    if spec.catch_up == "last":
        return missed[-1:]
    if spec.catch_up == "window":
        return [due for due in missed if (now - due).total_seconds() <= spec.catch_up_window_s]
    return []


def _due(state: Schedule, asked: Asked, due: datetime) -> ScheduleEvent:
    """One due time under the overlap policy."""
    policy, is_open = state.spec.overlap, bool(state.open_runs)
    if is_open and policy == "buffer_one" and state.buffered is None:
        return RunBuffered(due)
    if (is_open and policy in ("skip", "buffer_one")) or len(state.open_runs) >= MAX_OPEN_RUNS:
        return RunsSkipped(due, due, 1, "overlap")
    return _run(state, asked, due, "due", "", cancels=state.open_runs if policy == "cancel_other" else ())


def _note_run(state: Schedule, command: NoteRun, asked: Asked) -> list[ScheduleEvent]:
    if command.run_id not in state.open_runs:
        return []
    ended = RunEnded(command.run_id, command.outcome)
    if state.buffered is None or len(state.open_runs) > 1:
        return [ended]
    return [ended, _run(state, asked, state.buffered, "buffered", "")]


def _run(
    state: Schedule, asked: Asked, due: datetime, cause: str, suffix: str, cancels: tuple[str, ...] = ()
) -> RunTriggered:
    submission = msgspec.to_builtins(_submission(state.spec, asked.name, due))
    return RunTriggered(_run_id(asked, due, suffix), due, cause, submission, state.saved_by, state.next_at, cancels)


def _run_id(asked: Asked, due: datetime, suffix: str) -> str:
    """The same for the same due time. Tenants may call their schedules alike, and ids of tasks are one space for all:
    so all but the default one's have a mark of theirs. A long schedule's id is cut, and has a mark of its own."""
    name, tenant = asked.name, asked.tenant_id
    behind = "-".join(filter(None, (f"{due:%Y%m%dT%H%M%S}", suffix, "" if tenant == DEFAULT_TENANT else _mark(tenant))))
    if len(name) + 1 + len(behind) > MAX_ID_CHARS:
        behind = f"{_mark(name)}-{behind}"
        name = name[: MAX_ID_CHARS - 1 - len(behind)]
    return f"{name}-{behind}"


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _submission(spec: ScheduleSpec, name: str, due: datetime) -> SubmitTask:
    """The submission of the run that is due then.

    Raises:
        msgspec.ValidationError: the schedule's ``task`` is no submission.
    """
    task = msgspec.convert(spec.task, SubmitTask)
    context = {**task.context, "trigger_type": "schedule", "schedule_id": name, "scheduled_for": due.isoformat()}
    metadata = {**task.metadata, "schedule_id": name}
    return structs.replace(task, task_id=None, context=context, metadata=metadata, name=task.name or spec.name)


def _with_next(events: list[ScheduleEvent], next_at: datetime | None) -> list[ScheduleEvent]:
    """The same, each saying from where to go on once it has happened."""
    return [structs.replace(event, next_at=next_at) for event in events]


def _after(state: Schedule, events: list[ScheduleEvent]) -> Schedule:
    for event in events:
        state = _CHANGES[type(event)](state, event, None)
    return state


_HANDLERS: Final[dict[type[Struct], Callable[[Schedule, Any, Asked], list[ScheduleEvent] | Refusal]]] = {
    PauseSchedule: _pause,
    ResumeSchedule: _resume,
    RemoveSchedule: _remove,
    TriggerSchedule: _trigger,
    BackfillSchedule: _backfill,
    FireSchedule: _fire,
    NoteRun: _note_run,
}


def evolve(state: Schedule | None, event: ScheduleEvent, recorded: Recorded) -> Schedule:
    if isinstance(event, ScheduleSaved):
        actor = recorded.meta.actor
        if state is None:
            return Schedule(event.spec, actor, event.next_at)
        return structs.replace(state, spec=event.spec, saved_by=actor or state.saved_by, next_at=event.next_at)
    assert state is not None
    return _CHANGES[type(event)](state, event, recorded)


def _paused(state: Schedule, event: SchedulePaused, recorded: Recorded) -> Schedule:
    return structs.replace(state, paused_at=recorded.meta.at, pause_reason=event.reason)


def _resumed(state: Schedule, event: ScheduleResumed, _recorded: Recorded) -> Schedule:
    return structs.replace(state, paused_at=None, pause_reason="", next_at=event.next_at)


def _removed(state: Schedule, _event: ScheduleRemoved, _recorded: Recorded) -> Schedule:
    return structs.replace(state, removed=True, next_at=None, buffered=None)


def _triggered(state: Schedule, event: RunTriggered, _recorded: Recorded | None) -> Schedule:
    return structs.replace(
        state,
        next_at=event.next_at,
        open_runs=(*state.open_runs, event.run_id),
        buffered=None if event.cause == "buffered" else state.buffered,
        total_runs=state.total_runs + 1,
        last_run_at=event.due_at,
    )


def _buffered(state: Schedule, event: RunBuffered, _recorded: Recorded | None) -> Schedule:
    return structs.replace(state, buffered=event.due_at, next_at=event.next_at)


def _skipped(state: Schedule, event: RunsSkipped, _recorded: Recorded | None) -> Schedule:
    return structs.replace(state, skipped_runs=state.skipped_runs + event.count, next_at=event.next_at)


def _ended(state: Schedule, event: RunEnded, _recorded: Recorded | None) -> Schedule:
    succeeded = event.outcome == "completed"
    return structs.replace(
        state,
        open_runs=tuple(run for run in state.open_runs if run != event.run_id),
        successful_runs=state.successful_runs + succeeded,
        failed_runs=state.failed_runs + (not succeeded),
    )


_CHANGES: Final[dict[type[Event], Callable[[Schedule, Any, Any], Schedule]]] = {
    SchedulePaused: _paused,
    ScheduleResumed: _resumed,
    ScheduleRemoved: _removed,
    RunTriggered: _triggered,
    RunBuffered: _buffered,
    RunsSkipped: _skipped,
    RunEnded: _ended,
}
