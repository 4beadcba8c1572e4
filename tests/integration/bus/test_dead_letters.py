from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from taskloom.bus.batches import Records, TailConsumer
from taskloom.bus.dead_letters import bury, letter_of, read, redrive
from taskloom.bus.publish import MAX_RECORD_BYTES, OutRecord, Publisher
from taskloom.cli.main import app
from taskloom.wire.topics import Topics
from tests.integration.bus.reading import places

pytestmark = pytest.mark.integration


async def kill_one(bootstrap: str, publisher: Publisher, topics: Topics, value: bytes = b"{bad") -> TailConsumer:
    """Publishes a record to commands and buries it; the reader stands behind it."""
    tail = TailConsumer(bootstrap, places(topics.commands))
    await tail.start()
    await publisher.publish([OutRecord(topics.commands, 3, b"task-1", value, [("ce_type", b"x"), ("ce_id", b"\xff")])])
    found: Records = {}
    while not found:
        found = await tail.poll()
    ((record,),) = found.values()
    await bury(publisher, [letter_of(record, "the data is not JSON", field="$")], topics, 4)
    return tail


async def test_a_redriven_record_comes_back_as_it_was_and_is_marked(
    kafka_bootstrap: str, publisher: Publisher, topics: Topics
) -> None:
    tail = await kill_one(kafka_bootstrap, publisher, topics)
    (filed,) = await read(kafka_bootstrap, topics, 4)
    assert (filed.letter.reason, filed.letter.field, filed.redriven_at) == ("the data is not JSON", "$", None)
    assert await redrive(publisher, [filed], topics) == 1
    found: Records = {}
    while not found:
        found = await tail.poll()
    ((again,),) = found.values()
    assert (again.partition, again.key, again.value) == (3, b"task-1", b"{bad")
    assert list(again.headers) == [("ce_type", b"x"), ("ce_id", b"\xff")]
    (filed,) = await read(kafka_bootstrap, topics, 4)
    assert filed.redriven_at is not None
    await tail.stop()


async def test_the_largest_record_can_be_buried(kafka_bootstrap: str, publisher: Publisher, topics: Topics) -> None:
    value = b"\x00" * (MAX_RECORD_BYTES - 1000)
    tail = await kill_one(kafka_bootstrap, publisher, topics, value)
    (filed,) = await read(kafka_bootstrap, topics, 4)
    assert filed.letter.value == value
    await tail.stop()


async def test_letters_before_the_asked_time_are_left_out(
    kafka_bootstrap: str, publisher: Publisher, topics: Topics
) -> None:
    tail = await kill_one(kafka_bootstrap, publisher, topics)
    await tail.stop()
    now = datetime.now(UTC)
    assert len(await read(kafka_bootstrap, topics, 4, since=now - timedelta(minutes=1))) == 1
    assert await read(kafka_bootstrap, topics, 4, since=now + timedelta(minutes=1)) == []


async def test_an_empty_topic_has_no_letters(kafka_bootstrap: str, topics: Topics) -> None:
    assert await read(kafka_bootstrap, topics, 4) == []


def test_the_command_line_lists_shows_and_redrives(
    kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from taskloom.bus.admin import ensure_topics

    async def prepare() -> None:
        await ensure_topics(kafka_bootstrap, topic_prefix, 4)
        publisher = Publisher(kafka_bootstrap, "test")
        await publisher.start()
        await (await kill_one(kafka_bootstrap, publisher, Topics(topic_prefix))).stop()
        await publisher.stop()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(prepare())
    loop.close()
    monkeypatch.setenv("TASKLOOM_KAFKA_BOOTSTRAP", kafka_bootstrap)
    monkeypatch.setenv("TASKLOOM_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("TASKLOOM_PARTITIONS", "4")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["dead-letters", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    listed = run("list")
    assert "task-1" in listed
    place = next(word for word in listed.split() if word.count(":") == 1 and word.replace(":", "").isdigit())
    assert "{bad" in run("show", place)
    assert "1 records sent again" in run("redrive", place)
    assert "0 dead letters" in run("list")
    assert "1 dead letters" in run("list", "--all")
    assert CliRunner().invoke(app, ["dead-letters", "show", "9:9"]).exit_code == 1
