import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from taskloom import telemetry

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def keep_logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_one_json_object_with_service_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging("probe", instance="probe-1")
    telemetry.get_logger("test").info("it happened", count=3)
    (line,) = lines(capsys)
    assert {
        "event": "it happened",
        "count": 3,
        "level": "info",
        "service": "probe",
        "instance": "probe-1",
    }.items() <= line.items()


def test_task_and_trace_ids_are_on_every_line_inside(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging("probe")
    with telemetry.bind_task("task-1", PARENT):
        telemetry.get_logger("test").info("inside")
    telemetry.get_logger("test").info("outside")
    inside, outside = lines(capsys)
    assert (inside["task_id"], inside["trace_id"]) == ("task-1", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert "task_id" not in outside


def test_the_open_spans_trace_id_is_on_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging("probe")
    telemetry.record_in_memory()
    try:
        with telemetry.span("decide", PARENT):
            telemetry.get_logger("test").info("inside")
    finally:
        telemetry.shutdown_tracing()
    assert lines(capsys)[0]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging("probe")
    logging.getLogger("uvicorn.error").warning("from %s", "a library")
    (line,) = lines(capsys)
    assert (line["event"], line["service"], line["level"]) == ("from a library", "probe", "warning")


def test_a_librarys_warning_is_not_repeated_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging("probe")
    for port in range(50):
        logging.getLogger("aiokafka.client").error("Unable connect to %s", port)
    assert len(lines(capsys)) == 1


def test_an_exception_is_part_of_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging("probe")
    try:
        raise ValueError("broken")
    except ValueError:
        telemetry.get_logger("test").exception("it failed")
    (line,) = lines(capsys)
    assert "ValueError: broken" in line["exception"]


def test_values_that_json_does_not_know_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging("probe")
    telemetry.get_logger("test").info("odd", value=object)
    assert "object" in lines(capsys)[0]["value"]
