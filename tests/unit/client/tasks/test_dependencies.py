"""Dependencies among tasks that a program holds."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.client.tasks import CircularDependencyError, DependencyResolver, Task, TaskStatus


def tasks(**needs: str) -> dict[str, Task]:
    """Tasks by name; each needs those whose names are letters of its text."""
    made = {name: Task(name=name, created_by="me") for name in needs}
    for name, needed in needs.items():
        made[name].depends_on = {made[letter].id for letter in needed}
    return made


def names(made: dict[str, Task], ids: list[UUID]) -> str:
    by_id = {task.id: name for name, task in made.items()}
    return "".join(by_id[each] for each in ids)


def test_order_puts_each_task_after_what_it_needs() -> None:
    made = tasks(c="b", a="", b="a")

    assert names(made, DependencyResolver(made.values()).get_execution_order()) == "abc"


def test_cycle_is_named_from_a_task_back_to_itself() -> None:
    made = tasks(a="c", b="a", c="b", d="")

    with pytest.raises(CircularDependencyError) as caught:
        DependencyResolver(made.values()).get_execution_order()

    cycle = caught.value.cycle
    assert cycle[0] == cycle[-1]
    assert set(names(made, cycle)) == set("abc")
    assert str(cycle[0]) in str(caught.value)


def test_faults_of_a_task_are_listed() -> None:
    made = tasks(a="", b="a")
    resolver = DependencyResolver(made.values())
    unknown = uuid4()

    assert resolver.validate_dependencies(made["b"]) == []
    made["a"].depends_on = {unknown}
    assert resolver.validate_dependencies(made["a"]) == [f"depends_on: no task {unknown}"]
    made["a"].depends_on = {made["a"].id}
    assert "itself" in resolver.validate_dependencies(made["a"])[0]
    made["a"].depends_on = {made["b"].id}
    assert "circular" in resolver.validate_dependencies(made["a"])[0]


def test_chain_holds_everything_that_a_task_waits_for() -> None:
    made = tasks(a="", b="a", c="b", d="", e="cd")
    resolver = DependencyResolver(made.values())

    assert set(names(made, resolver.get_dependency_chain(made["e"].id))) == set("abcd")
    assert names(made, resolver.get_dependency_chain(made["c"].id)) == "ab"
    assert names(made, list(resolver.get_blocked_tasks(made["a"].id))) == "b"


def test_tasks_run_side_by_side_when_none_waits_for_another() -> None:
    made = tasks(a="", b="a", c="b", d="")
    resolver = DependencyResolver(made.values())

    assert resolver.can_execute_parallel([made["c"].id, made["d"].id])
    assert not resolver.can_execute_parallel([made["a"].id, made["c"].id])


def test_ready_are_pending_tasks_with_completed_dependencies() -> None:
    made = tasks(a="", b="a", c="b")
    resolver = DependencyResolver(made.values())
    made["a"].update_status(TaskStatus.COMPLETED)

    assert resolver.get_ready_tasks() == [made["b"]]


def test_graph_has_an_edge_from_what_is_needed() -> None:
    made = tasks(a="", b="a")

    graph = DependencyResolver(made.values()).get_dependency_graph()

    assert [node["name"] for node in graph["nodes"]] == ["a", "b"]
    assert graph["edges"] == [{"from": str(made["a"].id), "to": str(made["b"].id), "type": "dependency"}]


@given(st.lists(st.sets(st.integers(0, 30)), min_size=1, max_size=30))
def test_any_graph_without_a_way_back_has_an_order_and_phases(needs: list[set[int]]) -> None:
    made = [Task(name=str(number), created_by="me") for number in range(len(needs))]
    for number, needed in enumerate(needs):
        made[number].depends_on = {made[each].id for each in needed if each < number}
    resolver = DependencyResolver(made)

    order = resolver.get_execution_order()
    phases = [phase["parallel_groups"][0] for phase in resolver.optimize_execution_plan()["phases"]]

    place = {each: at for at, each in enumerate(order)}
    phase_of = {each: at for at, group in enumerate(phases) for each in group}
    assert place.keys() == phase_of.keys() == {task.id for task in made}
    for task in made:
        assert all(
            place[needed] < place[task.id] and phase_of[needed] < phase_of[task.id] for needed in task.depends_on
        )
