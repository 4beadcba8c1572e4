"""Settings of the gateway."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from services.gateway.account_settings import AccountSettings
from services.gateway.chat.settings import ChatSettings
from services.gateway.rate_windows import Plan
from services.gateway.throttle import Plans
from taskloom.filestore import FilesSettings
from taskloom.rules import RuleSettings
from taskloom.secrets import SecretsSettings
from taskloom.settings import checked_key

KEYS_PER_MINUTE = 600
KEYS_PER_HOUR = 20_000
PUBLIC_PLANS = {
    "POST /api/v1/auth/register": Plan(minute=30),
    "POST /api/v1/auth/refresh": Plan(minute=60),
}
"""For who is nobody yet, by address."""

Requests = Annotated[int, Field(ge=1, le=10**9)]


class PlanSetting(BaseModel):
    """Requests in a minute, an hour and a day; what is left out is without limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minute: Requests | None = None
    hour: Requests | None = None
    day: Requests | None = None

    @property
    def plan(self) -> Plan:
        return Plan(self.minute, self.hour, self.day)


TIERS = {
    "free": PlanSetting(minute=60, hour=1_000, day=10_000),
    "pro": PlanSetting(minute=200, hour=5_000, day=50_000),
    "max": PlanSetting(minute=300, hour=10_000, day=100_000),
    "enterprise": PlanSetting(minute=500, hour=20_000, day=200_000),
    "admin": PlanSetting(minute=1_000, hour=100_000, day=1_000_000),
}
"""Shannon's."""


