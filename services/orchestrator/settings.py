"""Settings of the orchestrator."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from taskloom.domain.scheduling.policy import Policy, Rate
from taskloom.quotas import QuotaSettings
from taskloom.rules import RuleSettings

Positive = Annotated[float, Field(gt=0, le=1e6)]
Places = Annotated[int, Field(ge=1, le=1_000_000)]


class RateSetting(BaseModel):
    """Tasks a second, and how many may start at once after a quiet time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_s: Positive
    burst: Positive = 1.0


class OrchestratorSettings(QuotaSettings, RuleSettings):
    """Decides commands, writes events, dispatches work."""

    batch_max: int = Field(500, ge=1, le=5000, description="Most commands decided in one round, and most assignments")
    gather_ms: int = Field(
        20, ge=0, le=1_000, description="Milliseconds that commands gather after a full round, so that rounds are fewer"
    )
    beat_s: float = Field(5.0, gt=0, le=60, description="Seconds between this orchestrator's presence beats")
    lost_after_s: float = Field(20.0, gt=0, le=3600, description="Silence in seconds after which an executor is lost")
    ended_kept: int = Field(20_000, ge=100, description="Lately ended tasks whose state stays in memory")
    snapshot_every: int = Field(200, ge=10, description="Events of a task between two snapshots of its state")
    session_timeout_s: float = Field(
        10.0, ge=1, le=300, description="Seconds after which Kafka gives a silent orchestrator's partitions to others"
    )
    ageing_step_s: float = Field(
        600.0, gt=0, le=1e9, description="Seconds of waiting that lift a task by one priority step"
    )
    deadline_boost_1h: int = Field(10, ge=0, le=100, description="Priority steps that a deadline within 1 hour adds")
    deadline_boost_24h: int = Field(5, ge=0, le=100, description="Priority steps that a deadline within 24 hours adds")
    tenant_weights: dict[str, Annotated[float, Field(ge=0.01, le=100)]] = Field(
        {}, description='Turns of a tenant for each turn of one not named, as JSON: {"acme": 3}'
    )
    queue_rates: dict[str, Positive | RateSetting] = Field(
        {}, description='Most starts a second by queue, as JSON: {"default": 10, "mail": {"per_s": 2, "burst": 20}}'
    )
    kind_rates: dict[str, Positive | RateSetting] = Field(
        {}, description='Most starts a second by kind, as JSON: {"http": 10}'
    )
    queue_parallel: dict[str, Places] = Field(
        {}, description='Most attempts of a queue at once, as JSON: {"reports": 3}'
    )
    rebalance_max: int = Field(
        100,
        ge=0,
        le=10_000,
        description="Most attempts called back from full executors' reserves when an executor joins; 0: none",
    )
    breaker_failures: int = Field(
        20, ge=1, le=10_000, description="Different tasks in a row that crash, time out or are lost before a kind rests"
    )
    breaker_pause_s: float = Field(5.0, gt=0, le=86_400, description="Seconds of that rest, then one task is tried")
    quarantine_losses: int = Field(
        3, ge=1, le=10_000, description="Times in a row that an executor loses attempts before it gets none"
    )
    quarantine_pause_s: float = Field(
        60.0, gt=0, le=86_400, description="Seconds until it gets work again, unless it is started anew before"
    )

    @property
    def policy(self) -> Policy:
        """What of this the scheduler goes by."""
        return Policy(
            ageing_step_s=self.ageing_step_s,
            boost_hour=self.deadline_boost_1h,
            boost_day=self.deadline_boost_24h,
            weights=self.tenant_weights,
            queue_rates={name: _rate(value) for name, value in self.queue_rates.items()},
            kind_rates={name: _rate(value) for name, value in self.kind_rates.items()},
            queue_parallel=self.queue_parallel,
            quotas=self.quota_of_tenants,
            breaker_failures=self.breaker_failures,
            breaker_pause_s=self.breaker_pause_s,
            quarantine_losses=self.quarantine_losses,
            quarantine_pause_s=self.quarantine_pause_s,
        )


def _rate(value: float | RateSetting) -> Rate:
    """A plain number lets as many go at once as go in a second."""
    return Rate(value.per_s, value.burst) if isinstance(value, RateSetting) else Rate(value, max(1.0, value))
