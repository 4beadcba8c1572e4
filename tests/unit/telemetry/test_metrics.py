import pytest

from taskloom import telemetry


def test_the_same_name_gives_the_same_metric() -> None:
    assert telemetry.gauge("metrics_test_depth", "Depth") is telemetry.gauge("metrics_test_depth", "Depth")


def test_one_name_cannot_be_two_kinds() -> None:
    telemetry.gauge("metrics_test_kind", "A gauge")
    with pytest.raises(TypeError, match="taskloom_metrics_test_kind exists already as a Gauge"):
        telemetry.counter("metrics_test_kind", "A counter")
