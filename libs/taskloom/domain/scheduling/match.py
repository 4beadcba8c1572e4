"""What a task requires of an executor, and whether an executor has it."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from taskloom.domain.values import TaskSpec

ANY_QUEUE: Final = "*"
"""Among an executor's queues: it takes work from all."""


class Requirement(Struct, frozen=True):
    """Tasks with equal requirements wait in one line, so that a line is matched against executors once."""

    queue: str
    kind: str
    executor_id: str = ""
    capabilities: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


class ExecutorOffer(Struct, frozen=True):
    """What an executor announces. ``slots`` attempts run at once there, ``prefetch`` more may wait."""

    executor_id: str
    incarnation: str
    kinds: frozenset[str]
    queues: frozenset[str]
    capabilities: frozenset[str] = frozenset()
    labels: Mapping[str, str] = {}
    slots: int = 1
    prefetch: int = 0
    ready: bool = True


def requirement_of(spec: TaskSpec) -> Requirement:
    labels = tuple(sorted(spec.labels.items())) if spec.labels else ()
    return Requirement(spec.queue, spec.kind, spec.executor_id, spec.capabilities, labels)


def mismatches(requirement: Requirement, offer: ExecutorOffer) -> list[str]:
    """Which gates keep this executor from such tasks: ``executor``, ``queue``, ``kind``, ``capability``, ``label``."""
    gates = []
    if requirement.executor_id and requirement.executor_id != offer.executor_id:
        gates.append("executor")
    if requirement.queue not in offer.queues and ANY_QUEUE not in offer.queues:
        gates.append("queue")
    if requirement.kind not in offer.kinds:
        gates.append("kind")
    if not offer.capabilities.issuperset(requirement.capabilities):
        gates.append("capability")
    if any(offer.labels.get(name) != value for name, value in requirement.labels):
        gates.append("label")
    return gates
