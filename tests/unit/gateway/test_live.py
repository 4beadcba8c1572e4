from services.gateway.live import BUFFER_BYTES, Live, LiveHub, Source, Subscription
from taskloom.testing.eventually import eventually
from tests.component.gateway.memory import EVENTS_TOPIC, MemoryTail


def taken(subscription: Subscription) -> list[tuple[Source, bytes]]:
    return [(source, live.value) for source, live in subscription.take()]


def hub_over(tail: MemoryTail, idle_s: float = 0.0) -> LiveHub:
    return LiveHub(tail, EVENTS_TOPIC, capacity=3, idle_s=idle_s)


async def test_a_subscription_gets_only_its_tasks_records() -> None:
    tail = MemoryTail()
    hub = hub_over(tail)
    async with hub.subscribe("a") as subscription:
        tail.publish(EVENTS_TOPIC, "b", b"1")
        tail.publish(EVENTS_TOPIC, "a", b"2")
        tail.publish("outputs", "a", b"3")
        assert await subscription.arrived(5.0)
        await eventually(lambda: len(subscription._records) == 2)
        assert taken(subscription) == [("event", b"2"), ("output", b"3")]
    await hub.close()


async def test_kafka_is_read_only_while_somebody_listens() -> None:
    tail = MemoryTail()
    hub = hub_over(tail)
    seen = [tail.started]
    async with hub.subscribe("a"):
        seen.append(tail.started)
    await eventually(lambda: not tail.started)
    async with hub.subscribe("b"):
        seen.append(tail.started)
    await hub.close()
    assert [*seen, tail.started] == [False, True, True, False]


async def test_a_full_subscription_is_emptied_and_marked() -> None:
    subscription = Subscription(3)
    for number in range(4):
        subscription.put("event", Live(bytes([number])))
    assert subscription.lost
    assert taken(subscription) == [("event", b"\x03")]


async def test_a_subscription_is_full_by_bytes_too() -> None:
    subscription = Subscription(1000)
    for _ in range(2):
        subscription.put("output", Live(bytes(BUFFER_BYTES)))
    assert subscription.lost


async def test_when_live_reading_ends_its_subscribers_read_the_store_again() -> None:
    tail = MemoryTail()
    hub = hub_over(tail)
    async with hub.subscribe("a") as subscription:
        await hub.close()
        assert subscription.lost
        assert await subscription.arrived(1.0)
        await hub.ensure_running()
        assert tail.starts == 2
    await hub.close()
