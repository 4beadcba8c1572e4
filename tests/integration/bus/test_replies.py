import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest

from taskloom.bus.errors import ReplyTimeout, TooManyWaiters
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.bus.replies import ReplyInbox
from taskloom.wire.messages import Reply
from taskloom.wire.topics import Topics, partition_of

pytestmark = pytest.mark.integration

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def inbox(kafka_bootstrap: str, topics: Topics) -> AsyncIterator[ReplyInbox]:
    inbox = ReplyInbox(kafka_bootstrap, topics, 4, "gateway-1", max_waiters=2)
    await inbox.start()
    yield inbox
    await inbox.stop()


def reply(topics: Topics, command_id: str, reply_to: str = "gateway-1") -> OutRecord:
    body = Reply(command_id=command_id, task_id="task-1", at=AT, state="cancelled")
    return OutRecord(topics.replies, partition_of("gateway-1", 4), reply_to.encode(), msgspec.json.encode(body))


async def test_a_reply_reaches_who_waits_for_it(inbox: ReplyInbox, publisher: Publisher, topics: Topics) -> None:
    with inbox.expect("c1") as expected:
        await publisher.publish([reply(topics, "c0"), reply(topics, "c1")])
        got = await expected.reply(timeout_s=60)
    assert (got.command_id, got.state) == ("c1", "cancelled")


async def test_two_who_wait_for_the_same_command_both_get_it(
    inbox: ReplyInbox, publisher: Publisher, topics: Topics
) -> None:
    with inbox.expect("c1") as one, inbox.expect("c1") as two:
        await publisher.publish([reply(topics, "c1")])
        assert await one.reply(timeout_s=60) == await two.reply(timeout_s=10)


async def test_another_processs_replies_are_skipped(inbox: ReplyInbox, publisher: Publisher, topics: Topics) -> None:
    with inbox.expect("c1") as one, inbox.expect("c2") as two:
        await publisher.publish([reply(topics, "c1", reply_to="gateway-2"), reply(topics, "c2")])
        await two.reply(timeout_s=60)
        with pytest.raises(ReplyTimeout):
            await one.reply(timeout_s=0)


async def test_no_reply_in_time_is_said_and_a_late_one_is_dropped(
    inbox: ReplyInbox, publisher: Publisher, topics: Topics
) -> None:
    with inbox.expect("c1") as expected, pytest.raises(ReplyTimeout, match=r"no reply to command c1 within 0.05 s"):
        await expected.reply(timeout_s=0.05)
    await publisher.publish([reply(topics, "c1")])
    with inbox.expect("c2") as expected:
        await publisher.publish([reply(topics, "c2")])
        assert (await expected.reply(timeout_s=60)).command_id == "c2"


async def test_a_record_that_is_no_reply_is_skipped(inbox: ReplyInbox, publisher: Publisher, topics: Topics) -> None:
    with inbox.expect("c1") as expected:
        poison = OutRecord(topics.replies, partition_of("gateway-1", 4), b"gateway-1", b"{not json")
        await publisher.publish([poison, reply(topics, "c1")])
        assert (await expected.reply(timeout_s=60)).command_id == "c1"


async def test_the_number_of_waiters_is_bounded(inbox: ReplyInbox) -> None:
    with inbox.expect("c1"), inbox.expect("c2"), pytest.raises(TooManyWaiters), inbox.expect("c3"):
        pass
    with inbox.expect("c4"):
        pass


async def test_a_waiter_that_gives_up_leaves_nothing_behind(inbox: ReplyInbox) -> None:
    async def wait() -> None:
        with inbox.expect("c1") as expected:
            await expected.reply(timeout_s=60)

    waiter = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert inbox._waiting == {}
