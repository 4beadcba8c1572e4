"""What a call costs, by the prices that the library ``genai-prices`` carries with it: nothing is fetched."""

from typing import TYPE_CHECKING

from services.executor.models.choice import Chosen

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse


def cost_of(
    model: Chosen, input_tokens: int, output_tokens: int, response: "ModelResponse | None" = None
) -> float | None:
    """US dollars; None when the price is not known. With a response its own counts are used, those of caches too."""
    if model.provider == "compatible":
        return None
    import genai_prices

    counted = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    usage = counted if response is None or not response.usage.input_tokens else response.usage
    try:
        return float(genai_prices.calc_price(usage, model.name, provider_id=model.provider).total_price)
    except (LookupError, ValueError):
        return None
