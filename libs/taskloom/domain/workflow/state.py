"""What is remembered of a run. It holds the steps under way and the results of those that ended, not their history."""

from datetime import UTC, datetime
from typing import Any, Final, Literal

from immutables import Map
from msgspec import Struct

from taskloom.domain.goals.state import GoalState
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow.persistent import EMPTY_QUEUE, NO_TIMERS, Queue, Timers
from taskloom.domain.workflow.plan import Body, Plan, StepPlan

StepStatus = Literal["ready", "running", "waiting", "completed", "failed", "skipped", "cancelled"]
RunStatus = Literal["pending", "running", "completed", "failed", "cancelled", "timed_out"]

ENDED: Final = frozenset({"completed", "failed", "cancelled", "timed_out"})
STEP_ENDED: Final = frozenset({"completed", "failed", "skipped", "cancelled"})

ROOT: Final = ""
FAILURE_STEPS: Final = "on_failure"

KEPT_ROUNDS: Final = 100
"""Rounds of a loop whose results it remembers, the last ones."""

MAX_KEPT_SIGNALS: Final = 1_000
MAX_KEPT_SIGNAL_BYTES: Final = 1024 * 1024
"""Signals that a run keeps for steps to come, and their payloads as JSON. One more is refused; none is ever dropped."""

MAX_STARTS: Final = 250_000
"""Steps that one run may start; above it the run fails, since nested loops multiply."""

MAX_RESTARTS: Final = 100
"""How often one run may be retried; then it is submitted anew, under another id."""

MAX_WATCHING: Final = 1_000
"""Waits for a condition that may be open at once: each is looked at again after each change. One more fails."""

AT_ONCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A due time that has always passed."""


class LoopData(Struct, frozen=True):
    """``rounds`` are the last results, oldest first, each ``{iteration, results}``."""

    n: int = 0
    rounds: tuple[dict[str, Any], ...] = ()
    over: bool = False


class MapData(Struct, frozen=True):
    """``items`` are those not ended yet, ``live`` the numbers of those that run, ``following`` the next to start.
    ``faults`` are errors in full, in the run of a goal alone.

    ``untold`` are those of a map being stopped that have still to be asked to end. ``again`` are items that a retry of
    the run starts before those following, the next one and the list behind it.
    """

    items: Map[int, Any] = Map()
    total: int = 0
    known: int = 0
    following: int = 0
    live: Map[int, None] = Map()
    results: Map[int, Any] = Map()
    errors: Map[int, str] = Map()
    faults: Map[int, ErrorInfo] = Map()
    untold: Map[int, None] = Map()
    again: "ItemList" = None

    @property
    def set_back(self) -> list[int]:
        """The numbers in ``again``."""
        listed, items = [], self.again
        while items is not None:
            listed.append(items[0])
            items = items[1]
        return listed

    @property
    def upcoming(self) -> int | None:
        """The next item to start; None when all have been."""
        if self.again is not None:
            return self.again[0]
        return self.following if self.following < self.total else None


ItemList = tuple[int, Any] | None


class Node(Struct, frozen=True):
    """A step under way or ended. ``frame`` is the body it runs in, or the map it is an item of.

    ``doomed`` says why a step that is ready will be skipped instead. ``joined``: all that runs within it has ended.
    ``error`` of a step that runs is the first failure within it. ``restart``: its task was submitted after so many
    retries of the run; None while it has none. ``since`` is when it became ready, or began to wait. A step that ended
    badly keeps its bodies, so that a retry can go on.
    """

    path: str
    plan: StepPlan
    frame: str
    status: StepStatus = "ready"
    result: Any = None
    error: ErrorInfo | None = None
    ended: int = 0
    doomed: str = ""
    joined: bool = False
    stopping: str = ""
    branch: bool = False
    data: LoopData | MapData | None = None
    restart: int | None = None
    since: datetime | None = None

    @property
    def done(self) -> bool:
        """It completed, or failed in a way that its workflow goes on with: a retry leaves it as it is."""
        return self.status == "completed" or (self.status == "failed" and self.plan.step.on_failure == "continue")


class Frame(Struct, frozen=True):
    """A body that runs. ``pending`` counts what each step still waits for, ``open`` the steps that have not ended.

    ``node`` is the step it belongs to (a step that is undone, for compensations); ``last`` the step that ended last.
    """

    path: str
    body: Body
    node: str
    pending: Map[str, int]
    open: int
    error: ErrorInfo | None = None
    failed_at: str = ""
    stopping: str = ""
    last: str = ""


class Undo(Struct, frozen=True):
    """A completed step that has a compensation. ``place`` are the item or round it ran in."""

    plan: StepPlan
    path: str
    result: Any
    place: dict[str, Any]


class Ended(Struct, frozen=True):
    """How the last step with an id ended."""

    status: StepStatus
    result: Any = None
    error: ErrorInfo | None = None


UndoList = tuple[Undo, Any] | None
"""The last completed step and the list before it."""


class RunFields(Struct):
    """The fields of a run's state, and of a draft of its next one.

    ``agenda`` are the steps that something must be decided on, ``slots`` those that wait for one of the
    ``max_parallel_tasks`` places. ``running`` counts the tasks under way, ``started`` all steps so far, ``ended`` all
    that ended. ``watching`` are waits for a condition, ``approvals`` those for a decision;
    ``restored`` are results by step id of the run whose checkpoint this one started from. ``sizes`` are the bytes of
    each variable, ``refs`` counts results that are kept by reference. ``initial`` are the variables that the run began
    with, ``restarts`` counts its retries, ``undone`` the compensations that have begun. ``goal`` is what a goal's
    run has come to.
    """

    plan: Plan
    variables: Map[str, Any]
    context: dict[str, Any]
    status: RunStatus = "pending"
    paused: bool = False
    stopping: Literal["", "cancelled", "timed_out", "failed"] = ""
    reason: str = ""
    nodes: Map[str, Node] = Map()
    frames: Map[str, Frame] = Map()
    latest: Map[str, Ended] = Map()
    agenda: Queue = EMPTY_QUEUE
    slots: Queue = EMPTY_QUEUE
    timers: Timers = NO_TIMERS
    running: int = 0
    started: int = 0
    ended: int = 0
    restored: dict[str, Any] = {}
    refs: int = 0
    watching: Queue = EMPTY_QUEUE
    approvals: Queue = EMPTY_QUEUE
    listeners: Map[str, Queue] = Map()
    signals: Map[str, tuple[Any, ...]] = Map()
    kept_signals: int = 0
    kept_signal_bytes: int = 0
    sizes: Map[str, int] = Map()
    variables_bytes: int = 0
    undo: UndoList = None
    undoing: Undo | None = None
    undo_count: int = 0
    compensated: int = 0
    compensate: bool = False
    phase: Literal["steps", "compensation", "failure_steps", "over"] = "steps"
    error: ErrorInfo | None = None
    failed_at: str = ""
    output: Any = None
    initial: Map[str, Any] = Map()
    restarts: int = 0
    undone: int = 0
    goal: GoalState | None = None


class RunState(RunFields, frozen=True):  # type: ignore[misc]  # the draft is the one that may be set
    """A run after some of its events."""


def next_due(state: RunState) -> datetime | None:
    """When the run next needs the clock; at once (1970) when it stopped half-way in a long piece of work."""
    if state.status in ENDED or state.status == "pending" or (state.paused and not state.stopping):
        return None
    if state.agenda or (state.slots and state.running < state.plan.definition.max_parallel_tasks):
        return AT_ONCE
    first = state.timers.first
    return None if first is None else first.due_at
