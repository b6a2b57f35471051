"""The order in which cells start, and that none waits for ever."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cluster.queue import Limits, Queue, shape_of
from orchestrator.cluster.room import Room
from tests.cluster.light import job

NODES = {f"n{i}": {"CPU": 8, "GPU": 8} for i in range(4)}


def simulate(
    jobs: list[dict[str, Any]],
    seconds: Callable[[dict[str, Any]], float],
    limits: Limits | None = None,
    nodes: dict[str, dict[str, float]] = NODES,
) -> list[tuple[float, float, dict[str, Any]]]:
    """Start and end of each job on a cluster whose gangs start at once; in the order of starts."""
    queue, room = Queue(limits or Limits()), Room(nodes)
    queue.add(jobs)
    now, done = 0.0, []
    ends: list[tuple[float, str]] = []
    running: dict[str, Any] = {}
    while len(queue) or running:
        for start in queue.start(room, [s.job for s in running.values()]):
            id = start.job["id"]
            running[id] = start
            heapq.heappush(ends, (now + seconds(start.job), id))
            done.append((now, now + seconds(start.job), start.job))
        assert ends, f"nothing runs and {len(queue)} wait for ever"
        now, id = heapq.heappop(ends)
        ended = running.pop(id)
        room.give(shape_of(ended.job), ended.placement)
    return done


def test_seed_by_seed_the_baseline_first_large_before_small_long_before_short() -> None:
    long = {"config": {"seed": 7, "train": {"steps": 100}, "sleep_s": 0}}
    jobs = [
        job("seed 7, short", 7),
        job("seed 7, long", 7, **long),
        job("seed 3, small", 3),
        job("seed 3, four workers", 3, ranks=4),
        job("seed 7, baseline", 7, baseline=True),
        job("seed 7, short too", 7),
    ]
    queue = Queue()
    queue.add(jobs)
    assert [j["id"] for j in queue.waiting()] == [
        "seed 7, baseline",
        "seed 7, long",
        "seed 7, short",
        "seed 7, short too",
        "seed 3, four workers",
        "seed 3, small",
    ]


def test_a_cell_that_is_run_again_keeps_its_place() -> None:
    jobs = [job("a", 0, ranks=8), job("b", 0), job("c", 1, ranks=8)]
    queue, room = Queue(), Room({"n": NODES["n0"]})
    queue.add(jobs)
    (first,) = queue.start(room, [])
    assert first.job["id"] == "a"
    queue.add([first.job])
    assert [j["id"] for j in queue.waiting()] == ["a", "b", "c"]


def test_small_gangs_go_by_a_large_one_only_where_it_will_not_lie() -> None:
    """Both nodes are half full. The gang of eight waits for one of them; the small cells behind it
    start on the other one and nowhere else."""
    nodes = {id: NODES[id] for id in ("n0", "n1")}
    room, queue = Room(nodes), Queue()
    room.take(shape_of(job("x", ranks=4)), ("n0",) * 4)
    room.take(shape_of(job("y", ranks=5)), ("n1",) * 5)
    queue.add([job("large", 0, ranks=8), *(job(f"small {i}", 1) for i in range(6))])
    starts = queue.start(room, [])
    assert [s.placement for s in starts] == [("n1",)] * 3
    # x ends: the large gang starts on its node, though small ones wait as well
    room.give(shape_of(job("x", ranks=4)), ("n0",) * 4)
    starts = queue.start(room, [])
    assert [s.job["id"] for s in starts] == ["large"]


def test_a_claim_moves_on_from_a_node_that_somebody_else_has_taken() -> None:
    nodes = {id: NODES[id] for id in ("n0", "n1")}
    queue = Queue()
    queue.add([job("large", 0, ranks=8), *(job(f"small {i}", 1) for i in range(3))])
    room = Room(nodes)
    room.take(shape_of(job("x", ranks=1)), ("n0",))
    room.take(shape_of(job("y", ranks=5)), ("n1",) * 5)
    assert {id for s in queue.start(room, []) for id in s.placement} == {"n1"}  # n0 is claimed
    queue.add([job(f"later {i}", 1) for i in range(3)])
    room = Room(nodes, {"n0": (0, 1)})
    room.take(shape_of(job("y", ranks=5)), ("n1",) * 5)
    assert {id for s in queue.start(room, []) for id in s.placement} == {"n0"}


def test_a_gang_too_large_for_a_limit_runs_alone_and_others_do_not_go_by() -> None:
    jobs = [job("large", 0, ranks=8), job("small", 1)]
    order = simulate(jobs, lambda j: 1.0, Limits(gpus=4))
    assert [(begin, j["id"]) for begin, _, j in order] == [(0, "large"), (1, "small")]
    two = simulate([job(f"c{i}") for i in range(5)], lambda j: 1.0, Limits(cells=2))
    assert [begin for begin, _, _ in two] == [0, 0, 1, 1, 2]


def test_a_cell_that_is_held_back_holds_back_no_other() -> None:
    queue, room = Queue(), Room(NODES)
    queue.add([job("held", 0, ranks=8), job("free", 1)])
    starts = queue.start(room, [], may=lambda j: j["id"] != "held")
    assert [s.job["id"] for s in starts] == ["free"]
    assert [j["id"] for j in queue.waiting()] == ["held"]


sizes = st.lists(st.sampled_from([1, 1, 2, 4, 8, 12]), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(sizes, st.randoms(use_true_random=False), st.integers(1, 3))
def test_every_cell_runs_once_and_no_gang_waits_longer_than_its_claim_takes(
    workers: list[int], dice: random.Random, seeds: int
) -> None:
    """From when a cell is the first that waits, it starts within one longest cell: on the nodes
    that are kept free for it nothing else starts."""
    jobs = [job(f"{s}-{i}", s, ranks=n) for s in range(seeds) for i, n in enumerate(workers)]
    length = {j["id"]: dice.uniform(1, 10) for j in jobs}
    done = simulate(jobs, lambda j: length[j["id"]])
    assert sorted(j["id"] for _, _, j in done) == sorted(j["id"] for j in jobs)
    order = Queue()
    order.add(jobs)
    began = {j["id"]: begin for begin, _, j in done}
    first_since = 0.0
    for each in order.waiting():  # in this order they become the first that waits
        assert began[each["id"]] <= first_since + max(length.values()) + 1e-6
        first_since = max(first_since, began[each["id"]])


@pytest.mark.parametrize("draw", range(5))
def test_the_slots_of_a_mixed_sweep_are_used(draw: int) -> None:
    """40 arms of 1, 2, 4 and 8 workers, 4 seeds, on 4 nodes of 8: at least 0.9 of what is possible.
    The bound: no schedule is shorter than the work over the slots, or than the longest cell."""
    dice = random.Random(draw)
    arms = [(dice.choice([1, 2, 4, 8]), dice.uniform(5, 20)) for _ in range(40)]
    jobs, length = [], {}
    for seed in range(4):
        for arm, (workers, seconds) in enumerate(arms):
            config = {"seed": seed, "train": {"steps": round(seconds)}}
            jobs.append(job(f"{seed}-{arm}", ranks=workers, config=config, baseline=arm == 0))
            length[f"{seed}-{arm}"] = seconds * dice.uniform(0.95, 1.05)
    done = simulate(jobs, lambda j: length[j["id"]])
    work = sum(j["ranks"] * length[j["id"]] for j in jobs)
    bound = max(work / 32, max(length.values()))
    assert bound / max(end for _, end, _ in done) >= 0.9
    # a partial table is a comparison: the first seed ends long before the last begins to
    ends = [max(end for _, end, j in done if j["config"]["seed"] == s) for s in range(4)]
    assert ends == sorted(ends)
