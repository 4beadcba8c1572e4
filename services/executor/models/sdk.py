"""The library of models, imported when a model is first asked: it takes seconds, which no start should wait for."""

import asyncio
import importlib
from typing import Final

_MODULES: Final = (
    "pydantic_ai.direct",
    "pydantic_ai.models.openai",
    "pydantic_ai.models.anthropic",
    "pydantic_ai.models.google",
    "pydantic_ai.providers.openai_compatible",
    "genai_prices",
)
_BY_PROVIDER: Final = {"openai": 1, "compatible": 1, "anthropic": 2, "google": 3}


async def ready(provider: str) -> None:
    """Returns when the library can be used for this provider. It is imported in a thread, so that the executor goes on
    saying that it lives."""
    wanted = [_MODULES[0], _MODULES[_BY_PROVIDER[provider]], *_MODULES[4:]]
    await asyncio.to_thread(lambda: [importlib.import_module(name) for name in wanted])
