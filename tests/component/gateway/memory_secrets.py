"""The table of sealed secrets, in memory."""

from datetime import UTC, datetime

from taskloom.store.secrets import SecretRow


class MemorySecrets:
    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[bytes, datetime, datetime]] = {}

    async def put(self, tenant_id: str, name: str, sealed: bytes) -> SecretRow:
        now = datetime.now(UTC)
        _, created_at, _ = self.rows.get((tenant_id, name), (b"", now, now))
        self.rows[tenant_id, name] = (sealed, created_at, now)
        return SecretRow(name, created_at, now)

    async def remove(self, tenant_id: str, name: str) -> bool:
        return self.rows.pop((tenant_id, name), None) is not None

    async def page(self, tenant_id: str, after: str, limit: int) -> tuple[list[SecretRow], int]:
        own = {name: row[1:] for (tenant, name), row in sorted(self.rows.items()) if tenant == tenant_id}
        return [SecretRow(name, *times) for name, times in own.items() if name > after][:limit], len(own)

    async def find(self, tenant_id: str, names: list[str]) -> dict[str, bytes]:
        return {name: self.rows[tenant_id, name][0] for name in names if (tenant_id, name) in self.rows}
