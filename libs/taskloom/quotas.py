"""Quotas as an operator sets them: the same for gateways, which refuse, and orchestrators, which hold."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from taskloom.domain.scheduling.quotas import Quota, SessionQuota
from taskloom.settings import ServiceSettings

Count = Annotated[int, Field(ge=0, le=10**15)]
Money = Annotated[float, Field(ge=0, le=1e12)]
Places = Annotated[int, Field(ge=1, le=1_000_000)]


class SessionQuotaSetting(BaseModel):
    """For each session, over all its life."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: Count | None = None
    cost_usd: Money | None = None
    parallel: Places | None = None


class QuotaSetting(BaseModel):
    """For a tenant; what is left out is without limit. Days and months are those of UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens_per_day: Count | None = None
    cost_usd_per_day: Money | None = None
    tokens_per_month: Count | None = None
    cost_usd_per_month: Money | None = None
    tokens: Count | None = None
    cost_usd: Money | None = None
    parallel: Places | None = None
    open_tasks: Places | None = None
    session: SessionQuotaSetting = SessionQuotaSetting()

    @property
    def quota(self) -> Quota:
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "session"}
        return Quota(**fields, session=SessionQuota(**self.session.model_dump()))


class QuotaSettings(ServiceSettings):
    """Settings of services that know quotas."""

    quotas: dict[str, QuotaSetting] = Field(
        {},
        description=(
            "What tenants may use, as JSON, * for those not named: "
            '{"acme": {"tokens_per_day": 100000, "cost_usd_per_month": 50, "parallel": 20, "open_tasks": 10000, '
            '"session": {"tokens": 20000}}}. The same for gateways and orchestrators'
        ),
    )

    @property
    def quota_of_tenants(self) -> dict[str, Quota]:
        return {tenant: each.quota for tenant, each in self.quotas.items()}
