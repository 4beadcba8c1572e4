"""Order, phases and cycles of random graphs, against what the words say."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.workflow.graph import CycleFound, cycle, dependents_of, order, phases

NODES = [f"n{at}" for at in range(9)]
graphs = st.dictionaries(st.sampled_from(NODES), st.lists(st.sampled_from(NODES), max_size=3))


@given(st.permutations(NODES), st.lists(st.lists(st.integers(0, 8), max_size=3), min_size=9, max_size=9))
def test_a_graph_without_cycles_is_put_in_order_and_in_the_earliest_phases(
    nodes: list[str], picks: list[list[int]]
) -> None:
    needs = {node: [NODES[pick] for pick in picks[at] if pick < at] for at, node in enumerate(NODES)}
    found = order(nodes, needs)
    assert sorted(found) == NODES
    assert all(found.index(needed) < found.index(node) for node in NODES for needed in needs[node])
    groups = phases(nodes, needs)
    number = {node: at for at, group in enumerate(groups) for node in group}
    assert all(number[node] == max((number[one] + 1 for one in needs[node]), default=0) for node in NODES)
    assert [node for group in groups for node in group] == found


@given(graphs)
def test_a_cycle_is_one_and_is_found_when_there_is_one(needs: dict[str, list[str]]) -> None:
    around = cycle(NODES, needs)
    if around is None:
        assert len(order(NODES, needs)) == len(NODES)
        return
    assert around[0] == around[-1]
    assert len(set(around)) == len(around) - 1
    assert all(after in needs[before] for before, after in pairwise(around))
    with pytest.raises(CycleFound):
        order(NODES, needs)


def test_what_is_no_node_counts_as_done() -> None:
    assert order(["a", "b"], {"a": ["b", "elsewhere"]}) == ["b", "a"]
    assert dependents_of(["a", "b"], {"a": ["b", "b", "elsewhere"]}) == {"a": (), "b": ("a",)}


def test_a_cycle_names_its_nodes() -> None:
    with pytest.raises(CycleFound, match="a -> b -> a is a cycle"):
        order(["x", "a", "b"], {"x": ["a"], "a": ["b"], "b": ["a"]})


def test_a_long_chain_is_no_trouble() -> None:
    chain = [str(at) for at in range(50_000)]
    assert order(reversed(chain), {str(at): [str(at - 1)] for at in range(1, 50_000)}) == chain
