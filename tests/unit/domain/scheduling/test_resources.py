from taskloom.domain.values import Resources
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World

BOX = Resources(cpu_cores=4, memory_gb=8)
HALF = {"cpu_cores": 2, "memory_gb": 1}


def test_attempts_fit_into_what_the_executor_has_and_the_rest_waits() -> None:
    world = World(offer(slots=9, resources=BOX))
    world.submit("a", "b", "c", resources=HALF)
    world.submit("small")
    assert sorted(world.started()) == ["a", "b", "small"]
    gate = world.gates("c")["resources"]
    assert (gate.detail, gate.held_by) == ("needs 2 cores, 1 GB memory; too little is free on ex-1", ("a", "b"))
    world.lose("a")
    assert world.started() == ["c"]


def test_every_resource_counts() -> None:
    world = World(offer(slots=9, resources=BOX))
    world.submit("a", resources={"memory_gb": 6})
    world.submit("b", resources={"cpu_cores": 1, "memory_gb": 4})
    assert world.started() == ["a"]


def test_tenths_add_up() -> None:
    world = World(offer(slots=99, resources=Resources(cpu_cores=1)))
    world.submit(*(f"t{n}" for n in range(12)), resources={"cpu_cores": 0.1})
    assert len(world.started()) == 10


def test_a_task_that_never_fits_says_what_the_closest_executor_has() -> None:
    world = World(offer(slots=9, resources=BOX))
    world.submit("big", resources={"cpu_cores": 16, "gpu_memory_gb": 24})
    assert world.started() == []
    assert world.gates("big")["resources"].detail == (
        "needs 16 cores, 24 GB GPU, which no executor that would match ever has free; "
        "ex-1 offers 4 cores, 8 GB memory in all"
    )


def test_it_goes_where_it_fits() -> None:
    world = World(offer("ex-1", slots=9, resources=Resources(cpu_cores=1)), offer("ex-2", resources=BOX))
    world.submit("t", resources=HALF)
    assert world.place() == "ex-2"


def test_what_was_taken_over_holds_its_resources_from_the_first_heartbeat_on() -> None:
    world = World(offer(slots=9, resources=BOX))
    world.submit("a", resources={"cpu_cores": 3})
    world.assign()
    heir = World()
    heir.scheduler.observe(world.tasks["a"].state)
    heir.pool.hear(offer(slots=9, resources=BOX))
    heir.submit("b", resources=HALF)
    assert heir.started() == []


def test_with_several_orchestrators_each_has_a_part_but_what_is_larger_goes_alone() -> None:
    world = World(offer(slots=99, resources=BOX), partitions=4, owned=[0, 1])
    world.submit("whole", resources={"cpu_cores": 4})
    assert world.started() == ["whole"]
    world.complete("whole")
    world.submit("a", "b", "c", resources={"cpu_cores": 1})
    assert world.started() == ["a", "b"]


def test_small_tasks_do_not_keep_a_large_one_waiting_for_ever() -> None:
    world = World(offer(slots=9, resources=BOX), ageing_step_s=60)
    world.submit("a", "b", resources=HALF)
    world.assign()
    world.submit("large", resources={"cpu_cores": 4})
    world.submit("c", resources=HALF)
    world.complete("a")
    assert world.started() == ["c"], "what fits goes first for a while"
    world.after(61).submit("d", resources=HALF)
    world.complete("b")
    assert world.started() == []
    world.complete("c")
    assert world.started() == ["large"]
