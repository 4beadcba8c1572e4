"""Which models are asked for a wish, in order."""

from msgspec import Struct

from services.executor.models.port import ModelChoice
from services.executor.models.settings import PROVIDERS, ModelSettings
from taskloom.kinds import TaskError


class Chosen(Struct, frozen=True):
    """One model of one provider."""

    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}"


def chosen(name: str) -> Chosen:
    """``provider:name`` apart."""
    provider, _, model = name.partition(":")
    return Chosen(provider, model)


def chain(settings: ModelSettings, choice: ModelChoice | None) -> list[Chosen]:
    """The model that is wished for, then the fallbacks of the settings; at least one.

    Raises:
        TaskError: a provider is named that has no key or address here (``model_unknown``, not retryable).
    """
    first = _first(settings, choice or ModelChoice())
    return list(dict.fromkeys([first, *(chosen(name) for name in settings.model_fallbacks)]))


def _first(settings: ModelSettings, choice: ModelChoice) -> Chosen:
    tiers = {"small": settings.model_small, "medium": settings.model_medium, "large": settings.model_large}
    usual = chosen(tiers.get(choice.tier) or settings.model)
    named, provider = choice.model, choice.provider
    if not provider and named.partition(":")[0] in PROVIDERS and ":" in named:
        provider, _, named = named.partition(":")
    if not named and not provider:
        return usual
    known = [chosen(name) for name in settings.models]
    if not named:
        known = [model for model in known if model.provider == provider]
        return known[0] if known else _refused(provider)
    if not provider:
        return next((model for model in known if model.name == named), Chosen(usual.provider, named))
    configured = settings.url_of(provider) if provider == "compatible" else settings.key_of(provider)
    return Chosen(provider, named) if provider in PROVIDERS and configured else _refused(provider)


def _refused(provider: str) -> Chosen:
    message = f"this executor has no models of the provider {provider!r}; leave it out, or set its key"
    raise TaskError("model_unknown", message, retryable=False)
