"""Health by component: what answers, how far the reads are behind, which executors beat; and since when it is so."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from msgspec import Struct

from services.gateway.readside import Views
from taskloom.ops import Readiness
from taskloom.views.executors.query import KINDS_OF_LAST_S, Executor

Status = Literal["healthy", "degraded", "unhealthy"]

BEHIND_S: Final = 2.0
"""A projection further behind than this is degraded; past the admission limit, or unknown, it is unhealthy."""

_CHECKS: Final = {"kafka": "kafka", "database": "postgresql", "orchestrator": "orchestrator"}
_BY_ANOTHER_NAME: Final = {
    "dependency_resolver": "orchestrator",
    "task_scheduler": "orchestrator",
    "task_executor": "executors",
    "workflow_orchestrator": "orchestrator",
}
"""The four components of the task management engine, and what does their work here."""

_WORST: Final[tuple[Status, ...]] = ("unhealthy", "degraded", "healthy")


class Component(Struct, frozen=True):
    """``since``: when this gateway first saw the component in this status without a change. ``detail``: why."""

    status: Status
    since: datetime
    detail: str = ""


class ComponentHealth(Struct, frozen=True):
    """``status`` is that of the worst component."""

    status: Status
    timestamp: datetime
    components: dict[str, Component]


class Finding(Struct, frozen=True):
    status: Status
    detail: str = ""


class ComponentWatch:
    """Looks when asked, and remembers since when each component is as it is."""

    def __init__(
        self,
        readiness: Readiness,
        views: Views,
        lag_ms: Callable[[], float | None],
        *,
        max_lag_s: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._readiness = readiness
        self._views = views
        self._lag_ms = lag_ms
        self._max_lag_s = max_lag_s
        self._clock = clock
        self._seen: dict[str, Component] = {}

    async def report(self) -> ComponentHealth:
        """Never raises: what cannot be asked is unhealthy."""
        _, ready = await self._readiness.report()
        found = {"gateway": Finding("healthy"), **_checked(ready["checks"])}
        found["projection"] = projection(self._lag_ms(), self._max_lag_s)
        found["executors"] = await self._executors()
        for name, what in _BY_ANOTHER_NAME.items():
            found[name] = found.get(what, Finding("unhealthy", f"nobody knows of {what}"))
        at = self._clock()
        self._seen = {name: self._since(name, finding, at) for name, finding in found.items()}
        status = min((each.status for each in found.values()), key=_WORST.index)
        return ComponentHealth(status, at, self._seen)

    async def _executors(self) -> Finding:
        try:
            return executors(await self._views.executors())
        except Exception as fault:  # noqa: BLE001 - whatever it is, the executors are not known
            return Finding("unhealthy", f"unknown: {fault or type(fault).__name__}")

    def _since(self, name: str, finding: Finding, at: datetime) -> Component:
        before = self._seen.get(name)
        since = before.since if before is not None and before.status == finding.status else at
        return Component(finding.status, since, finding.detail)


def projection(lag_ms: float | None, max_lag_s: float) -> Finding:
    """How well the read side follows; ``lag_ms`` None is unknown."""
    if lag_ms is None:
        return Finding("unhealthy", "how far it is behind is unknown")
    behind_s = lag_ms / 1000
    detail = f"{behind_s:.3f} s behind"
    if behind_s > max_lag_s:
        return Finding("unhealthy", f"{detail}; writes are refused above {max_lag_s:g} s")
    return Finding("degraded" if behind_s > BEHIND_S else "healthy", detail)


def executors(found: Sequence[Executor]) -> Finding:
    """Healthy when some are ready and none was lost in the last hour; unhealthy when none is ready."""
    ready = sum(each.status == "ready" for each in found)
    lost = sum(each.status == "lost" and each.seconds_since_heard < KINDS_OF_LAST_S for each in found)
    detail = f"{ready} ready" + (f", {lost} lost within the last hour" if lost else "")
    if not ready:
        return Finding("unhealthy", f"{detail}: nothing runs until one is")
    return Finding("degraded" if lost else "healthy", detail)


def _checked(checks: dict[str, str]) -> dict[str, Finding]:
    return {
        _CHECKS.get(name, name): Finding("healthy" if told == "ok" else "unhealthy", "" if told == "ok" else told)
        for name, told in checks.items()
    }
