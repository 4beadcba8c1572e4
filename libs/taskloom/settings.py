"""Settings that every service has. Each comes from the environment as ``TASKLOOM_<FIELD>``; services subclass this."""

import os
import re
import socket
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from taskloom.domain.ids import is_valid_id
from taskloom.errors import TaskloomError
from taskloom.wire.topics import SLOTS

PREFIX: Final = "TASKLOOM_"


MIN_KEY_CHARS = 32


_SECRET: Final = re.compile(r"(secret|password|_key)$", re.IGNORECASE)


class SettingsError(TaskloomError):
    """A setting is wrong."""


def _default_instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def _otlp_from_environment() -> str:
    return os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")


class ServiceSettings(BaseSettings):
    """What a service needs to find Kafka and PostgreSQL, to be watched, and to start and stop in bounded time."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", validate_default=True)

    kafka_bootstrap: str = Field(
        "127.0.0.1:9092", min_length=1, description="Kafka brokers, host:port, comma-separated"
    )
    database_dsn: str = Field(
        "postgresql://127.0.0.1:5432/taskloom", description="PostgreSQL, as libpq's URI or key=value text"
    )
    topic_prefix: str = Field(
        "taskloom",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="First part of every topic's and consumer group's name",
    )
    partitions: int = Field(
        8, ge=1, le=SLOTS, description=f"Partitions of each topic; divides {SLOTS}; fixed once the topics exist"
    )
    shards: int = Field(2, ge=1, le=SLOTS, description="Event tables, each with one writer; divides the partitions")
    instance: str = Field(
        default_factory=_default_instance,
        description="Name of this process in logs, traces and Kafka; unique among running ones",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged")
    log_format: Literal["json", "console"] = Field("json", description="json: one object a line; console: for people")
    ops_host: str = Field("127.0.0.1", description="Address for /health, /readiness and /metrics")
    ops_port: int = Field(
        0, ge=0, le=65_535, description="Port for /health, /readiness and /metrics; 0 takes any free one and logs it"
    )
    otlp_endpoint: str = Field(
        default_factory=_otlp_from_environment,
        description="OTLP/HTTP base URL that traces go to, for example http://127.0.0.1:4318; empty turns tracing off "
        "(default: OTEL_EXPORTER_OTLP_ENDPOINT)",
    )
    startup_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="Longest start-up in seconds; the process then fails with the reason"
    )
    drain_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest drain after SIGTERM in seconds; work that is not done then is cut off"
    )

    @field_validator("instance")
    @classmethod
    def _instance_is_an_id(cls, value: str) -> str:
        if not is_valid_id(value):
            raise ValueError("must be 1 to 128 of A-Z a-z 0-9 : _ - .")
        return value

    @model_validator(mode="after")
    def _slots_divide_evenly(self) -> Self:
        if SLOTS % self.partitions:
            raise ValueError(f"{PREFIX}PARTITIONS={self.partitions} must divide {SLOTS}: take 1, 2, 4, 8, 16, 32 or 64")
        if self.partitions % self.shards:
            raise ValueError(f"{PREFIX}SHARDS={self.shards} must divide {PREFIX}PARTITIONS={self.partitions}")
        return self


def checked_key(value: SecretStr) -> SecretStr:
    """A key that is absent or long enough.

    Raises:
        ValueError: it is short.
    """
    if 0 < len(value.get_secret_value()) < MIN_KEY_CHARS:
        raise ValueError(f"must have {MIN_KEY_CHARS} characters or more")
    return value


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S], **overrides: Any) -> S:
    """Settings from the environment; ``overrides`` win.

    Raises:
        SettingsError: names each faulty variable, what it holds and what is wrong with it.
    """
    try:
        return settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(fault, settings) for fault in error.errors())) from error


def _explain(fault: Any, settings: type[BaseSettings]) -> str:
    reason = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return reason
    field = settings.model_fields.get(str(fault["loc"][0]))
    place = ".".join(map(str, fault["loc"]))
    hidden = field is not None and field.annotation is SecretStr
    value = "(not shown)" if hidden else repr(_shown(fault["input"], place))
    return f"{PREFIX}{place.upper()}={value}: {reason}"


def _shown(value: Any, name: str) -> Any:
    """The value without what nobody should read in a log."""
    if isinstance(value, dict):
        return {key: _shown(each, str(key)) for key, each in value.items()}
    return "(not shown)" if _SECRET.search(name) and value else value