class GatewaySettings(AccountSettings, ChatSettings, RuleSettings, SecretsSettings, FilesSettings):
    """The gateway's own door, limits and waits; ``ops_port`` is not used: /health and the rest are on the HTTP port."""

    host: str = Field(
        "127.0.0.1", description="Address of the HTTP API; another than loopback needs TASKLOOM_AUTH=keys"
    )
    http_port: int = Field(8080, ge=0, le=65_535, description="Port of the HTTP API; 0 takes any free one and logs it")
    auth: Literal["open", "keys"] = Field(
        "open",
        description="open: everybody may do everything, on loopback alone; keys: an API key or a token is needed",
    )
    allow_open: bool = Field(
        False, description="Serve other machines in open mode too: whoever reaches the port may run commands"
    )
    key_cache_s: float = Field(
        5.0, ge=0, le=300, description="How long a key is believed without a look into the table, in seconds"
    )
    jwt_secret: SecretStr = Field(
        SecretStr(""), description="Secret of at least 32 characters that tokens (HS256) are signed with; empty: none"
    )
    jwt_issuer: str = Field("shannon-platform", min_length=1, description="The claim iss that tokens must have")
    jwt_jwks: str = Field(
        "",
        description="File or https URL with the public keys (JWKS) of an issuer whose tokens (RS256, ES256) are taken; "
        "empty: none",
    )
    jwt_jwks_issuer: str = Field("", description="The claim iss of these tokens; empty: as TASKLOOM_JWT_ISSUER")
    jwt_jwks_audience: str = Field("", description="The claim aud that they must have; empty: they must have none")
    jwt_jwks_cache_s: float = Field(
        300.0, ge=1, le=86_400, description="How long an issuer's keys are believed without another look, in seconds"
    )
    jwt_lifetime_s: float = Field(
        3600.0, ge=60, le=86_400, description="How long a token that the gateway makes is good, in seconds"
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
        4000, ge=1, le=100_000, description="Open event streams at once; more is 503 with Retry-After"
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
    rate_per_minute: int | None = Field(
        None,
        ge=0,
        description=(
            "Requests in a minute by each API key, or user where there are no keys; 0: no limit. Unset: "
            f"{KEYS_PER_MINUTE} with keys, none without"
        ),
    )
    rate_per_hour: int | None = Field(
        None, ge=0, description=f"The same in an hour. Unset: {KEYS_PER_HOUR} with keys, none without"
    )
    rate_per_day: int | None = Field(None, ge=0, description="The same in a day. Unset: none")
    rate_routes: dict[str, PlanSetting] = Field(
        {},
        description='Routes with a limit of their own, counted apart, as JSON: {"POST /api/v1/tasks": {"minute": 60}}',
    )
    rate_callers: dict[str, PlanSetting] = Field(
        {}, description='Keys, or users without one, with a limit of their own, by id, as JSON: {"ann": {"minute": 5}}'
    )
    rate_tiers: dict[str, PlanSetting] = Field(
        dict(TIERS), description="Plans of requests by name, as JSON, that PUT /api/v1/quotas can give to a tenant"
    )
    rate_on_outage: Literal["open", "closed"] = Field(
        "open", description="What becomes of requests while PostgreSQL cannot count them: open passes, closed is 503"
    )
    answers_kept_s: float = Field(
        86_400,
        ge=0,
        le=30 * 86_400,
        description="Seconds for which the first answer to an Idempotency-Key is kept; 0: answers are made anew",
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
    artifacts_dir: str = Field(
        "",
        description="Directory with the files of sessions, each in <tenant>/<session>; empty: there are none to list",
    )
    nodelink_keep_s: float = Field(
        1800.0,
        ge=1800,
        description="Seconds for which ended tasks stay in GET /tasks and GET /agents/{id}/tasks at least; under their "
        "ids they stay for good",
    )
    nodelink_sweep_s: float = Field(
        300.0, ge=1, le=86_400, description="Time between two sweeps of these lists, in seconds"
    )
    webhook_key: SecretStr = Field(
        SecretStr(""),
        description="Key that webhook secrets follow from, the same in gateways and executors, 32 characters or more, "
        "without it webhooks are answered 503",
    )
    max_pool: int = Field(
        8,
        ge=1,
        le=100,
        description="PostgreSQL connections for reads of the views; as many again at most for the event store",
    )

    max_agents: int = Field(
        1000, ge=1, le=20_000, description="Agents that this gateway holds links of; one more is answered 503"
    )
    max_own_pool: int = Field(
        4, ge=1, le=100, description="PostgreSQL connections for rate limits and first answers, apart from the reads'"
    )

    @property
    def plans(self) -> Plans:
        """Who may send how many requests."""
        keys = self.asks_for_keys
        usual = Plan(
            _limit(self.rate_per_minute, KEYS_PER_MINUTE if keys else None),
            _limit(self.rate_per_hour, KEYS_PER_HOUR if keys else None),
            _limit(self.rate_per_day, None),
        )
        of_callers = {name: each.plan for name, each in self.rate_callers.items()}
        routes = {name: each.plan for name, each in self.rate_routes.items()}
        tiers = {name: each.plan for name, each in self.rate_tiers.items()}
        of_addresses = PUBLIC_PLANS if self.sign_in_providers else {}
        return Plans(usual, of_callers, routes, of_addresses=of_addresses, tiers=tiers)

    @model_validator(mode="after")
    def _sign_in_has_what_it_needs(self) -> Self:
        if self.sign_in_providers and not self.asks_for_keys:
            raise ValueError("TASKLOOM_SIGN_IN_PROVIDERS needs TASKLOOM_AUTH=keys: open mode asks nobody who they are")
        if self.sign_in_providers and not self.jwt_secret.get_secret_value():
            raise ValueError("TASKLOOM_SIGN_IN_PROVIDERS needs TASKLOOM_JWT_SECRET: access tokens are signed with it")
        return self

    @field_validator("jwt_secret")
    @classmethod
    def _secret_is_long(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and len(value.get_secret_value()) < 32:
            raise ValueError("must have at least 32 characters, for example those of `openssl rand -hex 32`")
        return value

    @property
    def asks_for_keys(self) -> bool:
        return self.auth == "keys"

    @field_validator("webhook_key")
    @classmethod
    def _webhook_key_is_long(cls, value: SecretStr) -> SecretStr:
        return checked_key(value)

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(origin.strip() for origin in self.cors_origins.split(",") if origin.strip())


def _limit(set_to: int | None, usual: int | None) -> int | None:
    return usual if set_to is None else set_to or None
