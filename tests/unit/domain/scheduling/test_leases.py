from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from taskloom.domain.scheduling.leases import Holder, LeaseBook, Limit, Occupied, Place, Wish, grant, limits_of
from taskloom.domain.scheduling.policy import Rate
from taskloom.testing.clock import START
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World

KEY, OTHER = Limit("key", "default", "k"), Limit("queue", "", "slow")
ONE = {"key": "k", "limit": 1}


def wish(task_id: str, *places: Place) -> Wish:
    return Wish(task_id, 1, 0, "default", places)


# What the store decides by.


def test_places_are_granted_in_order_until_none_is_left() -> None:
    wishes = [wish(name, (KEY, 3)) for name in "abc"]
    granted, full = grant(wishes, {KEY: Occupied(taken=1)}, ())
    assert ([each.task_id for each in granted], full) == (["a", "b"], {KEY: 3})


def test_a_task_gets_a_place_of_each_of_its_limits_or_none() -> None:
    wishes = [wish("both", (KEY, 1), (OTHER, 1)), wish("one", (OTHER, 1))]
    granted, full = grant(wishes, {KEY: Occupied(taken=1), OTHER: Occupied()}, ())
    assert ([each.task_id for each in granted], full) == (["one"], {KEY: 1})


def test_each_task_goes_by_its_own_number_of_places() -> None:
    granted, _ = grant([wish("strict", (KEY, 1)), wish("loose", (KEY, 2))], {KEY: Occupied(taken=1)}, ())
    assert [each.task_id for each in granted] == ["loose"]


def test_what_others_wait_for_longer_is_left_to_them() -> None:
    granted, full = grant([wish("a", (KEY, 2)), wish("b", (KEY, 2))], {KEY: Occupied(taken=0, older=1)}, ())
    assert ([each.task_id for each in granted], full) == (["a"], {KEY: 1})


def test_asked_again_after_a_lost_answer_the_same_is_granted() -> None:
    granted, _ = grant([wish("new", (KEY, 1)), wish("a", (KEY, 1))], {KEY: Occupied(taken=1)}, {(KEY, "a")})
    assert [each.task_id for each in granted] == ["a"]


@st.composite
def asked(draw: st.DrawFn) -> tuple[list[Wish], dict[Limit, Occupied], set[tuple[Limit, str]]]:
    limits = [KEY, OTHER, Limit("tenant", "default", "")]
    wishes = [
        wish(
            f"t{n}", *((limit, draw(st.integers(1, 4))) for limit in draw(st.sets(st.sampled_from(limits), min_size=1)))
        )
        for n in range(draw(st.integers(1, 8)))
    ]
    having = {(limit, each.task_id) for each in wishes for limit, _ in each.places if draw(st.booleans())}
    occupied = {}
    for limit in limits:
        rows = sum(held == limit for held, _ in having) + draw(st.integers(0, 4))
        occupied[limit] = Occupied(rows, draw(st.integers(0, 2)))
    return wishes, occupied, having


@given(asked())
def test_no_more_is_granted_than_fits_and_nothing_that_fits_is_left_out(
    given: tuple[list[Wish], dict[Limit, Occupied], set[tuple[Limit, str]]],
) -> None:
    wishes, occupied, having = given
    granted, full = grant(wishes, occupied, having)
    assert limits_of(wishes) == sorted({limit for each in wishes for limit, _ in each.places})
    taken = {limit: each.taken for limit, each in occupied.items()}
    for each in wishes:
        new = [(limit, places) for limit, places in each.places if (limit, each.task_id) not in having]
        fits = all(taken[limit] + occupied[limit].older < places for limit, places in new)
        assert (each in granted) == fits
        for limit, _ in new if fits else ():
            taken[limit] += 1
    assert all(full[limit] == taken[limit] for limit in full)


# What one orchestrator knows of it.


def test_a_place_counts_until_the_end_of_its_attempt_is_stored() -> None:
    book = LeaseBook()
    book.defers = True
    book.take("a", (KEY, OTHER), START)
    assert book.end("a") == ()
    assert book.is_full(KEY, 1)
    assert book.settle(["b"]) == []
    assert book.settle(["a", "b"]) == [KEY, OTHER]
    assert (book.is_full(KEY, 1), book.held) == (False, {})


def test_a_task_that_is_retried_before_its_end_was_stored_holds_one_place() -> None:
    book = LeaseBook()
    book.defers = True
    book.take("a", (KEY,), START)
    book.end("a")
    book.take("a", (KEY,), START)
    assert (book.count(KEY), book.settle(["a"]), book.count(KEY)) == (1, [], 1)


def test_leases_of_others_are_what_is_stored_beyond_our_own() -> None:
    book = LeaseBook()
    book.take("a", (KEY,), START)
    elsewhere = Holder("b", "default", START - timedelta(seconds=5))
    assert book.learn(KEY, Occupied(2, 0, (Holder("a", "default", START), elsewhere)))
    assert (book.is_full(KEY, 2), book.is_full(KEY, 3)) == (True, False)
    assert [name for name, _, _ in book.holders(KEY)] == ["b", "a"]
    assert not book.learn(KEY, Occupied(2)), "the same again"
    assert book.learn(KEY, Occupied(1))
    assert book.beyond == {}


