"""The offline model: answers by rules, the same question always with the same answer, without a network."""

from services.executor.models.offline.model import Offline

__all__ = ["Offline"]
