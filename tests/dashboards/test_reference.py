"""Our arms beside the rows of another report: ours, theirs, the difference, and what differs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from dashboards.document import document
from dashboards.reference import beside, read_row, seed_report
from dashboards.reference.beside import PROTOCOL, compare_protocols
from dashboards.study import ReferenceRow, Study
from orchestrator.planning.make_plan import make_plan
from tests.dashboards import made

SEEDS = Path(__file__).parents[2] / "sweeps/seed"
ROW = ReferenceRow("R1", "theirs", {"mAP": 0.300, "AP50": 0.5, "AR1": 0.2})
FAILED = ReferenceRow("R2", "theirs failed", {}, converged=False)


def one(
    seeds: list[Any], row: ReferenceRow = ROW, ours: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """What is said of one arm with `seeds`, beside `row`."""
    study = made.study({("a",): seeds}, {"norm": ["a"]}, ["a"])
    arm = replace(study.arms[0], reference=row, protocol=ours or {})
    (said,) = beside(replace(study, arms=(arm,)))["arms"]
    assert isinstance(said, dict)
    return said


# ---------------------------------------------------------------- numbers


def test_ours_theirs_and_the_difference() -> None:
    # 0.28, 0.31, 0.34: mean 0.31, SD 0.03; t(2, 0.975) = 4.3027. The mean's interval is
    # 0.31 -+ 4.3027 * 0.03 / sqrt(3) = 0.31 -+ 0.07452; a further seed's, with
    # sqrt(1 + 1/3) = 1.1547 in place of 1/sqrt(3), 0.31 -+ 0.14905
    got = one([0.28, 0.31, 0.34])["metrics"]["mAP"]
    assert (got["n"], got["theirs"], got["seeds"]) == (3, 0.3, [0.28, 0.34])
    assert got["mean"] == pytest.approx(0.31)
    assert got["difference"] == pytest.approx(0.01)
    assert (got["low"], got["high"]) == pytest.approx((0.23548, 0.38452), abs=1e-5)
    assert got["expected"] == pytest.approx([0.16095, 0.45905], abs=1e-5)
    assert got["inside"] is True


def test_the_interval_is_student_s() -> None:
    values = [0.281, 0.2794, 0.2831, 0.2777]
    got = one([*values])["metrics"]["mAP"]
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (got["low"], got["high"]) == pytest.approx((oracle.low, oracle.high))


def test_a_row_far_off_is_outside() -> None:
    # SD 0.001, t(2) = 4.3027: a further seed within 0.28 -+ 0.00497
    assert one([0.279, 0.280, 0.281])["metrics"]["mAP"]["inside"] is False
    # 0.2954 -+ 0.00497 ends at 0.30037: 0.300 is inside; 0.2948 ends at 0.29977, and the row,
    # which is printed to three digits, may be 0.2995
    assert one([0.2944, 0.2954, 0.2964])["metrics"]["mAP"]["inside"] is True
    assert one([0.2938, 0.2948, 0.2958])["metrics"]["mAP"]["inside"] is True
    assert one([0.2934, 0.2944, 0.2954])["metrics"]["mAP"]["inside"] is False


def test_a_further_seed_is_inside_in_95_of_100_cases() -> None:
    """The property that `expected` has by its name, on seeds drawn from one distribution."""
    import numpy as np

    random, inside = np.random.default_rng(1), 0
    for _ in range(400):
        *seeds, theirs = random.normal(0.3, 0.02, 4).tolist()
        row = ReferenceRow("R", "", {"mAP": theirs})
        inside += one(seeds, row)["metrics"]["mAP"]["inside"]
    # 400 * 0.95 = 380, SD 4.4: four of these to either side
    assert 362 <= inside <= 398


def test_how_many_would_be_outside_by_chance() -> None:
    """0.05 of 20 rows is one; of these 20 the first is far off (0.28 -+ 0.00497, and not 0.3)."""
    arms: dict[tuple[str, ...], list[made.Seed]] = {(f"v{i}",): [0.30, 0.31] for i in range(20)}
    arms["v0",] = [0.279, 0.280, 0.281]
    study = made.study(arms, {"norm": [f"v{i}" for i in range(20)]}, ["v0"])
    row = ReferenceRow("B01", "1)", {"mAP": 0.3})
    note = beside(replace(study, arms=tuple(replace(a, reference=row) for a in study.arms)))["note"]
    assert note == (
        "1 of 20 numbers of theirs are not among our seeds; about 1 would be by chance alone, if"
        " nothing differed, and with two seeds the range is so wide that nearly every number is"
        " inside"
    )


def test_one_seed_tells_no_noise() -> None:
    got = one([0.31])["metrics"]["mAP"]
    assert (got["n"], got["low"], got["high"], got["expected"], got["inside"]) == (1, *[None] * 4)
    assert got["difference"] == pytest.approx(0.01)


def test_only_metrics_that_both_have() -> None:
    cells = [{"outcome": "converged", "metrics": {"mAP": 0.31, "AR1": 0.25, "AP75": 0.3}}]
    assert list(one(cells)["metrics"]) == ["mAP", "AR1"]
    undefined = [{"outcome": "converged", "metrics": {"mAP": 0.31, "AP50": -1.0, "AR1": math.nan}}]
    assert list(one(undefined)["metrics"]) == ["mAP"]


# ---------------------------------------------------------------- convergence


@pytest.mark.parametrize(
    ("seeds", "row", "agrees", "words"),
    [
        ([0.3, 0.3], ROW, True, "both converged (ours: 2 seeds; theirs: one run)"),
        (
            ["stalled", "diverged"],
            FAILED,
            True,
            "neither converged (ours: 2 seeds; theirs: one run)",
        ),
        (
            ["diverged"],
            ROW,
            False,
            "ours did not converge (1 seed), theirs converged (one run)",
        ),
        ([0.3], FAILED, False, "ours converged (1 seed), theirs did not converge (one run)"),
        (
            [0.3, "stalled", 0.3],
            ROW,
            None,
            "ours converged in 2 of 3 seeds; theirs converged (one run)",
        ),
        (
            [0.3, "oom", 0.3],
            ROW,
            True,
            "both converged (ours: 2 seeds, 1 without a result; theirs: one run)",
        ),
        ([None, "crashed"], ROW, None, "ours has no result yet; theirs converged (one run)"),
        ([None], FAILED, None, "ours has no result yet; theirs did not converge (one run)"),
    ],
)
def test_failures_are_data(
    seeds: list[Any], row: ReferenceRow, agrees: bool | None, words: str
) -> None:
    got = one(seeds, row)
    assert (got["agrees"], got["words"]) == (agrees, words)
    assert got["planned"] == len(seeds)


# ---------------------------------------------------------------- protocols


def test_what_is_not_known_never_matches() -> None:
    for ours, theirs in [({}, {}), ({"eval": "coco"}, {}), ({}, {"eval": "coco"})]:
        got = compare_protocols(ours, theirs)
        assert [p["what"] for p in got] == list(PROTOCOL)
        assert {p["match"] for p in got} == {None}
    assert one([0.3])["matches"] is None


def test_what_differs_is_named() -> None:
    common = {name: 1 for name in PROTOCOL if name != "data"}
    same = {p["what"]: p["match"] for p in compare_protocols(common, common)}
    assert {name for name, match in same.items() if match} == set(common)
    got = one([0.3], replace(ROW, protocol=common), {**common, "steps": 2})
    assert [p["title"] for p in got["protocol"] if p["match"] is False] == ["optimiser steps"]
    assert got["matches"] is False
    # 1/3 of a learning rate that was computed is 12 digits long in a plan
    assert compare_protocols({"lr": 0.0066666666666666}, {"lr": 0.02 / 3})[6]["match"] is True
    assert compare_protocols({"eval": "coco"}, {"eval": "report"})[1]["match"] is False


@pytest.mark.parametrize(
    ("ours", "match"),
    [
        ("shapes, 512 images of 128 pixels", False),
        ("COCO format, instances_train2017.json", False),
        ("COCO format, instances_train2014.json", None),  # a name is no proof
        ("COCO format", None),
    ],
)
def test_data_may_differ_by_name_and_never_match_by_it(ours: str, match: bool | None) -> None:
    (got, *_) = compare_protocols({"data": ours}, {"data": "COCO 2014"})
    assert (got["what"], got["match"]) == ("data", match)


def test_what_all_arms_differ_in_is_said_once() -> None:
    study = made.study({("a",): [0.3], ("b",): [0.3]}, {"norm": ["a", "b"]}, ["a"])
    theirs = {name: 1 for name in PROTOCOL if name != "data"}
    arms = [
        replace(arm, reference=replace(ROW, protocol=theirs), protocol={**theirs, **ours})
        for arm, ours in zip(study.arms, ({"lr": 2, "steps": 3}, {"lr": 2}), strict=True)
    ]
    got = beside(replace(study, arms=tuple(arms), reference="a paper"))
    assert got["source"] == "a paper"
    assert [p["what"] for p in got["differs"]] == ["data", "lr"]


def test_a_study_without_rows_has_nothing_beside_it() -> None:
    assert beside(made.study({("a",): [0.3]}, {"norm": ["a"]}, ["a"])) == {}


# ---------------------------------------------------------------- the seed report and its sweeps


def of_plan(name: str, **values: Any) -> Study:
    """The study of a seed sweep's plan: each arm with what its plan says, and made-up seeds."""
    plan = make_plan(SEEDS / f"{name}.yaml", need_data=False).to_json()
    cells = {cell["ref"]: cell for cell in plan["cells"] if cell["seed"] == 0}
    study = made.study({(id_,): values.get(id_, [0.3]) for id_ in cells}, {"row": [*cells]}, None)
    arms = []
    for arm in study.arms:
        cell = cells[arm.levels["row"]]
        row = read_row(cell["ref"], cell["reference"], plan["reference_protocol"])
        arms.append(replace(arm, reference=row, protocol=cell["protocol"]))
    return replace(study, arms=tuple(arms), reference=plan["reference"])


