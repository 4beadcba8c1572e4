"""What a task requires of an executor, and whether an executor has it."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from taskloom.domain.values import Resources, TaskSpec

DEFAULT_QUEUE: Final = TaskSpec(kind="").queue
"""Where tasks wait that name no queue."""

ANY_QUEUE: Final = "*"
"""Among an executor's queues: it takes work from all."""

NO_RESOURCES: Final = TaskSpec(kind="").resources
"""The very object that a submission without resources has."""

UNITS: Final = (("cpu_cores", "cores"), ("memory_gb", "GB memory"), ("disk_gb", "GB disk"), ("gpu_memory_gb", "GB GPU"))

Amounts = tuple[float, float, float, float]
"""Resources in the order of ``UNITS``."""


class Requirement(Struct, frozen=True):
    """Tasks with equal requirements wait in one line, so that a line is matched against executors once.

    ``resources`` is empty for a task that asks for none. ``tenant_id`` is set where an agent of the tenant may run it:
    of tasks that ask for something, an executor, a queue of their own, a capability or a label.
    """

    queue: str
    kind: str
    executor_id: str = ""
    capabilities: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    resources: tuple[()] | Amounts = ()
    tenant_id: str = ""


class ExecutorOffer(Struct, frozen=True):
    """What an executor announces. ``slots`` attempts run at once there, ``prefetch`` more may wait.

    ``tenant_id`` and ``agent_id``: of an agent, whose tasks alone it runs, and what it is called there. ``epoch``: of
    its link.
    """

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
    tenant_id: str = ""
    agent_id: str = ""
    epoch: int = 0

    def is_called(self, name: str) -> bool:
        return name in (self.executor_id, self.agent_id)


def amounts(resources: Resources) -> Amounts:
    return resources.cpu_cores, resources.memory_gb, resources.disk_gb, resources.gpu_memory_gb


def needs_of(spec: TaskSpec) -> tuple[()] | Amounts:
    return () if spec.resources == NO_RESOURCES else amounts(spec.resources)


def requirement_of(spec: TaskSpec) -> Requirement:
    labels = tuple(sorted(spec.labels.items())) if spec.labels else ()
    needs = () if spec.resources is NO_RESOURCES else needs_of(spec)
    asks = spec.executor_id or spec.capabilities or labels or spec.queue != DEFAULT_QUEUE
    tenant_id = spec.tenant_id if asks else ""
    return Requirement(spec.queue, spec.kind, spec.executor_id, spec.capabilities, labels, needs, tenant_id)


def mismatches(requirement: Requirement, offer: ExecutorOffer) -> list[str]:
    """Which gates keep this executor from such tasks for good.

    ``executor``, ``agent`` (it is one, and of another tenant, or the task asks for nothing), ``queue``, ``kind``,
    ``capability``, ``label``, and ``resources`` when the whole of what it offers is too little.
    """
    gates = []
    if requirement.executor_id and not offer.is_called(requirement.executor_id):
        gates.append("executor")
    if offer.tenant_id and offer.tenant_id != requirement.tenant_id:
        gates.append("agent")
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