class Books(RuleBasedStateMachine):
    """Whatever happens in whatever order, the counts are those of who holds something."""

    def __init__(self) -> None:
        super().__init__()
        self.book = LeaseBook()
        self.book.defers = True
        self.held: dict[str, set[Limit]] = {}
        self.leaving: set[str] = set()

    @rule(name=st.sampled_from("abcd"), limits=st.sets(st.sampled_from([KEY, OTHER]), min_size=1))
    def take(self, name: str, limits: set[Limit]) -> None:
        self.book.take(name, tuple(limits), START)
        self.held[name] = limits
        self.leaving.discard(name)

    @rule(name=st.sampled_from("abcd"))
    def end(self, name: str) -> None:
        self.book.end(name)
        self.leaving |= {name} & self.held.keys()

    @rule(names=st.sets(st.sampled_from("abcd")))
    def settle(self, names: set[str]) -> None:
        freed = self.book.settle(names)
        gone = [self.held.pop(name) for name in names & self.leaving]
        assert sorted(freed) == sorted(limit for limits in gone for limit in limits)
        self.leaving -= names

    @rule(name=st.sampled_from("abcd"))
    def leave(self, name: str) -> None:
        assert set(self.book.leave(name)) == self.held.pop(name, set())
        self.leaving.discard(name)

    @invariant()
    def counts_are_of_leases(self) -> None:
        for limit in (KEY, OTHER):
            assert self.book.count(limit) == sum(limit in limits for limits in self.held.values())
        assert self.book.held.keys() == self.held.keys()


Books.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestBooks = Books.TestCase


# The scheduler with them.


def test_what_is_paired_names_the_places_it_needs() -> None:
    world = World(offer(slots=9), queue_parallel={"default": 5})
    world.submit("a", concurrency=ONE)
    [made] = world.scheduler.assign(9, world.now)
    assert made.places == ((KEY, 1), (Limit("queue", "", "default"), 5))


def test_what_is_withdrawn_waits_again_in_its_old_place_and_spent_nothing() -> None:
    world = World(offer(slots=9), queue_rates={"default": Rate(1)})
    world.submit("a", concurrency={"key": "k", "limit": 2})
    world.after(0.01).submit("b", concurrency={"key": "k", "limit": 2})
    [made] = world.scheduler.assign(9, world.now)
    assert made.task_id == "a"
    world.scheduler.withdraw(world.tasks["a"].state)
    assert not world.scheduler.is_paired(made)
    assert (world.scheduler.leases.held, len(world.scheduler.ready)) == ({}, 2)
    assert world.started() == ["a"]


def test_a_pairing_falls_with_its_executor() -> None:
    world = World(offer(slots=9))
    world.submit("a", concurrency=ONE)
    [made] = world.scheduler.assign(9, world.now)
    assert world.scheduler.is_paired(made)
    world.pool.hear(offer(slots=9, incarnation="b"))
    assert not world.scheduler.is_paired(made)


def test_a_place_that_another_orchestrator_holds_keeps_a_task_back_until_it_is_heard_to_be_free() -> None:
    world = World(offer(slots=9))
    world.scheduler.learn_leases(KEY, Occupied(1, 0, (Holder("far", "default", START), Holder("x", "red", START))))
    world.submit("a", concurrency=ONE)
    assert world.started() == []
    gate = world.gates("a")["concurrency"]
    assert (gate.held_by, gate.detail) == (("far",), "key 'k' is limited to 1 at once")
    assert [(each.task_id, each.since) for each in gate.leases] == [("far", START)]
    assert world.scheduler.learn_leases(KEY, Occupied())
    assert world.started() == ["a"]


def test_why_says_that_a_place_is_kept_for_one_that_waits_for_longer() -> None:
    world = World(offer(slots=9))
    world.scheduler.learn_leases(KEY, Occupied(0, 1))
    world.submit("a", concurrency=ONE)
    assert world.started() == []
    assert world.gates("a")["concurrency"].detail.endswith("a task that waits for longer goes first")


def test_why_names_our_own_holders_and_since_when() -> None:
    world = World(offer(slots=9))
    world.submit("a", concurrency=ONE)
    world.started()
    world.after(5).submit("b", concurrency=ONE)
    [lease] = world.gates("b")["concurrency"].leases
    assert (lease.task_id, lease.since) == ("a", START)


def test_a_queue_that_others_fill_is_shut_and_its_neighbours_go_on() -> None:
    world = World(offer(slots=9, queues=frozenset({"*"})), queue_parallel={"slow": 2})
    world.scheduler.learn_leases(OTHER, Occupied(2))
    world.submit("a", queue="slow")
    world.submit("b")
    assert world.started() == ["b"]
    assert world.scheduler.learn_leases(OTHER, Occupied(1))
    assert world.started() == ["a"]
