"""Settings of the projection."""

from pydantic import Field

from taskloom.retention.settings import RetentionSettings
from taskloom.settings import ServiceSettings


class ProjectionSettings(ServiceSettings, RetentionSettings):
    """What the projection needs beyond what every service has."""

    projection_batch_records: int = Field(
        2_000, ge=1, le=20_000, description="Most Kafka records of one transaction; more wait in Kafka"
    )
    projection_cached_rows: int = Field(
        20_000, ge=0, le=1_000_000, description="Rows of open tasks kept in memory; what falls out is read again"
    )
    projection_poll_ms: int = Field(
        200, ge=1, le=5_000, description="Longest wait for records in milliseconds, and so for noticing a stop"
    )
    projection_gather_ms: int = Field(
        40,
        ge=0,
        le=1_000,
        description="Milliseconds that records gather after a full batch, so that a row is written once",
    )
    projection_retry_max_s: float = Field(
        5.0, gt=0, le=60, description="Longest pause in seconds between tries while PostgreSQL or Kafka is away"
    )
    retention_every_s: float = Field(
        3_600.0, ge=1, le=7 * 86_400, description="Seconds between two sweeps of retention, where something is set"
    )
