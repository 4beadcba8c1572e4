"""Settings of the gateway about accounts: who vouches for people, and where they belong."""

from ipaddress import ip_network
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from taskloom.domain.ids import is_valid_id
from taskloom.quotas import QuotaSettings

GOOGLE: Final = "google"
_GOOGLE: Final = {
    "issuer": "https://accounts.google.com",
    "jwks": "https://www.googleapis.com/oauth2/v3/certs",
    "token_url": "https://oauth2.googleapis.com/token",
}


class ProviderSetting(BaseModel):
    """An OpenID Connect provider. ``jwks``: file or URL of its public keys. ``token_url`` and ``client_secret`` are for
    codes alone: without the URL only ID tokens are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str = Field(min_length=1)
    issuer: str = ""
    jwks: str = ""
    token_url: str = ""
    client_secret: SecretStr = SecretStr("")

    @property
    def issuers(self) -> tuple[str, ...]:
        """As the claim iss may have it: Google's has two forms."""
        return (
            (self.issuer, self.issuer.removeprefix("https://")) if self.issuer == _GOOGLE["issuer"] else (self.issuer,)
        )


class DomainSetting(BaseModel):
    """Where new users of an email domain belong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str
    role: Literal["user", "admin"] = "user"

    @field_validator("tenant")
    @classmethod
    def _tenant_is_an_id(cls, value: str) -> str:
        if not is_valid_id(value):
            raise ValueError("must be 1 to 128 of A-Z a-z 0-9 : _ - .")
        return value


class AccountSettings(QuotaSettings):
    """Sign-in of people; without a provider there are no accounts."""

    sign_in_providers: dict[str, ProviderSetting] = Field(
        {},
        description='OpenID Connect providers, as JSON: {"google": {"client_id": "…", "client_secret": "…"}}; one of '
        "another name needs issuer and jwks too, and token_url where codes are taken. Needs TASKLOOM_AUTH=keys",
    )
    sign_in_domains: dict[str, DomainSetting | str] = Field(
        {},
        description="Where new users with a confirmed address of these domains belong, as JSON: "
        '{"example.com": "acme", "example.org": {"tenant": "acme", "role": "admin"}}',
    )
    sign_up: Literal["anyone", "invited"] = Field(
        "anyone",
        description="Who else may have an account: anyone, as the admin of a tenant of their own; invited: those with "
        "an invitation or an address of a domain of TASKLOOM_SIGN_IN_DOMAINS alone",
    )
    refresh_lifetime_s: float = Field(
        30 * 86_400.0, ge=60, le=366 * 86_400, description="How long a refresh token is good, in seconds"
    )
    trusted_proxies: str = Field(
        "",
        description="Networks of proxies in front, comma-separated, whose X-Forwarded-For is believed where requests "
        "are counted by address; empty: the connection's address counts",
    )

    @field_validator("sign_in_providers", mode="before")
    @classmethod
    def _google_is_known(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get(GOOGLE), dict):
            return {**value, GOOGLE: {**_GOOGLE, **value[GOOGLE]}}
        return value

    @field_validator("sign_in_providers")
    @classmethod
    def _providers_are_whole(cls, value: dict[str, ProviderSetting]) -> dict[str, ProviderSetting]:
        for name, provider in value.items():
            missing = [field for field in ("issuer", "jwks") if not getattr(provider, field)]
            if missing:
                raise ValueError(f"the provider {name!r} needs {' and '.join(missing)}")
        return value

    @field_validator("sign_in_domains")
    @classmethod
    def _domains_in_lower_case(cls, value: dict[str, DomainSetting | str]) -> dict[str, DomainSetting | str]:
        made = {
            name: each if isinstance(each, DomainSetting) else DomainSetting(tenant=each)
            for name, each in value.items()
        }
        return {name.lower().removeprefix("@"): each for name, each in made.items()}

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, value: str) -> str:
        for text in filter(None, (part.strip() for part in value.split(","))):
            ip_network(text, strict=False)
        return value

    @property
    def domains(self) -> dict[str, DomainSetting]:
        return {name: each for name, each in self.sign_in_domains.items() if isinstance(each, DomainSetting)}
