"""Settings of `taskloom up`: what runs embedded, how many of each service, where the data lie."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from taskloom.settings import PREFIX


class LocalSettings(BaseSettings):
    """The supervisor's own settings; the services read the same environment and get what is decided here on top."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", validate_default=True)

    http_port: int = Field(8080, ge=0, le=65_535, description="Port of the HTTP API; 0 takes any free one")
    host: str = Field("127.0.0.1", min_length=1, description="Address of the HTTP API")
    home: Path = Field(Path(".taskloom"), description="Directory of all data and logs; survives restarts")
    cache_dir: Path | None = Field(
        None,
        description="Directory of Kafka's jars, for all homes; default $XDG_CACHE_HOME/taskloom or ~/.cache/taskloom",
    )

    kafka_bootstrap: str = Field(
        "", description="External Kafka as host:port, comma-separated; empty runs the embedded broker"
    )
    database_dsn: str = Field(
        "", description="External PostgreSQL as libpq's URI or key=value text; empty runs the embedded server"
    )
    kafka_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port of the embedded broker; 0 keeps the one of the last run if free, else takes a free one",
    )
    kafka_heap_mib: int = Field(512, ge=128, le=65_536, description="Java heap of the embedded broker at most, in MiB")
    topic_prefix: str = Field("taskloom", description="First part of every topic's and consumer group's name")
    partitions: int = Field(
        8, ge=1, le=64, description="Partitions of each topic; divides 64; fixed once the topics exist"
    )

    shards: int = Field(2, ge=1, le=64, description="Event tables, each with one writer; divides the partitions")

    orchestrators: int = Field(1, ge=0, le=16, description="Orchestrator processes")
    executors: int = Field(1, ge=0, le=64, description="Executor processes")
    projections: int = Field(1, ge=0, le=16, description="Projection processes")

    agents: str = Field(
        "",
        description="Agents to run beside the services, comma-separated ids, or ID=TOKEN; agent1 and agent2 need no "
        "token in open mode",
    )

    start_timeout_s: float = Field(
        90.0, gt=0, le=3600, description="Longest start of the whole system in seconds, jars apart"
    )
    stop_timeout_s: float = Field(
        14.0, ge=2, le=600, description="Longest stop of the whole system in seconds; what is left then is killed"
    )
    restart_backoff_s: float = Field(
        0.5, gt=0, le=60, description="Pause before a child that died is started again, in seconds; doubles each time"
    )
    restart_backoff_cap_s: float = Field(
        10.0, gt=0, le=600, description="Longest such pause in seconds; a child that ran 30 s starts from the short one"
    )
    log_file_bytes: int = Field(
        10 * 1024 * 1024,
        ge=65_536,
        description="Size in bytes at which a child's log file is rotated; two old ones are kept",
    )
