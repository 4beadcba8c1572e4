"""What a tenant may use where that was changed while the system runs; the settings are the defaults below it.

A field that is left out is as in the settings; null is without limit.
"""

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from taskloom.domain.scheduling.quotas import Quota, SessionQuota

MOST_COUNT: Final = 10**15
MOST_USD: Final = 1e12
Count = Annotated[int, Meta(ge=0, le=MOST_COUNT)] | None | UnsetType
Money = Annotated[float, Meta(ge=0, le=MOST_USD)] | None | UnsetType
Places = Annotated[int, Meta(ge=1, le=1_000_000)] | None | UnsetType
Requests = Annotated[int, Meta(ge=1, le=10**9)] | None | UnsetType


class SessionOverride(Struct, frozen=True, forbid_unknown_fields=True):
    """For each session, over all its life."""

    tokens: Count = UNSET
    cost_usd: Money = UNSET
    parallel: Places = UNSET


class RateOverride(Struct, frozen=True, forbid_unknown_fields=True):
    """Requests by each key, or user without one."""

    minute: Requests = UNSET
    hour: Requests = UNSET
    day: Requests = UNSET


class Overrides(Struct, frozen=True, forbid_unknown_fields=True):
    """``tier``: the name of a plan of requests that the settings have; ``rate`` changes that plan for this tenant."""

    tokens_per_day: Count = UNSET
    cost_usd_per_day: Money = UNSET
    tokens_per_month: Count = UNSET
    cost_usd_per_month: Money = UNSET
    tokens: Count = UNSET
    cost_usd: Money = UNSET
    parallel: Places = UNSET
    open_tasks: Places = UNSET
    session: SessionOverride = SessionOverride()
    tier: Annotated[str, Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    rate: RateOverride = RateOverride()


_OF_QUOTA: Final = tuple(name for name in Quota.__struct_fields__ if name != "session")


def overlaid(quota: Quota | None, overrides: Overrides) -> Quota:
    """The quota of the settings with what was changed on top."""
    base = quota or Quota()
    changed = _given(overrides, _OF_QUOTA)
    session = structs.replace(base.session, **_given(overrides.session, SessionQuota.__struct_fields__))
    return structs.replace(base, **changed, session=session)


def _given(of: Struct, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names if getattr(of, name) is not UNSET}
