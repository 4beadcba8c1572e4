"""Settings of the orchestrator."""

from pydantic import Field

from taskloom.settings import ServiceSettings


class OrchestratorSettings(ServiceSettings):
    """Decides commands, writes events, dispatches work."""

    batch_max: int = Field(500, ge=1, le=5000, description="Most commands decided in one round, and most assignments")
    beat_s: float = Field(5.0, gt=0, le=60, description="Seconds between this orchestrator's presence beats")
    lost_after_s: float = Field(20.0, gt=0, le=3600, description="Silence in seconds after which an executor is lost")
    ended_kept: int = Field(20_000, ge=100, description="Lately ended tasks whose state stays in memory")
    snapshot_every: int = Field(200, ge=10, description="Events of a task between two snapshots of its state")
    session_timeout_s: float = Field(
        10.0, ge=1, le=300, description="Seconds after which Kafka gives a silent orchestrator's partitions to others"
    )
