import pytest

from taskloom.settings import ServiceSettings, SettingsError, load


def test_defaults_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    settings = load(ServiceSettings)
    assert (settings.partitions, settings.shards, settings.otlp_endpoint) == (8, 2, "")


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_PARTITIONS", "16")
    monkeypatch.setenv("TASKLOOM_SHARDS", "4")
    settings = load(ServiceSettings)
    assert (settings.partitions, settings.shards) == (16, 4)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"TASKLOOM_PARTITIONS": "6"}, "TASKLOOM_PARTITIONS=6 must divide 64"),
        ({"TASKLOOM_PARTITIONS": "4", "TASKLOOM_SHARDS": "8"}, "TASKLOOM_SHARDS=8 must divide TASKLOOM_PARTITIONS=4"),
        ({"TASKLOOM_OPS_PORT": "http"}, "TASKLOOM_OPS_PORT='http'"),
        ({"TASKLOOM_INSTANCE": "a b"}, "TASKLOOM_INSTANCE='a b'"),
        ({"TASKLOOM_TOPIC_PREFIX": ""}, "TASKLOOM_TOPIC_PREFIX=''"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as failure:
        load(ServiceSettings)
    assert told in str(failure.value)


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in ServiceSettings.model_fields.items() if not field.description] == []