def test_a_sweep_of_the_report_s_rows_differs_in_what_its_base_says() -> None:
    """The base config names the weights; the data are not there, so nobody knows them."""
    got = beside(of_plan("norm_batch", D02=["diverged"], D07=[0.1]))
    assert [(p["what"], p["match"]) for p in got["differs"]] == [("data", None), ("weights", False)]
    by_row = {arm["id"]: arm for arm in got["arms"]}
    assert [p["match"] for p in by_row["B01"]["protocol"]].count(True) == len(PROTOCOL) - 2
    batches = {p["what"]: p["ours"] for p in by_row["D03"]["protocol"]}["batch"]
    assert batches == "2x2"
    assert (by_row["D02"]["agrees"], by_row["D07"]["agrees"]) == (True, False)
    assert by_row["B04"]["metrics"]["mAP"]["theirs"] == 0.319
    assert by_row["B04"]["remark"] == "AR_large is 0.634 in its section D08"


def test_every_row_that_a_seed_sweep_repeats_is_trained_as_the_row_was() -> None:
    """But for data, which are not there, and weights, which the bases say are others."""
    for file in SEEDS.glob("*.yaml"):
        for arm in beside(of_plan(file.stem))["arms"]:
            wrong = {p["what"] for p in arm["protocol"] if p["match"] is False} - {"weights"}
            assert not wrong, f"{file.name}: {arm['id']} differs in {wrong}"


def test_rows_have_the_protocol_of_the_report_but_where_they_say_otherwise() -> None:
    rows = seed_report().rows
    assert rows["B04"].row.protocol["batch"] == "4x3"
    assert rows["B04"].row.protocol["data"] == "COCO 2014"
    assert rows["B25"].row.protocol["data"] == "COCO 2017"
    assert rows["C01"].row.protocol["steps"] == 240_000
    assert rows["C01"].row.protocol["batch"] is None  # nobody knows
    assert rows["D19.640"].row.protocol["eval_short_side"] == 640


def test_it_is_in_the_document() -> None:
    study = of_plan("schedule", B04=[0.31, 0.33], B06=["stalled", 0.32])
    said = json.loads(json.dumps(document(study), allow_nan=False))["reference"]
    assert [arm["id"] for arm in said["arms"]] == ["B04", "B06"]
    assert said["arms"][1]["words"] == "ours converged in 1 of 2 seeds; theirs converged (one run)"
