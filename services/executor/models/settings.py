"""Settings of the models that an executor may ask."""

from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from taskloom.settings import ServiceSettings

PROVIDERS: Final = ("openai", "anthropic", "google", "compatible")
Models = Annotated[tuple[str, ...], NoDecode]
_MODEL: Final = r"^(|offline|(openai|anthropic|google|compatible):[^\s,]{1,200})$"
_TIER: Final = r"^(|(openai|anthropic|google|compatible):[^\s,]{1,200})$"
_URL: Final = r"^(|https?://.+)$"


class ModelSettings(ServiceSettings):
    """Which models answer, with which keys, how long and how often. Without a model the offline one answers."""

    model: str = Field(
        "",
        pattern=_MODEL,
        description="Model that answers, provider:name with openai, anthropic, google or compatible (any server with "
        "OpenAI's API, at TASKLOOM_MODEL_BASE_URL); empty or offline: the offline assistant",
    )
    model_small: str = Field("", pattern=_TIER, description="Model of the tier small; empty: TASKLOOM_MODEL")
    model_medium: str = Field("", pattern=_TIER, description="Model of the tier medium; empty: TASKLOOM_MODEL")
    model_large: str = Field("", pattern=_TIER, description="Model of the tier large; empty: TASKLOOM_MODEL")
    model_fallbacks: Models = Field(
        (), description="Models that are asked in this order when the chosen one does not answer, comma-separated"
    )
    model_base_url: str = Field(
        "", pattern=_URL, description="Address of the provider compatible, for example http://127.0.0.1:11434/v1"
    )
    model_key: SecretStr = Field(SecretStr(""), description="API key of the provider compatible, if it wants one")
    openai_key: SecretStr = Field(SecretStr(""), description="API key of OpenAI")
    openai_base_url: str = Field("", pattern=_URL, description="Another address of OpenAI's API, such as a proxy")
    anthropic_key: SecretStr = Field(SecretStr(""), description="API key of Anthropic")
    anthropic_base_url: str = Field("", pattern=_URL, description="Another address of Anthropic's API")
    google_key: SecretStr = Field(SecretStr(""), description="API key of Google's Gemini API")
    google_base_url: str = Field("", pattern=_URL, description="Another address of the Gemini API")
    model_timeout_s: float = Field(120.0, gt=0, le=3600, description="Longest call of a model, in seconds")
    model_first_s: float = Field(60.0, gt=0, le=3600, description="Longest wait for the beginning of an answer")
    model_tries: int = Field(
        2, ge=1, le=10, description="Tries of one model within an attempt, when it is busy, away or slow"
    )
    model_wait_s: float = Field(
        20.0,
        ge=0,
        le=600,
        description="Longest wait before a further try, in seconds; a model that asks for more (Retry-After) is passed "
        "over, and without another one the task is retried",
    )
    model_max_tokens: int = Field(4000, ge=1, le=1_000_000, description="Longest answer where the task names no limit")
    model_concurrency: int = Field(5, ge=1, le=1000, description="Calls of models at once; more wait")
    model_calls_per_minute: int = Field(600, ge=1, le=100_000, description="Calls of models a minute; more wait")

    @field_validator("model_fallbacks", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("model_fallbacks")
    @classmethod
    def _fallbacks_are_models(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name.partition(":")[0] not in PROVIDERS or not name.partition(":")[2]:
                raise ValueError(f"{name!r} is not provider:name with a provider of {', '.join(PROVIDERS)}")
        return value

    @model_validator(mode="after")
    def _models_have_what_they_need(self) -> Self:
        if self.models and not self.has_model:
            raise ValueError(f"{self.models[0]}: set TASKLOOM_MODEL as well, it answers where no tier is named")
        for name in self.models:
            provider = name.partition(":")[0]
            if provider == "compatible" and not self.model_base_url:
                raise ValueError(f"{name}: set TASKLOOM_MODEL_BASE_URL to the address of the server")
            if provider != "compatible" and not self.key_of(provider):
                raise ValueError(f"{name}: set TASKLOOM_{provider.upper()}_KEY")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """All that are named, without the offline one."""
        named = (self.model, self.model_small, self.model_medium, self.model_large, *self.model_fallbacks)
        return tuple(dict.fromkeys(name for name in named if name not in ("", "offline")))

    @property
    def has_model(self) -> bool:
        return self.model not in ("", "offline")

    def key_of(self, provider: str) -> str:
        keys = {"openai": self.openai_key, "anthropic": self.anthropic_key, "google": self.google_key}
        return keys.get(provider, self.model_key).get_secret_value()

    def url_of(self, provider: str) -> str:
        urls = {"openai": self.openai_base_url, "anthropic": self.anthropic_base_url, "google": self.google_base_url}
        return urls.get(provider, self.model_base_url)
