"""Further seeds: which cells a round asks for, what ends an arm, and that a decision follows from
the results alone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from orchestrator.planning.replicates import Replicates, study_of
from orchestrator.planning.rounds import End, replay
from tests.benchmarks import adaptive as simulation
from tests.orchestrator.extended import NORMS, Value, plan_of, played, value

# ---------------------------------------------------------------- the rule


def test_arms_that_are_decided_end_and_the_others_go_on_in_pairs(tmp_path: Path) -> None:
    rule, asked = played(plan_of(tmp_path), value)
    assert asked == [
        [(norm, seed) for seed in (0, 1, 2) for norm in NORMS],
        [("bn", 3), ("gn", 3)],
        [("bn", 4), ("gn", 4)],
        [("bn", 5), ("gn", 5)],
    ]
    first, second = rule.decisions[:2]
    assert (first.arm, first.round, first.seeds) == ("norm=gn", 0, 3)
    assert first.verdict.startswith("open (needs about")
    assert first.action == "runs seed 3"
    assert (second.arm, second.verdict, second.action) == (
        "norm=evonorm_s0",
        "better",
        "ends: decided",
    )
    assert second.difference == pytest.approx(0.2)  # the noise of seeds 0, 1, 2 sums to 0
    assert rule.decisions[-1].action == "ends: it has all its seeds"
    assert len(rule.cells) == 9 + 6


def test_an_arm_like_the_baseline_ends_as_not_separable(tmp_path: Path) -> None:
    tiny = {"bn": 0.0, "gn": 1e-4, "evonorm_s0": -1e-4}
    rule, asked = played(plan_of(tmp_path), lambda n, s: End("converged", 0.3 + tiny[n] * (s - 1)))
    assert len(asked) == 1
    assert [d.verdict for d in rule.decisions] == ["not separable"] * 2
    none = {"metric": {"name": "mAP"}}
    rule, asked = played(
        plan_of(tmp_path, **none), lambda n, s: End("converged", 0.3 + tiny[n] * (s - 1))
    )
    assert len(asked) == 4  # without a smallest effect nothing says that it is small enough
    assert rule.decisions[0].verdict.startswith("open")
    assert rule.decisions[-1].verdict == "not separable"


def test_from_one_seed_everything_goes_on(tmp_path: Path) -> None:
    _, asked = played(plan_of(tmp_path, seeds={"list": [0], "extend_to": 3}), value)
    assert asked[:2] == [[(n, 0) for n in NORMS], [(n, 1) for n in NORMS]]


def test_several_seeds_a_round(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds={"list": [0, 1, 2], "extend_to": 6, "extend_by": 2})
    rule, asked = played(plan, value)
    assert asked[1:] == [[("bn", 3), ("bn", 4), ("gn", 3), ("gn", 4)], [("bn", 5), ("gn", 5)]]
    assert rule.decisions[0].action == "runs seeds 3, 4"


def test_the_level_of_each_look_makes_intervals_wider_than_one_look_would(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    rule, _ = played(plan, value)
    told = rule.to_json()
    assert told["looks"] == [3, 4, 5, 6]
    assert 0.05 / 4 < told["level_at_each_look"] < 0.05  # Bonferroni's is the smallest
    assert 0.10 / 4 < told["miss_at_each_look"] < 0.10


@pytest.mark.parametrize(("outcome", "text"), [("diverged", "converge"), ("oom", "faulted")])
def test_an_arm_that_fails_twice_gets_no_more(tmp_path: Path, outcome: str, text: str) -> None:
    def fails(times: int) -> Value:
        return lambda n, s: End(outcome) if n == "gn" and s < times else value(n, s)

    _, once = played(plan_of(tmp_path), fails(1))
    assert once[1] == [("bn", 3), ("gn", 3)]
    rule, twice = played(plan_of(tmp_path), fails(2))
    assert len(twice) == 1
    (ended,) = [d for d in rule.decisions if d.arm == "norm=gn"]
    assert text in ended.action
    assert ended.n == 1


def test_a_baseline_that_fails_twice_ends_everything(tmp_path: Path) -> None:
    rule, asked = played(
        plan_of(tmp_path),
        lambda n, s: End("diverged") if n == "bn" and s in (0, 2) else value(n, s),
    )
    assert len(asked) == 1
    assert {d.action for d in rule.decisions} == {
        "ends: the baseline did not converge with 2 seeds"
    }


# ---------------------------------------------------------------- results and nothing else


@pytest.mark.parametrize("stream", range(5))
def test_decisions_do_not_depend_on_which_cell_ends_first(tmp_path: Path, stream: int) -> None:
    plan = plan_of(tmp_path)
    whole, _ = played(plan, value)
    rule, order, results = Replicates(plan), random.Random(stream), {}
    running = list(plan.cells)
    given = [p.id for p in running]
    while running:
        ended = running.pop(order.randrange(len(running)))
        results[ended.id] = value(str(ended.cell.axes["norm"]), ended.cell.seed)
        fresh = rule.next(results)
        assert not (fresh and running), "a round begins when the one before it has ended"
        running += fresh
        given += [p.id for p in fresh]
    assert len(given) == len(set(given))
    assert rule.decisions == whole.decisions
    assert rule.to_json() == whole.to_json()


def test_results_that_no_round_has_asked_for_change_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    ids = {(p.cell.arm_label, p.cell.seed): p.id for p in (*plan.cells, *plan.more)}
    first = {p.id: value(str(p.cell.axes["norm"]), p.cell.seed) for p in plan.cells}
    ahead = {ids["norm=gn", 5]: End("converged", 0.9), ids["norm=evonorm_s0", 3]: End("diverged")}
    study = study_of(plan)
    assert replay(study, first) == replay(study, first | ahead)


def test_a_start_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    whole, _ = played(plan, value)
    known = {p.id: value(str(p.cell.axes["norm"]), p.cell.seed) for p in whole.cells}
    # all but the cells of the last round but one of them: that one is missing
    partly = {
        p.id: known[p.id] for p in whole.cells if (p.cell.seed, p.cell.axes["norm"]) != (4, "gn")
    }
    lines: list[str] = []
    rule = Replicates(plan, lines.append)
    missing = rule.next(partly)
    assert [(str(p.cell.axes["norm"]), p.cell.seed) for p in missing] == [("gn", 4)]
    assert (
        rule.next(partly | {missing[0].id: known[missing[0].id]}) == []
    )  # seed 5 is there already
    assert rule.decisions == whole.decisions
    assert lines == [d.line() for d in whole.decisions]  # each once


def test_a_round_that_the_budget_does_not_cover_is_not_begun(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    results = {p.id: value(str(p.cell.axes["norm"]), p.cell.seed) for p in plan.cells}
    lines: list[str] = []
    rule = Replicates(plan, lines.append)
    assert rule.next(results, affords=lambda cells: len(cells) < 2) == []
    assert lines[-1] == "no further seeds: the budget has no room for 2 further cells"
    assert rule.to_json()["ended"] == "the budget has no room for 2 further cells"
    assert len(rule.cells) == 9
    assert len(rule.next(results)) == 2
    assert rule.to_json()["ended"] == ""


def test_the_decisions_are_an_artifact(tmp_path: Path) -> None:
    rule, _ = played(plan_of(tmp_path), value)
    told = json.loads(json.dumps(rule.to_json()))
    assert told["baseline"] == "norm=bn"
    assert told["complete"] is True
    assert [d["action"] for d in told["decisions"]] == [d.action for d in rule.decisions]
    assert set(told["decisions"][0]) >= {"round", "arm", "n", "difference", "low", "high"}


# ---------------------------------------------------------------- does it keep its promises


def test_a_small_simulation_keeps_the_promises_of_the_large_one() -> None:
    """150 sweeps with fixed draws; the bounds are those of the issue plus three standard errors.
    tests/benchmarks/adaptive.py prints the figures of 1,000."""
    found = simulation.rates("adaptive", "equal", 0.5, sweeps=150, seed=1)
    assert found["false"] <= 0.05 + 3 * 0.018
    assert found["found"] >= 0.90 - 3 * 0.025
    assert max(found["cells without"], found["cells with"]) < 45
