"""The library's model for a chosen one, with the settings' keys and addresses; connections are kept and closed."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from services.executor.models import sdk
from services.executor.models.choice import Chosen
from services.executor.models.settings import ModelSettings

if TYPE_CHECKING:
    from pydantic_ai.models import Model

MOST_KNOWN: Final = 64
"""Models by name that are kept; tenants may name any. One provider's share its connections."""


class Providers:
    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._providers: dict[str, Any] = {}
        self._models: OrderedDict[Chosen, Model[Any]] = OrderedDict()

    async def model(self, chosen: Chosen) -> "Model[Any]":
        """The library's model."""
        await sdk.ready(chosen.provider)
        found = self._models.get(chosen)
        if found is None:
            found = self._models[chosen] = await self._make(chosen)
        self._models.move_to_end(chosen)
        if len(self._models) > MOST_KNOWN:
            self._models.popitem(last=False)
        return found

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.__aexit__(None, None, None)
        self._providers.clear()
        self._models.clear()

    async def _make(self, chosen: Chosen) -> "Model[Any]":
        provider = self._providers.get(chosen.provider)
        if provider is None:
            provider = self._providers[chosen.provider] = self._provider(chosen.provider)
            await provider.__aenter__()
        if chosen.provider == "anthropic":
            from pydantic_ai.models.anthropic import AnthropicModel

            return AnthropicModel(chosen.name, provider=provider)
        if chosen.provider == "google":
            from pydantic_ai.models.google import GoogleModel

            return GoogleModel(chosen.name, provider=provider)
        from pydantic_ai.models.openai import OpenAIChatModel

        return OpenAIChatModel(chosen.name, provider=provider)

    def _provider(self, name: str) -> Any:
        key, url = self._settings.key_of(name), self._settings.url_of(name) or None
        if name == "anthropic":
            from pydantic_ai.providers.anthropic import AnthropicProvider

            return AnthropicProvider(api_key=key, base_url=url)
        if name == "google":
            from pydantic_ai.providers.google import GoogleProvider

            return GoogleProvider(api_key=key, base_url=url)
        if name == "openai":
            from pydantic_ai.providers.openai import OpenAIProvider

            return OpenAIProvider(base_url=url, api_key=key)
        from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

        return OpenAICompatibleProvider("compatible", base_url=url or "", api_key=key or "none")
