"""Order, cycles and parallel phases of anything that waits for something: steps, or tasks. Linear in nodes and edges.

``needs`` maps a node to the nodes it waits for. Nodes that nothing is said about wait for nothing; what is needed but
is no node of the graph counts as done. All answers keep the order in which the nodes were given.
"""

from collections import deque
from collections.abc import Iterable, Mapping


class CycleFound(ValueError):
    """Nodes wait for each other. ``cycle`` names them in order, the first again at the end."""

    def __init__(self, cycle: list[str]) -> None:
        super().__init__(f"{' -> '.join(cycle)} is a cycle: each of these waits for the next, so none can start")
        self.cycle = cycle


def order(nodes: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """The nodes so that each comes after all that it needs (Kahn 1962).

    Raises:
        CycleFound: there is no such order.
    """
    return [node for phase in phases(nodes, needs) for node in phase]


def phases(nodes: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups that can run at once: each node stands in the first group after all that it needs.

    Raises:
        CycleFound: some nodes wait for each other.
    """
    known = list(dict.fromkeys(nodes))
    left, dependents = _counts(known, needs)
    groups, current, placed = [], [node for node in known if not left[node]], 0
    place = {node: at for at, node in enumerate(known)}
    while current:
        groups.append(current)
        placed += len(current)
        current = sorted(_released(current, left, dependents), key=place.__getitem__)
    if placed < len(known):
        raise CycleFound(_cycle_among([node for node in known if left[node]], needs))
    return groups


def cycle(nodes: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[str] | None:
    """A cycle, as the nodes in the order of waiting with the first again at the end; None when there is none."""
    try:
        phases(nodes, needs)
    except CycleFound as found:
        return found.cycle
    return None


def dependents_of(nodes: Iterable[str], needs: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """The edges the other way round: which nodes wait for a node."""
    return {node: tuple(waiting) for node, waiting in _counts(list(dict.fromkeys(nodes)), needs)[1].items()}


def _counts(known: list[str], needs: Mapping[str, Iterable[str]]) -> tuple[dict[str, int], dict[str, list[str]]]:
    left = dict.fromkeys(known, 0)
    dependents: dict[str, list[str]] = {node: [] for node in known}
    for node in known:
        for needed in dict.fromkeys(needs.get(node, ())):
            if needed in dependents:
                dependents[needed].append(node)
                left[node] += 1
    return left, dependents


def _released(done: list[str], left: dict[str, int], dependents: dict[str, list[str]]) -> list[str]:
    released = []
    for node in done:
        for waiting in dependents[node]:
            left[waiting] -= 1
            if not left[waiting]:
                released.append(waiting)
    return released


def _cycle_among(stuck: list[str], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Each stuck node waits for another stuck one, so that a walk along the needs must come back to where it was."""
    remaining = set(stuck)
    walk: deque[str] = deque([stuck[0]])
    seen = {stuck[0]: 0}
    while True:
        following = next(node for node in needs[walk[-1]] if node in remaining)
        if following in seen:
            return [*list(walk)[seen[following] :], following]
        seen[following] = len(walk)
        walk.append(following)
