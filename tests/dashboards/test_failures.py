"""Where cells converged and where not, by hand."""

from __future__ import annotations

import itertools

import pytest

from dashboards.failures import Ended, Spot, convergence_map, failures
from tests.dashboards.made import Seed, study

AXES = {"norm": ["bn", "gn"], "batch": ["2", "8"], "loss": ["l1", "giou"]}


def arms() -> dict[tuple[str, ...], list[Seed]]:
    """BN fails at a batch of 2: of 6 cells 1 converges, 3 diverge, 1 stalls and 1 still runs. One
    cell of GN is out of memory, one waits."""
    made: dict[tuple[str, ...], list[Seed]] = {
        levels: [0.3, 0.31, 0.32] for levels in itertools.product(*AXES.values())
    }
    made["bn", "2", "l1"] = [("diverged", 120), ("diverged", 15), 0.1]
    made["bn", "2", "giou"] = ["diverged", ("stalled", 900), "running"]
    made["gn", "8", "giou"] = ["oom", 0.3, None]
    return made


def test_shares_are_of_what_is_planned() -> None:
    found = convergence_map(study(arms(), AXES))
    assert found is not None
    assert (found.down, found.across, found.pooled) == ("norm", "batch", ("loss",))
    assert (found.down_levels, found.across_levels) == (("bn", "gn"), ("2", "8"))
    bn2, bn8, gn2, gn8 = found.spots
    assert bn2 == Spot(
        down="bn",
        across="2",
        planned=6,
        settled=5,
        converged=1,
        failed=4,
        faults=0,
        waiting=1,
        share=1 / 6,
        ended=(Ended("diverged", 3, (15, 120)), Ended("stalled", 1, (900,))),
    )
    assert (gn8.converged, gn8.failed, gn8.faults, gn8.waiting) == (4, 0, 1, 1)
    assert gn8.share == 4 / 6  # neither the fault nor what waits is a failure to converge
    assert gn8.ended == (Ended("oom", 1, ()),)
    assert {(s.planned, s.share, s.ended) for s in (bn8, gn2)} == {(6, 1.0, ())}
    for s in found.spots:
        assert s.converged + s.failed + s.faults + s.waiting == s.planned


def test_axes_can_be_chosen() -> None:
    of = study(arms(), AXES)
    found = convergence_map(of, across="loss")
    assert found is not None
    assert (found.down, found.across) == ("norm", "loss")
    found = convergence_map(of, down="batch")  # no other axis is of numbers: the last one
    assert found is not None
    assert (found.down, found.across, found.pooled) == ("batch", "loss", ("norm",))
    assert [s.converged for s in found.spots] == [4, 3, 6, 4]
    with pytest.raises(ValueError, match=r"unknown axis 'lr'; choices: norm, batch, loss"):
        convergence_map(of, down="lr")
    with pytest.raises(ValueError, match=r"axis 'norm' can be rows or columns, not both"):
        convergence_map(of, "norm", "norm")


def test_one_axis_and_none() -> None:
    of = study({("bn",): ["diverged"], ("gn",): [0.3]}, {"norm": ["bn", "gn"]})
    for found in (convergence_map(of), convergence_map(of, down="norm")):
        assert found is not None
        assert (found.down, found.across, found.down_levels) == (None, "norm", ())
        assert [(s.across, s.share) for s in found.spots] == [("bn", 0.0), ("gn", 1.0)]
    assert convergence_map(study({(): [0.3]}, {})) is None


def test_a_combination_that_is_not_planned_and_an_axis_that_is_not_there() -> None:
    axes = {"norm": ["bn", "gn"], "groups": ["8", "16", "32"]}
    of = study({("bn", "-"): [0.3], ("gn", "8"): [0.3], ("gn", "16"): ["diverged"]}, axes)
    found = convergence_map(of)
    assert found is not None
    assert (found.across, found.across_levels) == ("groups", ("8", "16", "-"))
    spots = {(s.down, s.across): (s.planned, s.share) for s in found.spots}
    assert spots["bn", "8"] == (0, None)
    assert spots["bn", "-"] == spots["gn", "8"] == (1, 1.0)
    assert spots["gn", "16"] == (1, 0.0)


def test_every_cell_that_failed_with_its_reason() -> None:
    told: Seed = {
        "outcome": "diverged",
        "step": 7,
        "reason": "loss <nan>",
        "attempts": 2,
        "run_id": "r",
        "label": "norm=bn seed=0",
        "id": "abc",
    }
    of = study({("bn",): [told, "lost", "running", None, 0.3]}, {"norm": ["bn"]})
    first, second = failures(of)
    assert (first.arm, first.label, first.seed, first.id) == ("a0", "norm=bn seed=0", 0, "abc")
    assert (first.outcome, first.result, first.step, first.reason) == (
        "diverged",
        True,
        7,
        "loss <nan>",
    )
    assert (first.attempts, first.run_id) == (2, "r")
    assert (second.seed, second.outcome, second.result, second.step) == (1, "lost", False, None)
