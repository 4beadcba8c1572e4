"""Settings of the gateway."""

from pydantic import Field

from taskloom.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """The gateway's own door, limits and waits; ``ops_port`` is not used: /health and the rest are on the HTTP port."""

    host: str = Field(
        "127.0.0.1", description="Address of the HTTP API; another than loopback needs TASKLOOM_ALLOW_OPEN"
    )
    http_port: int = Field(8080, ge=0, le=65_535, description="Port of the HTTP API; 0 takes any free one and logs it")
    allow_open: bool = Field(
        False, description="Serve other machines although there are no keys: whoever reaches the port may run commands"
    )
    cors_origins: str = Field(
        "",
        description="Origins of web pages that may use the API, comma-separated, * for all; loopback pages always may",
    )
    max_body_bytes: int = Field(
        40 * 1024 * 1024, ge=1024, le=1024**3, description="Largest request body in bytes; larger is 413"
    )
    max_bodies_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="Bytes of request bodies over 64 KiB in memory at once; more is 503 with Retry-After",
    )
    max_requests: int = Field(
        1000, ge=1, le=100_000, description="Requests in work at once, streams apart; more is 503 with Retry-After"
    )
    max_streams: int = Field(
        1000, ge=1, le=100_000, description="Open event streams at once; more is 503 with Retry-After"
    )
    stream_buffer: int = Field(
        1000,
        ge=10,
        le=100_000,
        description="Records kept for a slow reader of a stream; when full it goes back to reading the store",
    )
    max_schedules: int = Field(
        1000, ge=1, le=10_000, description="Schedules that a tenant may have; one more is answered 429"
    )
    ping_interval_s: float = Field(
        10.0, gt=0, le=60, description="Silence on a stream after which a comment is sent, in seconds"
    )
    reply_timeout_s: float = Field(
        2.0,
        gt=0,
        le=30,
        description="Longest wait for the orchestrator by control calls and submissions with an own id, in seconds",
    )
    read_wait_s: float = Field(
        2.0, ge=0, le=30, description="How long a read of something just accepted waits for the projection, in seconds"
    )
    max_lag_s: float = Field(
        60.0, gt=0, description="Lag of the read side in seconds above which submissions are answered 429"
    )
    max_pool: int = Field(
        8,
        ge=1,
        le=100,
        description="PostgreSQL connections for reads of the views; as many again at most for the event store",
    )

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(origin.strip() for origin in self.cors_origins.split(",") if origin.strip())
