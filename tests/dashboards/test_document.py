"""The JSON document of a study."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from dashboards.document import document, provenance, shown_metrics
from dashboards.inference import look_levels
from dashboards.plans import read_decisions, read_plan
from dashboards.results import Reader
from dashboards.study import Cell, Study
from dashboards.tables import ablation_table
from orchestrator.planning.replicates import Replicates
from orchestrator.planning.rounds import End
from tests.dashboards.ledgers import Start, plan_of
from tests.dashboards.made import Seed, study

INFINITE = sys.float_info.max  # as MLflow keeps it


def one(cell: Seed, **more: object) -> Study:
    return study({("a",): [cell], ("b",): [cell]}, {"x": ["a", "b"]}, ["a"], **more)  # type: ignore[arg-type]


def test_numbers_that_say_nothing_are_not_there() -> None:
    numbers = {
        "mAP": 0.3,
        "AP_large": -1.0,
        "loss": math.nan,
        "grad_norm": -INFINITE,
        "gpu_hours": INFINITE,
        "lr": -1.0,  # only an AP of -1 says nothing
    }
    made = document(one({"outcome": "converged", "metrics": numbers}))
    assert made["cells"][0]["metrics"] == {"mAP": 0.3, "lr": -1.0}
    assert made["arms"][0]["values"]["AP_large"] == {"n": 0, "mean": None, "sd": None}
    assert made["totals"]["gpu_hours"] == made["provenance"]["gpu_hours"] == 0.0


def test_it_is_json_whatever_a_loss_was() -> None:
    curves = {"id": {"loss/total": [[0, 3.5], [1, math.inf], [2, math.nan]]}}
    made = document(one(0.3), curves)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["curves"]["id"]["loss/total"] == [[0, 3.5], [1, None], [2, None]]


def test_mean_and_sd_are_of_converged_cells() -> None:
    stalled = {"outcome": "stalled", "metrics": {"mAP": 0.0}}
    of = study({("a",): [0.2, stalled, 0.3, None]}, {"x": ["a"]})
    arm = document(of)["arms"][0]
    # 0.2 and 0.3: mean 0.25, deviations 0.05, SD sqrt(0.005 / 1)
    assert arm["values"]["mAP"] == {
        "n": 2,
        "mean": pytest.approx(0.25),
        "sd": pytest.approx(math.sqrt(0.005)),
    }
    assert (arm["planned"], arm["settled"]) == (4, 3)
    assert arm["outcomes"] == {"converged": 2, "stalled": 1, "waiting": 1}


def test_the_target_comes_first_with_the_goal_that_the_sweep_gives_it() -> None:
    numbers = {"params_m": 1.0, "AP: dog": 0.1, "AP: cat": 0.1, "AP50": 0.5, "mAP": 0.3}
    cell = {"outcome": "converged", "metrics": {**numbers, "odd": 2.0}}
    columns = shown_metrics(one(cell, metric="odd", goal="min"))
    assert [m.name for m in columns] == ["odd", "mAP", "AP50", "AP: cat", "AP: dog", "params_m"]
    assert columns[0].goal == "min"
    assert [m.name for m in shown_metrics(one(cell, metric="AP: dog"))].count("AP: dog") == 1
    assert [m.name for m in shown_metrics(one(None))] == ["mAP"]  # before there is any number


def test_every_metric_is_compared_or_those_asked_for() -> None:
    cell = {"outcome": "converged", "metrics": {"mAP": 0.3, "train_hours": 1.0}}
    assert list(document(one(cell))["comparisons"]) == ["mAP", "train_hours"]
    assert list(document(one(cell), compared=["train_hours"])["comparisons"]) == ["train_hours"]
    assert document(one(cell), compared=[])["comparisons"] == {}


@pytest.mark.parametrize(
    "of",
    [
        study({}, {"x": ["a"]}),
        study({("a",): [0.3]}, {"x": ["a"]}),
        study({("a",): [], ("b",): [0.3]}, {"x": ["a", "b"]}, ["a"]),
    ],
    ids=["empty", "no baseline", "a baseline without cells"],
)
def test_a_study_with_nothing_to_compare(of: Study) -> None:
    assert document(of)["comparisons"] == {}


def test_only_the_target_has_a_smallest_difference_that_matters() -> None:
    cells: list[Seed] = [
        {"outcome": "converged", "metrics": {"mAP": v, "AP50": v}} for v in (0.3, 0.31, 0.33)
    ]
    of = study({("a",): cells, ("b",): cells}, {"x": ["a", "b"]}, ["a"], min_effect=0.01)
    found = document(of)["comparisons"]
    assert (found["mAP"]["min_effect"], found["AP50"]["min_effect"]) == (0.01, None)


def test_the_sweep_says_whether_arms_vary_alike() -> None:
    plan = {"metric": {"name": "mAP", "variances": "unequal"}, "cells": []}
    read = read_plan(json.dumps(plan))
    assert read is not None
    arms: dict[tuple[str, ...], list[Seed]] = {
        ("a",): [0.30, 0.31, 0.32],
        ("b",): [0.31, 0.32, 0.30],
        ("c",): [0.32, 0.30, 0.31],
    }
    plain = study(arms, {"x": ["a", "b", "c"]}, ["a"])
    found = document(replace(plain, target=read.target))["comparisons"]
    assert document(plain)["comparisons"]["mAP"]["variances"] == "equal"  # no test sees more
    assert found["mAP"]["variances"] == "unequal"


def test_looking_again_and_again_is_allowed_for() -> None:
    """Three looks: the interval is that of the nominal level for which all three hold at once."""
    arms: dict[tuple[str, ...], list[Seed]] = {
        ("a",): [0.30, 0.32, 0.31, 0.33],
        ("b",): [0.33, 0.34, 0.35, 0.36],
    }
    once = study(arms, {"x": ["a", "b"]}, ["a"])
    often = replace(once, looks=(2, 3, 4))
    one, many = (document(of)["comparisons"]["mAP"] for of in (once, often))
    # differences 0.03, 0.02, 0.04, 0.03: mean 0.03, SD 0.0081650, error 0.0040825
    level = look_levels(1, (2, 3, 4)).level
    assert level < 0.05
    half = stats.t.ppf(1 - level / 2, 3) * 0.0040825
    assert many["arms"]["a1"]["low"] == pytest.approx(0.03 - half, abs=1e-5)
    assert one["arms"]["a1"]["low"] == pytest.approx(0.03 - 3.1824 * 0.0040825, abs=1e-5)
    assert (one["level"], many["level"], many["miss"]) == (0.05, 0.05, 0.1)
    assert one["arms"]["a1"]["p"] is not None
    assert many["arms"]["a1"]["p"] is None  # of one look, it would not be adjusted for the others
    remarks = ablation_table(document(often)).remarks
    assert any("looked at with 2, 3, 4 seeds" in text for text in remarks)


def test_what_is_concluded_does_not_depend_on_the_metrics_that_are_asked_for() -> None:
    """With looks at 2 to 5 seeds, 0.0035 +- 0.0032 at one look's level is no claim."""
    arms: dict[tuple[str, ...], list[Seed]] = {
        (level,): [{"outcome": "converged", "metrics": {"mAP": v, "AP50": v + 0.2}} for v in values]
        for level, values in {
            "a": [0.300, 0.302, 0.301, 0.303, 0.304],
            "b": [0.307, 0.302, 0.305, 0.3065, 0.307],
        }.items()
    }
    of = study(arms, {"x": ["a", "b"]}, ["a"], looks=(2, 3, 4, 5))
    # differences .007, 0, .004, .0035, .003: mean 0.0035, squares of the rest 25e-6, SD 0.0025,
    # error 0.0025 / sqrt(5) = 0.0011180; t(0.975; 4) = 2.7764: 0.0031041
    once = document(replace(of, looks=()))["comparisons"]["mAP"]["arms"]["a1"]
    assert once["difference"] - once["low"] == pytest.approx(0.0031041, abs=1e-6)
    assert once["verdict"] == "better"
    whole = document(of)["conclusions"]
    assert not any(c["certainty"] == "established" for c in whole)
    assert document(of, compared=["AP50"])["conclusions"] == whole
    assert document(of, compared=[])["conclusions"] == whole


