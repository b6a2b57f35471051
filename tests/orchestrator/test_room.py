"""Where gangs lie on nodes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.room import Room, Shape

EIGHT = {"CPU": 64, "GPU": 8}


def room(**gpus: int) -> Room:
    """Nodes of eight GPUs, of which so many are free."""
    made = Room(dict.fromkeys(gpus, EIGHT))
    for id, free in gpus.items():
        made.take(Shape(8 - free, 1, 1), [id] * (8 - free))
    return made


def test_a_gang_takes_the_node_that_it_fills_best() -> None:
    assert room(a=8, b=5, c=3).place(Shape(4, 1, 1)) == ("b",) * 4
    assert room(a=8, b=5, c=3).place(Shape(3, 1, 1)) == ("c",) * 3
    assert room(a=8, b=8).place(Shape(8, 1, 1)) == ("a",) * 8


def test_a_gang_that_fits_a_node_is_not_torn_apart() -> None:
    """Eight GPUs are free, and a gang of eight waits: its ranks would talk through the network."""
    assert room(a=4, b=4).place(Shape(8, 1, 1)) is None


def test_only_a_gang_larger_than_every_node_lies_on_several() -> None:
    placed = room(a=8, b=6, c=8).place(Shape(16, 1, 1))
    assert placed is not None
    assert Counter(placed) == {"a": 8, "c": 8}
    assert room(a=8, b=6, c=1).place(Shape(16, 1, 1)) is None


def test_processors_and_gpus_must_lie_on_the_same_node() -> None:
    nodes = Room({"cpus": {"CPU": 64}, "gpus": {"CPU": 2, "GPU": 8}})
    assert nodes.place(Shape(2, 2, 1)) is None
    assert nodes.place(Shape(1, 2, 1)) == ("gpus",)
    assert nodes.place(Shape(3, 8, 0)) == ("cpus",) * 3
    assert not nodes.could_hold(Shape(2, 2, 1))


def test_where_a_gang_is_warm_it_lies_again_but_not_on_nodes_left_out() -> None:
    here = room(a=4, b=8)
    here.warm = {Shape(4, 1, 1): [("b",) * 4]}
    assert here.place(Shape(4, 1, 1), without={"b"}) == ("a",) * 4
    assert here.place(Shape(4, 1, 1)) == ("b",) * 4
    assert here.place(Shape(4, 1, 1)) == ("a",) * 4  # it was warm for one cell


def test_the_soonest_nodes_are_those_that_lack_least() -> None:
    assert room(a=2, b=7, c=5).soonest(Shape(8, 1, 1)) == {"b"}
    assert room(a=2, b=7, c=5).soonest(Shape(16, 1, 1)) == {"b", "c"}
    assert room(a=8).soonest(Shape(16, 1, 1)) == frozenset()


def test_what_others_use_is_not_waited_for() -> None:
    """Somebody holds one GPU of a: a gang of eight waits for b, though a lacks less for it."""
    here = Room({"a": EIGHT, "b": EIGHT}, {"a": (0, 1)})
    here.take(Shape(4, 1, 1), ["b"] * 4)
    assert here.soonest(Shape(8, 1, 1)) == {"b"}
    shut_out = Room({"a": EIGHT, "b": EIGHT}, {"a": (0, 1), "b": (0, 2)})
    assert not shut_out.could_hold(Shape(8, 1, 1))
    assert shut_out.could_hold(Shape(7, 1, 1))
    # and it is not torn apart for it: where all is free it fits a node
    assert shut_out.place(Shape(8, 1, 1)) is None


@given(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0.5, 1, 2])), max_size=30),
    st.lists(st.integers(1, 8), min_size=1, max_size=5),
)
def test_no_node_is_ever_overfull(gangs: list[tuple[int, float]], nodes: list[int]) -> None:
    """Whatever is placed and given back, in whatever order, each node holds what it has."""
    here = Room({f"n{i}": {"CPU": 4.0 * n, "GPU": n} for i, n in enumerate(nodes)})
    placed = []
    for i, (workers, cpus) in enumerate(gangs):
        shape = Shape(workers, cpus, 1)
        if placement := here.place(shape):
            here.take(shape, placement)
            placed.append((shape, placement))
        elif placed and i % 3 == 0:
            here.give(*placed.pop(0))
        used = {id: [0.0, 0.0] for id in here.total}
        for s, p in placed:
            for id in p:
                used[id][0] += s.cpus
                used[id][1] += s.gpus
        for id, has in here.total.items():
            assert all(u <= h + 1e-9 for u, h in zip(used[id], has, strict=True))
            assert all(
                abs(h - u - f) < 1e-9 for h, u, f in zip(has, used[id], here.free[id], strict=True)
            )
