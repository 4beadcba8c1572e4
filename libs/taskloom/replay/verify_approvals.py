"""Approvals of a task: each row against the fold of the task's stored events."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from taskloom.domain.envelope import Recorded
from taskloom.views.approvals.fold import Approval, fold_all

_decode: Final = msgspec.json.Decoder(Approval).decode


def approval_faults(history: Sequence[Recorded], stored: Sequence[bytes]) -> Mapping[str, tuple[Any, Any]]:
    """What is stored and what should be, by where they differ; empty when all is well."""
    rows = {row.approval_id: row for row in map(_decode, stored)}
    expected = fold_all(history)
    return {
        f"approval {name}": (rows.get(name), expected.get(name))
        for name in sorted({*rows, *expected})
        if rows.get(name) != expected.get(name)
    }
