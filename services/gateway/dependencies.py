"""Tasks that wait for tasks: do they exist, who waits for whom, would it be a circle, in which order can they run."""

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct

from services.gateway.problems import BadRequest, Conflict, NotFound
from services.gateway.readside import Histories, Views
from services.gateway.wait import Recent
from taskloom.domain.task.evolve import fold
from taskloom.domain.task.state import TaskState
from taskloom.domain.workflow.graph import CycleFound, order, phases

MAX_GRAPH: Final = 1_000
"""Tasks in one graph or plan, and tasks looked at in search of a circle."""


class Dependency(Struct, frozen=True):
    task_id: str
    waiting: bool


class Dependencies(Struct, frozen=True):
    """``depends_on`` in the order given, each with whether it is still waited for; ``blocks`` wait for this task."""

    task_id: str
    state: str
    depends_on: list[Dependency]
    blocks: list[str]


class Node(Struct, frozen=True):
    id: str
    name: str
    status: str
    priority: int
    type: str


class Edge(Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """``source`` has to end before ``target`` may run."""

    source: str
    target: str
    type: str = "dependency"


class Graph(Struct, frozen=True):
    nodes: list[Node]
    edges: list[Edge]


class Phase(Struct, frozen=True):
    phase: int
    parallel_groups: list[list[str]]


class Plan(Struct, frozen=True):
    """``order`` is one in which every task comes after what it depends on; a phase's tasks can run at once."""

    order: list[str]
    phases: list[Phase]


class DependencyReader:
    """Reads the event store: what a task waits for is right there, and no read table has to be kept for it."""

    def __init__(self, views: Views, histories: Histories, recent: Recent) -> None:
        self._views = views
        self._histories = histories
        self._recent = recent

    async def check(self, tenant_id: str, depends_on: Sequence[str], beside: Collection[str] = ()) -> None:
        """``beside``: ids that are submitted along with it, and stand before it.

        Raises:
            BadRequest: a task that shall be waited for does not exist; names its place.
        """
        for place, task_id in enumerate(depends_on):
            if task_id not in beside and not await self._exists(tenant_id, task_id):
                raise BadRequest(f"task {task_id} does not exist", field=f"depends_on[{place}]")

    async def of(self, tenant_id: str, task_id: str) -> Dependencies:
        """Raises NotFound: unknown, or another tenant's."""
        state = await self._state(tenant_id, task_id)
        if state is None:
            raise NotFound("Task not found", task_id=task_id)
        waits = [Dependency(name, name in state.waiting_for) for name in needs_of(state)]
        return Dependencies(task_id, state.word, waits, list(state.watchers))

    async def check_no_circle(self, tenant_id: str, task_id: str, dependency: str) -> None:
        """Looks from ``dependency`` on along what is still waited for.

        Raises:
            Conflict: ``task_id`` is reached; names the circle. Or more tasks than one look may read are involved.
            NotFound: the dependency is unknown, or another tenant's.
        """
        if not await self._exists(tenant_id, dependency):
            raise NotFound(f"task {dependency} does not exist", task_id=dependency)
        paths: list[tuple[str, ...]] = [(dependency,)]
        seen = {dependency}
        while paths:
            path = paths.pop()
            if path[-1] == task_id:
                circle = " -> ".join((task_id, *path))
                raise Conflict(f"a circle of dependencies: {circle}", field="dependency", cycle=[task_id, *path])
            state = await self._state(tenant_id, path[-1])
            further = set() if state is None else state.waiting_for - seen
            seen |= further
            if len(seen) > MAX_GRAPH:
                raise Conflict(
                    f"more than {MAX_GRAPH} tasks are involved; submit them as a workflow", field="dependency"
                )
            paths += [(*path, name) for name in further]

    async def graph(self, tenant_id: str, task_ids: Sequence[str]) -> Graph:
        """Raises NotFound: one of them is unknown, or another tenant's."""
        states = await self._states(tenant_id, task_ids)
        nodes = [
            Node(name, state.spec.name, state.word, int(state.spec.priority), state.spec.kind)
            for name, state in states.items()
        ]
        edges = [Edge(need, name) for name, state in states.items() for need in needs_of(state) if need in states]
        return Graph(nodes, edges)

    async def plan(self, tenant_id: str, task_ids: Sequence[str]) -> Plan:
        """Order and phases of the given tasks among themselves.

        Raises:
            NotFound: one of them is unknown, or another tenant's.
            Conflict: they wait for each other in a circle; names it.
        """
        states = await self._states(tenant_id, task_ids)
        needs = {name: [need for need in needs_of(state) if need in states] for name, state in states.items()}
        try:
            ordered, groups = order(states, needs), phases(states, needs)
        except CycleFound as error:
            raise Conflict(str(error), field="ids") from error
        return Plan(ordered, [Phase(number, [group]) for number, group in enumerate(groups, start=1)])

    async def _states(self, tenant_id: str, task_ids: Sequence[str]) -> dict[str, TaskState]:
        if not 1 <= len(task_ids) <= MAX_GRAPH:
            raise BadRequest(f"send 1 to {MAX_GRAPH} task ids, not {len(task_ids)}", field="ids")
        states: dict[str, TaskState] = {}
        for task_id in dict.fromkeys(task_ids):
            state = await self._state(tenant_id, task_id)
            if state is None:
                raise NotFound(f"task {task_id} does not exist", task_id=task_id)
            states[task_id] = state
        return states

    async def _exists(self, tenant_id: str, task_id: str) -> bool:
        row = await self._views.task(tenant_id, task_id)
        if row is not None:
            return row.deleted_at is None
        if self._recent.expected_version(tenant_id, task_id):
            return True
        return await self._state(tenant_id, task_id) is not None

    async def _state(self, tenant_id: str, task_id: str) -> TaskState | None:
        state = fold(await self._histories.events(task_id))
        if state is None or state.deleted or state.spec.tenant_id != tenant_id:
            return None
        return state


def needs_of(state: TaskState) -> list[str]:
    """What a task was submitted to wait for, then what was added and is still waited for."""
    return [*state.spec.depends_on, *sorted(state.waiting_for - set(state.spec.depends_on))]
