"""A batch's events into rows, without database and Kafka."""

from aiokafka import ConsumerRecord, TopicPartition

from services.projection.batch import halves, read_batch
from services.projection.cache import RowCache
from services.projection.changes import Changes, counts_of, shares_of
from services.projection.folding import fold_batch
from taskloom.domain.envelope import Recorded
from taskloom.domain.task import commands as c
from taskloom.testing.histories import TaskLife
from taskloom.views.retired.write import Stone
from taskloom.views.sessions.fold import SessionKey
from taskloom.views.task_executions.fold import fold_all
from taskloom.views.task_executions.row import Row
from taskloom.views.task_executions.write import CountKey
from taskloom.wire.topics import Topics

TOPICS = Topics("t")


def record(body: bytes | None, offset: int = 0, topic: str = TOPICS.events, key: str = "task-1") -> ConsumerRecord:
    return ConsumerRecord(topic, 0, offset, 0, 0, key.encode(), body, None, 0, 0, [])


class Store:
    def __init__(self, *recorded: Recorded) -> None:
        self.recorded, self.asked = recorded, 0

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]:
        self.asked += 1
        return [one for one in self.recorded if after < one.version <= (up_to or 10**9)]


async def folded(
    *bodies: bytes, rows: dict[str, Row] | None = None, store: Store | None = None
) -> tuple[Changes, list[str]]:
    async def load_rows(task_ids: list[str]) -> dict[str, Row]:
        return {task_id: row for task_id, row in (rows or {}).items() if task_id in task_ids}

    arrived = [record(body, offset) for offset, body in enumerate(bodies)]
    batch = read_batch({TopicPartition(TOPICS.events, 0): arrived}, TOPICS)
    changes = await fold_batch(batch, RowCache(10), load_rows, store or Store())
    return changes, [poison.reason for poison in batch.poison]


LIFE = TaskLife().start().complete()
ROW = fold_all(LIFE.recorded)


async def test_whole_history_in_one_batch_is_one_new_row() -> None:
    changes, poison = await folded(*LIFE.bodies)
    assert (changes.after, changes.before, poison) == ({"task-1": ROW}, {}, [])


async def test_events_that_came_before_change_nothing() -> None:
    doubled = [body for body in LIFE.bodies for _ in range(2)]
    changes, _ = await folded(*doubled, *LIFE.bodies)
    assert changes.after == {"task-1": ROW}
    assert ROW is not None
    unchanged, _ = await folded(*LIFE.bodies, rows={"task-1": ROW})
    assert unchanged.after == {}


async def test_missing_events_are_read_from_the_store() -> None:
    store = Store(*LIFE.recorded)
    changes, poison = await folded(LIFE.bodies[0], LIFE.bodies[4], store=store)
    assert (changes.after, poison, store.asked) == ({"task-1": ROW}, [], 1)


async def test_gap_before_the_first_event_seen_is_filled_too() -> None:
    changes, _ = await folded(LIFE.bodies[4], store=Store(*LIFE.recorded))
    assert changes.after == {"task-1": ROW}
    assert changes.before == {}


async def test_gap_that_the_store_cannot_fill_is_poison_and_the_task_stays_where_it_was() -> None:
    changes, poison = await folded(LIFE.bodies[0], LIFE.bodies[3])
    assert changes.after["task-1"].version == 1
    assert poison == ["Unfillable: event 4 arrived, but the store has nothing after 1"]


async def test_record_that_cannot_be_read_is_set_aside_and_the_others_go_on() -> None:
    changes, poison = await folded(LIFE.bodies[0], b"{", b"", b'{"type":"taskloom.task.unheard-of.v1"}', LIFE.bodies[1])
    assert changes.after["task-1"].version == 2
    assert len(poison) == 3


async def test_counts_and_session_shares_tell_the_difference_to_the_row_before() -> None:
    running = fold_all(LIFE.recorded[:4])
    assert running is not None
    changes, _ = await folded(LIFE.bodies[4], rows={"task-1": running})
    assert counts_of(changes) == {CountKey("default", 0, "COMPLETED"): 1, CountKey("default", 0, "RUNNING"): -1}
    [(key, share)] = shares_of(changes).items()
    assert key == SessionKey("default", running.session_id)
    assert (share.task_count, share.successful_tasks, share.tokens_used) == (0, 1, 8)


