"""The model that an executor answers with."""

from services.executor.models.offline import Offline
from services.executor.models.online import Online
from services.executor.models.port import Model
from services.executor.models.settings import ModelSettings


def make_model(settings: ModelSettings) -> Model:
    """The settings' models, or the offline one. Connects to nothing yet."""
    return Online(settings) if settings.has_model else Offline()
