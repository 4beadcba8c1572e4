"""What a task requires of an executor, and whether an executor has it."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from taskloom.domain.values import Resources, TaskSpec

ANY_QUEUE: Final = "*"
"""Among an executor's queues: it takes work from all."""

NO_RESOURCES: Final = TaskSpec(kind="").resources
"""The very object that a submission without resources has."""

UNITS: Final = (("cpu_cores", "cores"), ("memory_gb", "GB memory"), ("disk_gb", "GB disk"), ("gpu_memory_gb", "GB GPU"))

Amounts = tuple[float, float, float, float]
"""Resources in the order of ``UNITS``."""


class Requirement(Struct, frozen=True):
    """Tasks with equal requirements wait in one line, so that a line is matched against executors once.

    ``resources`` is empty for a task that asks for none.
    """

    queue: str
    kind: str
    executor_id: str = ""
    capabilities: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    resources: tuple[()] | Amounts = ()


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
    resources: Resources = NO_RESOURCES


def amounts(resources: Resources) -> Amounts:
    return resources.cpu_cores, resources.memory_gb, resources.disk_gb, resources.gpu_memory_gb


def needs_of(spec: TaskSpec) -> tuple[()] | Amounts:
    return () if spec.resources == NO_RESOURCES else amounts(spec.resources)


def requirement_of(spec: TaskSpec) -> Requirement:
    labels = tuple(sorted(spec.labels.items())) if spec.labels else ()
    needs = () if spec.resources is NO_RESOURCES else needs_of(spec)
    return Requirement(spec.queue, spec.kind, spec.executor_id, spec.capabilities, labels, needs)


def mismatches(requirement: Requirement, offer: ExecutorOffer) -> list[str]:
    """Which gates keep this executor from such tasks for good.

    ``executor``, ``queue``, ``kind``, ``capability``, ``label``, and ``resources`` when the whole of what it offers is
    too little.
    """
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
    if requirement.resources and any(
        need > has for need, has in zip(requirement.resources, amounts(offer.resources), strict=True)
    ):
        gates.append("resources")
    return gates


def shown(needs: tuple[()] | Amounts) -> str:
    """``2 cores, 4 GB memory``: what is above zero."""
    return ", ".join(f"{need:g} {unit}" for need, (_, unit) in zip(needs, UNITS, strict=False) if need > 0) or "nothing"
