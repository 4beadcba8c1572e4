"""Secrets that an attempt names, looked up for its tenant."""

from typing import Protocol

from taskloom.domain.task.directives import RunAttempt
from taskloom.kinds.api import TaskError
from taskloom.secrets import Unreadable, Vault
from taskloom.store.errors import StoreUnavailable


class SealedSecrets(Protocol):
    """The part of ``taskloom.store.secrets.SecretTable`` that is used here."""

    async def find(self, tenant_id: str, names: list[str]) -> dict[str, bytes]: ...


class SecretSource(Protocol):
    """Where an attempt's secrets come from: ``Secrets``, or over the link of an agent (``link/secrets.py``)."""

    async def find(self, order: RunAttempt, names: set[str]) -> dict[str, str]:
        """Values by name, for the attempt of this order.

        Raises:
            TaskError: they cannot be had, all or one of them.
        """
        ...


class Secrets:
    """Opens them here, from the table."""

    def __init__(self, vault: Vault | None = None, table: SealedSecrets | None = None) -> None:
        self._vault = vault
        self._table = table

    async def find(self, order: RunAttempt, names: set[str]) -> dict[str, str]:
        return await self.of_tenant(order.tenant_id, names)

    async def of_tenant(self, tenant_id: str, names: set[str]) -> dict[str, str]:
        """Values by name.

        Raises:
            TaskError: one is missing or cannot be opened, or there are none here (``secret_missing``, not retryable);
                the table is away (``secret_unavailable``, retryable).
        """
        if self._vault is None or self._table is None:
            message = "this executor has no secrets: TASKLOOM_SECRETS_KEY is not set"
            raise TaskError("secret_missing", message, retryable=False)
        try:
            sealed = await self._table.find(tenant_id, sorted(names))
        except StoreUnavailable as error:
            raise TaskError("secret_unavailable", str(error), fault=True) from error
        if missing := sorted(names - sealed.keys()):
            message = f"there is no secret {', '.join(missing)}; put it with PUT /api/v1/secrets/NAME"
            raise TaskError("secret_missing", message, retryable=False, details={"secrets": missing})
        try:
            return {name: self._vault.open(tenant_id, name, each) for name, each in sealed.items()}
        except Unreadable as error:
            raise TaskError("secret_missing", str(error), retryable=False) from error
