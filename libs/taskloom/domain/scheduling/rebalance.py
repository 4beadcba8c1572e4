"""Which attempts should leave a full executor's reserve for another one's free slots.

Work waits centrally, but for the quarter of a second that each executor keeps in reserve. Only that can be in the wrong
place: when an executor comes, or when attempts turn out longer than those before. What has started never moves.
"""

from collections.abc import Iterable

from taskloom.domain.scheduling.executors import Standing
from taskloom.domain.scheduling.match import requirement_of
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task.directives import RecallAttempt
from taskloom.domain.task.state import TaskState


def moves(scheduler: Scheduler, states: Iterable[TaskState], limit: int) -> list[RecallAttempt]:
    """Recalls for those of the tasks that would start sooner elsewhere: low priorities first, then the youngest.

    A target's slot is promised until the executor has answered, so that a second call does not promise it again.
    """
    asked = [state for state in states if _may_move(state) and state.task_id not in scheduler.recalls]
    asked.sort(key=lambda state: (-state.spec.priority, state.queued_at or state.submitted_at), reverse=True)
    recalls: list[RecallAttempt] = []
    for state in asked:
        if len(recalls) >= limit:
            break
        target, live = _better_place(scheduler, state), state.live
        if target and live is not None:
            scheduler.recalls[state.task_id] = (live.executor_id, target)
            recalls.append(RecallAttempt(state.task_id, live.number, live.executor_id, live.incarnation))
    return recalls


def in_reserve(scheduler: Scheduler) -> list[str]:
    """Tasks of the executors that hold more than they have slots; none when no slot is free anywhere."""
    standings = scheduler.pool.standings()
    full = [standing for standing in standings if _reserve(scheduler, standing) > 0]
    if not full or not any(_free_slots(scheduler, standing) > 0 for standing in standings):
        return []
    return [task_id for standing in full for task_id, _ in standing.leases]


def _may_move(state: TaskState) -> bool:
    held = state.pause is not None or state.cancel is not None or state.spec.affinity is not None
    return state.phase == "assigned" and state.live is not None and not held


def _better_place(scheduler: Scheduler, state: TaskState) -> str:
    """An executor with a free slot for a task that waits on one without; empty for none."""
    assert state.live is not None
    requirement = requirement_of(state.spec)
    matching = scheduler.pool.matching(requirement)
    source = next((s for s in matching if s.offer.executor_id == state.live.executor_id), None)
    if source is None or _reserve(scheduler, source) <= 0:
        return ""
    others = [s for s in matching if s is not source and s.has_room and _free_slots(scheduler, s) > 0]
    open_for = [s for s in others if scheduler.pool.open_for(s, requirement)]
    best = max(open_for, key=lambda s: _free_slots(scheduler, s) / s.offer.slots, default=None)
    return "" if best is None else best.offer.executor_id


def _reserve(scheduler: Scheduler, standing: Standing) -> int:
    """Attempts there that no slot runs, less those that were called back."""
    name = standing.offer.executor_id
    leaving = sum(source == name for source, _ in scheduler.recalls.values())
    return len(standing.leases) - scheduler.pool.share(standing.offer.slots, name) - leaving


def _free_slots(scheduler: Scheduler, standing: Standing) -> int:
    name = standing.offer.executor_id
    promised = sum(target == name for _, target in scheduler.recalls.values())
    return scheduler.pool.share(standing.offer.slots, name) - len(standing.leases) - promised
