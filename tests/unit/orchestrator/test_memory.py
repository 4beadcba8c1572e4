from services.orchestrator.memory import Memory
from taskloom.domain.task import commands as c
from taskloom.domain.task.state import TaskState
from taskloom.testing.given import GivenTask
from taskloom.wire.topics import partition_of
from tests.unit.domain.task.lives import submit


def state(task_id: str, *, ended: bool = False) -> TaskState:
    task = GivenTask(task_id)
    task.when(submit())
    if ended:
        task.when(c.CancelTask())
    return task.state


def test_open_tasks_stay_and_of_the_ended_ones_the_newest() -> None:
    memory = Memory(4, ended_kept=2)
    memory.put(state("open"))
    for number in range(4):
        memory.put(state(f"ended-{number}", ended=True))
    assert memory.missing(["open", "ended-0", "ended-1", "ended-2", "ended-3", "new", "new"]) == [
        "ended-0",
        "ended-1",
        "new",
    ]
    assert [s.task_id for s in memory.open_states()] == ["open"]


def test_a_task_that_ends_is_open_no_more() -> None:
    memory = Memory(4, ended_kept=2)
    memory.put(state("t"))
    memory.put(state("t", ended=True))
    assert list(memory.open_states()) == []
    found = memory.get("t")
    assert found is not None
    assert found.ended


def test_a_partition_that_is_given_up_is_forgotten_whole() -> None:
    memory = Memory(4, ended_kept=100)
    names = [f"t{number}" for number in range(40)]
    for name in names:
        memory.put(state(name))
        memory.put(state(f"{name}-ended", ended=True))
        memory.rows[name] = None
    gone = memory.drop([0, 1])
    assert set(gone) == {name for name in names if partition_of(name, 4) in (0, 1)}
    for name in [*names, *(f"{name}-ended" for name in names)]:
        assert (memory.get(name) is None) is (partition_of(name, 4) in (0, 1))
    assert memory.rows.keys() == set(names) - set(gone)
