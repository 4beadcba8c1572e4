"""How long the read tables keep what has ended."""

from datetime import datetime, timedelta

from msgspec import Struct
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from taskloom.settings import PREFIX

MOST_DAYS = 36_500


class RetentionSettings(BaseSettings):
    """Days that rows are kept, 0 for ever. What has not ended is always kept, and so are the events of all tasks."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", validate_default=True)

    retention_completed_days: float = Field(
        0, ge=0, le=MOST_DAYS, description="Days that lists keep tasks that completed; 0: for ever"
    )
    retention_failed_days: float = Field(
        0, ge=0, le=MOST_DAYS, description="Days that lists keep tasks that failed or were cancelled; 0: for ever"
    )
    retention_output_days: float = Field(
        0, ge=0, le=MOST_DAYS, description="Days that the output of ended tasks is kept; 0: as long as the task"
    )
    retention_traces_days: float = Field(
        0, ge=0, le=MOST_DAYS, description="Days that traces of ended goals are kept; 0: as long as the goal"
    )
    retention_usage_days: float = Field(
        0,
        ge=0,
        le=MOST_DAYS,
        description="Days that usage is kept by hour and day; 0: for ever, as months are",
    )
    retention_metrics_days: float = Field(
        0, ge=0, le=MOST_DAYS, description="Days that metrics are kept by hour; 0: for ever, as their sums are"
    )
    audit_days: float = Field(
        90.0, gt=0, le=MOST_DAYS, description="How long the table of the audit keeps a call, in days"
    )

    def cutoffs(self, now: datetime) -> "Cutoffs":
        """The times before which things are old."""

        def before(days: float) -> datetime | None:
            return now - timedelta(days=days) if days else None

        return Cutoffs(
            before(self.retention_completed_days),
            before(self.retention_failed_days),
            before(self.retention_output_days),
            before(self.retention_traces_days),
            before(self.retention_usage_days),
            before(self.retention_metrics_days),
            before(self.audit_days),
        )

    @property
    def retires(self) -> bool:
        """Whether anything is kept for a while only, besides the audit."""
        names = ("completed", "failed", "output", "traces", "usage", "metrics")
        return any(getattr(self, f"retention_{name}_days") for name in names)


class Cutoffs(Struct, frozen=True):
    """What ended before is old; None: nothing is. ``audit`` is of calls."""

    completed: datetime | None = None
    failed: datetime | None = None
    output: datetime | None = None
    traces: datetime | None = None
    usage: datetime | None = None
    metrics: datetime | None = None
    audit: datetime | None = None
