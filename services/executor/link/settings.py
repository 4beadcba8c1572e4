"""Settings of an agent: those of an executor, and how it reaches a gateway."""

import tempfile

from pydantic import Field, SecretStr, field_validator

from services.executor.settings import ExecutorSettings, Names
from taskloom.domain.agents import is_agent_id


class AgentSettings(ExecutorSettings):
    """``executor_id`` is the agent's id; Kafka and PostgreSQL are not used."""

    gateway_urls: Names = Field(
        ("http://127.0.0.1:8080",), min_length=1, description="Gateways, comma-separated; tried in turn"
    )
    agent_token: SecretStr = Field(SecretStr(""), description="The agent's token, as it was shown when it was enrolled")
    link_ping_s: float = Field(5.0, gt=0, le=60, description="Seconds between two pings of the gateway")
    link_silent_s: float = Field(
        10.0, gt=0, le=120, description="Seconds without an answer to a ping after which the link is given up"
    )
    reconnect_first_s: float = Field(
        0.25, gt=0, le=60, description="Longest pause before the first try to connect again; doubles, and is jittered"
    )
    reconnect_most_s: float = Field(15.0, gt=0, le=600, description="Longest such pause, in seconds")
    spill_mb: int = Field(
        1024, ge=1, le=1_000_000, description="Output kept on disk while there is no link, MiB; then writers wait"
    )
    spill_dir: str = Field(default_factory=tempfile.gettempdir, description="Directory of the file with that output")

    @field_validator("gateway_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("gateway_urls")
    @classmethod
    def _are_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is no address: it begins with http:// or https://")
        return tuple(url.rstrip("/") for url in value)

    @field_validator("executor_id")
    @classmethod
    def _executor_id_is_an_agents(cls, value: str) -> str:
        if not is_agent_id(value):
            raise ValueError("an agent's id has 1 to 64 of A-Z a-z 0-9 _ - .")
        return value

    @property
    def has_database(self) -> bool:
        return False
