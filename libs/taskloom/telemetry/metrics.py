"""Prometheus metrics under the name ``taskloom_…``, in one registry of ours.

A metric is made once a process: asking for the same name again gives the same one, so modules can declare what they
count at their top. On hot paths count once a batch (``.inc(n)``), never once a record.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics import MetricWrapperBase

REGISTRY: Final = CollectorRegistry(auto_describe=False)
"""Without Python's own garbage collection metrics: their callback runs on every collection."""

ProcessCollector(registry=REGISTRY)

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_made: dict[str, MetricWrapperBase] = {}
M = TypeVar("M", bound=MetricWrapperBase)


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
    """A number that only rises; ``taskloom_`` is put before its name and ``_total`` after it."""
    return _once(Counter, name, documentation, labels)


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
    """A number that rises and falls; ``taskloom_`` is put before its name."""
    return _once(Gauge, name, documentation, labels)


def histogram(
    name: str, documentation: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
) -> Histogram:
    """A spread of values, seconds unless ``buckets`` say otherwise; ``taskloom_`` is put before its name."""
    return _once(Histogram, name, documentation, labels, buckets=tuple(buckets))


def exposition() -> bytes:
    """All metrics in Prometheus' text format 0.0.4."""
    return generate_latest(REGISTRY)


def _once(kind: type[M], name: str, documentation: str, labels: Sequence[str], **options: Any) -> M:
    full = f"taskloom_{name}"
    made = _made.get(full)
    if made is None:
        made = _made[full] = kind(full, documentation, tuple(labels), registry=REGISTRY, **options)
    if not isinstance(made, kind):
        raise TypeError(f"metric {full} exists already as a {type(made).__name__}")
    return made