def test_looks_are_those_of_the_plan(tmp_path: Path) -> None:
    for listed, by, looks in ([0, 1], 2, (2, 4, 5)), ([3], 1, (1, 2, 3, 4, 5)):
        seeds = {"list": listed, "extend_to": 5, "extend_by": by}
        plan = plan_of(tmp_path, seeds=seeds)
        read = read_plan(json.dumps(plan.to_json()))
        assert read is not None
        assert read.looks == plan.sweep.replicates.looks == looks
        whole = plan.extended(plan.more[:4])  # as the plan is written at the end
        read = read_plan(json.dumps(whole.to_json()))
        assert read is not None
        assert read.looks == looks
    read = read_plan(json.dumps(plan_of(tmp_path).to_json()))
    assert read is not None
    assert read.looks == ()


VALUES = {  # the first differences to bn are 0.0500 and 0.0501; then bn and evonorm_s0 vary by 0.1
    "bn": (0.300, 0.310, 0.300, 0.300),
    "gn": (0.350, 0.36014),
    "evonorm_s0": (0.300, 0.3101, 0.400, 0.250),
}


def test_what_the_rounds_decided_stands_beside_the_table(tmp_path: Path) -> None:
    """A real store, and the decisions of the rule itself."""
    plan = plan_of(
        tmp_path,
        axes={"norm": {"path": "model.neck.norm_act", "values": ["bn", "gn", "evonorm_s0"]}},
        baseline={"norm": "bn"},
        metric={"name": "AP50"},
        seeds={"list": [0, 1], "extend_to": 4},
    )
    values = {
        p.id: VALUES[p.cell.arm_label.removeprefix("norm=")][p.cell.seed]
        for p in (*plan.cells, *plan.more)
        if p.cell.seed < 2 or "gn" not in p.cell.arm_label
    }
    rule = Replicates(plan)
    while rule.next({p.id: End("converged", values[p.id]) for p in rule.cells}):
        pass
    assert [d.action for d in rule.decisions if d.arm == "norm=gn"] == ["ends: decided"]
    start = Start(tmp_path, plan)
    for planned in rule.cells:
        start.train(plan.info(planned), values[planned.id])
    running = Reader(tmp_path).study("small")
    assert running.growing == {"a1"}  # nobody has said yet that gn has ended
    start.end(**{"decisions.json": json.dumps(rule.to_json())})
    of = Reader(tmp_path).study("small")
    ended = {of.arm(d.arm).label: (d.seeds, d.verdict, d.ended) for d in of.decisions}
    assert ended == {
        "norm=gn": (2, "better", True),
        "norm=evonorm_s0": (4, "not separable", True),
    }
    assert of.growing == set()
    made = document(of)
    arms = {a["label"]: made["comparisons"]["AP50"]["arms"][a["key"]] for a in made["arms"]}
    assert arms["norm=gn"]["verdict"] == "not separable"
    (caution,) = [text for text in made["cautions"] if "decided" in text]
    assert caution.startswith(
        "norm=gn was decided better after 2 seeds (AP50 +0.0501, 95% interval"
    )
    assert "the table, with the seeds that other arms got since, says not separable" in caution
    assert f"caution: {caution}" in ablation_table(made).remarks


@pytest.mark.parametrize("text", [None, "", "[", "[]", '{"decisions": [{"arm": "a"}]}', "3"])
def test_decisions_in_another_form_are_none(text: str | None) -> None:
    assert read_decisions(text) == ()


def test_provenance_is_of_all_cells() -> None:
    def cell(commit: str, dirty: str) -> Seed:
        tags = {"git.commit": commit, "git.dirty": dirty, "data.fingerprint": "d"}
        numbers = {"mAP": 0.3, "gpu_hours": 0.25}
        return {"outcome": "converged", "metrics": numbers, "tags": tags, "sweep": "other"}

    of = study({("a",): [cell("2", "false"), cell("1", "true")]}, {"x": ["a"]})
    found = provenance(of)
    assert (found["commits"], found["data"], found["sweeps"]) == (["1", "2"], ["d"], ["other"])
    assert found["uncommitted_changes"] is True
    assert found["gpu_hours"] == 0.5
    assert provenance(one(Cell(0).metrics))["commits"] == []