def test_chunks_and_heartbeats_that_cannot_be_read_are_poison() -> None:
    bad = [
        b"[]",
        b'{"type":"taskloom.attempt.output.v1","task_id":"t","attempt":0,"seq":1,"stream":"stdout","at":"2026-01-01T00:00:00Z"}',
    ]
    batch = read_batch(
        {
            TopicPartition(TOPICS.outputs, 0): [record(body, topic=TOPICS.outputs) for body in bad],
            TopicPartition(TOPICS.executors, 0): [record(b"{}", topic=TOPICS.executors)],
        },
        TOPICS,
    )
    assert (batch.chunks, batch.heartbeats, len(batch.poison)) == ([], {}, 3)


def test_tombstone_takes_an_executor_away() -> None:
    batch = read_batch({TopicPartition(TOPICS.executors, 0): [record(None, topic=TOPICS.executors, key="e1")]}, TOPICS)
    assert batch.heartbeats == {"e1": None}


def test_halves_keep_every_record_and_the_order_of_a_partition() -> None:
    one, two = TopicPartition("a", 0), TopicPartition("a", 1)
    assert halves({one: [1, 2, 3]}) == [{one: [1]}, {one: [2, 3]}]
    assert halves({one: [1, 2], two: [3]}) == [{one: [1, 2]}, {two: [3]}]


def test_cache_keeps_the_latest_open_rows_and_no_ended_one() -> None:
    lives = [TaskLife(f"task-{number}") for number in range(4)]
    rows = [row for life in lives if (row := fold_all(life.recorded)) is not None]
    cache = RowCache(2)
    cache.put(rows[:3])
    assert [cache.get(row.task_id) is not None for row in rows[:3]] == [False, True, True]
    ended = fold_all(lives[2].start().complete().recorded)
    assert ended is not None
    cache.put([ended])
    assert cache.get("task-2") is None


async def folded_retired(*bodies: bytes, stone: Stone, life: TaskLife, cache: RowCache | None = None) -> Changes:
    async def no_rows(_task_ids: list[str]) -> dict[str, Row]:
        return {}

    async def load_retired(task_ids: list[str]) -> dict[str, Stone]:
        return dict.fromkeys(task_ids, stone)

    batch = read_batch({TopicPartition(TOPICS.events, 0): [record(body, n) for n, body in enumerate(bodies)]}, TOPICS)
    changes = await fold_batch(batch, cache or RowCache(10), no_rows, Store(*life.recorded), load_retired)
    assert batch.poison == []
    return changes


async def test_events_that_led_to_a_retired_task_bring_nothing_back_and_are_counted_once() -> None:
    changes = await folded_retired(*LIFE.bodies, stone=Stone(5, 5), life=LIFE)
    assert (changes.after, changes.tally.hours, changes.absent["task-1"].counted) == ({}, {}, 5)
    whole, _ = await folded(*LIFE.bodies)
    cache = RowCache(10)
    anew = await folded_retired(*LIFE.bodies[:3], stone=Stone(5, 0), life=LIFE, cache=cache)
    row = anew.absent["task-1"].row
    assert row is not None
    cache.put_retired([row])
    rest = await folded_retired(*LIFE.bodies, stone=Stone(5, 3), life=LIFE, cache=cache)
    assert (anew.after, rest.after, rest.absent["task-1"].counted) == ({}, {}, 5)
    summed: dict[object, int] = {}
    for changes in (anew, rest):
        for key, hour in changes.tally.hours.items():
            summed[key] = summed.get(key, 0) + hour.completed + hour.attempts_completed
    assert summed == {key: hour.completed + hour.attempts_completed for key, hour in whole.tally.hours.items()}


async def test_a_retired_task_that_begins_anew_has_its_row_again_and_counts_only_what_is_new() -> None:
    life = TaskLife().start().fail(retryable=False)
    length = len(life.recorded)
    life.do(c.RetryTask()).start()
    changes = await folded_retired(*life.bodies[length:], stone=Stone(length, length), life=life)
    assert changes.after == {"task-1": fold_all(life.recorded)}
    assert (changes.before, changes.returned, changes.absent) == ({}, {"task-1": length}, {})
    assert sum(hour.failed for hour in changes.tally.hours.values()) == 0
    assert counts_of(changes) == {CountKey("default", 0, "RUNNING"): 1}
