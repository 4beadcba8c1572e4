"""What retention found or took away, by kind of row."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

KINDS: Final = {
    "tasks": "ended tasks",
    "approvals": "approvals of these",
    "steps": "steps of their runs",
    "variables": "variables of their runs",
    "goals": "goals and their steps",
    "traces": "traces of goals",
    "outputs": "pieces of output",
    "usage": "usage by hour and day",
    "metrics": "metrics by hour",
    "audit": "audited calls",
}


class Count(Struct):
    """``bytes``: of output alone."""

    rows: int = 0
    bytes: int = 0


class Found(Struct):
    """By tenant and kind of row. ``held_back``: old runs left as they are, since a task of theirs is open or in use."""

    counts: dict[tuple[str, str], Count] = field(default_factory=dict)
    held_back: int = 0

    def add(self, tenant_id: str, kind: str, rows: int, size: int = 0) -> None:
        if rows:
            count = self.counts.setdefault((tenant_id, kind), Count())
            count.rows += rows
            count.bytes += size

    def of(self, kind: str) -> Count:
        """Over all tenants."""
        counts = [count for (_, named), count in self.counts.items() if named == kind]
        return Count(sum(count.rows for count in counts), sum(count.bytes for count in counts))

    @property
    def tenants(self) -> Iterable[str]:
        return sorted({tenant_id for tenant_id, _ in self.counts})

    @property
    def rows(self) -> int:
        return sum(count.rows for count in self.counts.values())
