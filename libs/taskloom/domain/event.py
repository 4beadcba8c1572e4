"""The base of all facts, those of tasks and those of workflow runs."""

from msgspec import Struct


class Event(Struct, frozen=True, omit_defaults=True):
    """Base of all events."""
