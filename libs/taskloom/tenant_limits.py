"""The limits of all tenants as they are now: those of the settings, and what was changed on top while the system ran.

Every gateway and orchestrator follows the table ``tenant_limits`` once a second. Who reads asks for what was written
since the oldest transaction that was under way at the read before: so a change that was committed late is not missed,
and most reads find nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Final, LiteralString, NamedTuple

import msgspec

from taskloom.domain.scheduling.overrides import Overrides, overlaid
from taskloom.domain.scheduling.quotas import Quota, quota_of

LOOK_EVERY_S: Final = 1.0
FROM_THE_BEGINNING: Final = "0"

FOLLOW: Final[LiteralString] = """
SELECT pg_snapshot_xmin(s.now)::text, l.tenant_id, l.overrides
FROM (SELECT pg_current_snapshot() AS now) AS s
LEFT JOIN tenant_limits AS l ON l.changed_in >= %s::text::xid8
"""
"""One row at least; without a tenant when nothing was written. ``overrides`` null: the settings hold again."""


class LimitsRow(NamedTuple):
    """A tenant's limits as of ``version``; ``overrides`` is JSON, None where the settings hold."""

    tenant_id: str
    version: int
    overrides: bytes | None


class LimitsBook:
    """``defaults``: quotas of the settings, by tenant."""

    def __init__(self, defaults: Mapping[str, Quota]) -> None:
        self._defaults = defaults
        self._overrides: dict[str, Overrides] = {}
        self.quotas: dict[str, Quota] = dict(defaults)
        """What holds now, by tenant; ``*`` for those not named."""
        self.since = FROM_THE_BEGINNING
        """What the next read asks for."""

    def of(self, tenant_id: str) -> Overrides | None:
        """What was changed for the tenant; None: nothing."""
        return self._overrides.get(tenant_id)

    def learn(self, rows: Iterable[tuple[str, str | None, bytes | None]]) -> list[str]:
        """The tenants for whom something else holds now, after a read of ``FOLLOW``."""
        changed = []
        for since, tenant_id, stored in rows:
            self.since = since
            if tenant_id is None:
                continue
            overrides = None if stored is None else _decode(bytes(stored))
            if overrides != self._overrides.get(tenant_id):
                self._put(tenant_id, overrides)
                changed.append(tenant_id)
        return changed

    def _put(self, tenant_id: str, overrides: Overrides | None) -> None:
        # Another dict, so that who iterates over the one before is not disturbed.
        quotas, default = dict(self.quotas), self._defaults.get(tenant_id)
        if overrides is not None:
            self._overrides[tenant_id] = overrides
            quotas[tenant_id] = overlaid(quota_of(self._defaults, tenant_id), overrides)
        else:
            self._overrides.pop(tenant_id, None)
            quotas.pop(tenant_id, None)
            if default is not None:
                quotas[tenant_id] = default
        self.quotas = quotas


_decode = msgspec.json.Decoder(Overrides).decode
