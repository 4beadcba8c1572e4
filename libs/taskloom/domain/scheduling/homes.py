"""Which executor last got a task of each workflow, session or key that tasks want to be near to."""

from collections import OrderedDict
from typing import Final

from taskloom.domain.scheduling.lines import Lane, Near
from taskloom.domain.task.state import TaskState
from taskloom.domain.workflow.wanted import root_of

Key = tuple[str, str]
"""Tenant, and what its tasks want to be near to."""

MAX_HOMES: Final = 10_000
"""Homes that are remembered; beyond it the one that was not used for longest is forgotten, and its next task goes
anywhere."""


class Homes:
    """Kept in memory only: after a take-over those of live attempts are known, others begin anew."""

    def __init__(self) -> None:
        self._homes: OrderedDict[Key, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._homes)

    def note(self, key: Key, executor_id: str) -> None:
        self._homes[key] = executor_id
        self._homes.move_to_end(key)
        if len(self._homes) > MAX_HOMES:
            self._homes.popitem(last=False)

    def of(self, lane: Lane) -> str:
        """The executor that the lane's tasks prefer; empty for none."""
        return "" if lane.near is None else self._homes.get((lane.tenant, lane.near[0]), "")


def near_of(state: TaskState) -> Near | None:
    """What the task wants to be near to, with its patience; None for a task of no workflow that names its workflow."""
    spec, affinity = state.spec, state.spec.affinity
    if affinity is None:
        return None
    run_id = root_of(state.task_id)
    if affinity.to == "workflow" and run_id == state.task_id:
        return None
    name = {"workflow": run_id, "session": spec.session_id, "key": affinity.key}[affinity.to]
    return f"{affinity.to}:{name}", affinity.wait_s
