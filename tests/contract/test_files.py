import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskloom.bus.admin import TOPICS
from taskloom.bus.channels import CHANNELS, type_of
from taskloom.cli.contracts import gateway_document
from taskloom.cli.main import app
from taskloom.contracts import files

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return files.generate(gateway_document())


def test_the_files_in_contracts_are_as_the_code_says(generated: dict[str, str]) -> None:
    assert files.drift(REPOSITORY / "contracts", generated) == []


def test_the_contracts_keep_what_the_last_release_promised(generated: dict[str, str]) -> None:
    assert files.breaks(REPOSITORY / "contracts", generated) == []


def test_every_topic_is_described() -> None:
    assert {channel.kind for channel in CHANNELS} == set(TOPICS)


def test_asyncapi_refers_only_to_files_that_are_made(generated: dict[str, str]) -> None:
    text = generated["asyncapi.yaml"]
    for channel in CHANNELS:
        assert f"address: taskloom.{channel.name}\n" in text
        for message in channel.messages:
            assert f"{type_of(message)}.json" in text
    references = {line.split("./")[1] for line in text.splitlines() if "$ref: ./" in line}
    assert references
    assert references <= set(generated)


def test_drift_is_named(tmp_path: Path, generated: dict[str, str]) -> None:
    files.write(tmp_path, generated)
    (tmp_path / "topics.yaml").unlink()
    (tmp_path / "openapi.json").write_text("{}")
    (tmp_path / "events" / "taskloom.task.forgotten.v1.json").write_text("{}")
    assert files.drift(tmp_path, generated) == [
        "events/taskloom.task.forgotten.v1.json: no such message in the code",
        "openapi.json: differs from the code",
        "topics.yaml: missing",
    ]
    assert len(files.write(tmp_path, generated)) == 3
    assert files.drift(tmp_path, generated) == []


def test_what_breaks_the_last_release_is_named(tmp_path: Path, generated: dict[str, str]) -> None:
    for version in ("0.9.0", "0.10.0"):
        files.release(tmp_path, version, generated)
    assert files.breaks(tmp_path, generated) == []
    path = "commands/taskloom.task.cancel.v1.json"
    schema = json.loads(generated[path])
    del schema["properties"]["grace_s"]
    changed = {**generated, path: json.dumps(schema)}
    del changed["events/taskloom.task.queued.v1.json"]
    assert files.breaks(tmp_path, changed) == [
        f"{path}: $.grace_s: field removed (release 0.10.0)",
        "events/taskloom.task.queued.v1.json: message of release 0.10.0 is gone",
    ]


def test_check_exits_with_one_and_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["contracts", "--check", "--directory", str(tmp_path)])
    assert result.exit_code == 1
    assert "asyncapi.yaml: missing" in result.output
    assert "make contracts" in result.output
