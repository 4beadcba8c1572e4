"""What an operator can set about who runs next."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from taskloom.domain.scheduling.quotas import Quota

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S


class Rate(Struct, frozen=True):
    """Tasks a second, and how many may go at once after a quiet time."""

    per_s: float
    burst: float = 1.0


class Policy(Struct, frozen=True):
    """Rules of the scheduler; the defaults hold where an operator sets nothing.

    ``ageing_step_s`` of waiting lift a task by one priority. A deadline lifts by ``boost_day`` priorities within 24
    hours of it and by ``boost_hour`` within one hour, and after it; never by more, so that ageing wins in the end.
    ``weights``: turns of a tenant for each turn of one that is not named. ``queue_rates``, ``kind_rates`` and
    ``queue_parallel`` (live attempts of a queue at once) hold for all orchestrators together.
    ``quotas`` are those of tenants by name, ``*`` for those not named.
    ``breaker_failures`` different tasks in a row that fail on one executor and kind stop that kind there for
    ``breaker_pause_s``; ``quarantine_losses`` in a row stop all of an executor's work for ``quarantine_pause_s``.
    """

    ageing_step_s: float = 600.0
    boost_hour: int = 10
    boost_day: int = 5
    weights: Mapping[str, float] = {}
    queue_rates: Mapping[str, Rate] = {}
    kind_rates: Mapping[str, Rate] = {}
    queue_parallel: Mapping[str, int] = {}
    quotas: Mapping[str, Quota] = {}
    breaker_failures: int = 20
    breaker_pause_s: float = 5.0
    quarantine_losses: int = 3
    quarantine_pause_s: float = 60.0

    def level(self, priority: int, deadline: float | None, now: float) -> int:
        """Priority with the deadline's boost; ``deadline`` and ``now`` in Unix seconds."""
        if deadline is None or deadline - now > DAY_S:
            return priority
        return priority + (self.boost_hour if deadline - now <= HOUR_S else self.boost_day)

    def next_boost_at(self, deadline: float, now: float) -> float | None:
        """When the boost next grows, None when it has all it can get."""
        return next((deadline - before for before in (DAY_S, HOUR_S) if deadline - before > now), None)


DEFAULT: Final = Policy()
