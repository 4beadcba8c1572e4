"""What all models of the task API have in common: plain dictionaries in and out, times in UTC."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta, Struct

Time = Annotated[datetime, Meta(tz=True)]


def now() -> datetime:
    return datetime.now(UTC)


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from ``start`` to ``end``; None while one of them is not known."""
    return None if start is None or end is None else (end - start).total_seconds()


def has_zone(at: datetime | None, field: str) -> None:
    """Raises ValueError for a time without a zone, which would mean another moment on each machine."""
    if at is not None and at.tzinfo is None:
        raise ValueError(f"{field}: {at.isoformat()} has no time zone; send an aware time, such as datetime.now(UTC)")


class Record(Struct, kw_only=True):
    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it: ids and times are texts, sets are sorted lists."""
        plain: dict[str, Any] = msgspec.to_builtins(self, order="deterministic")
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record that ``to_dict`` wrote. Unknown keys are passed over.

        Raises:
            ValueError: a value does not fit; names its path.
        """
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"{cls.__name__}: {error}") from error
