"""Sweeps read from real MLflow stores: what the orchestrator wrote, and what users do to it."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import curves, reader, results
from dashboards.curves import MOST, Points, thinned
from dashboards.results import Reader, read_curves, read_studies, read_study
from dashboards.runs import UNHEARD
from dashboards.store import LedgerError, find_store, read_client
from dashboards.study import Study, Target
from detcore.result import Point
from orchestrator.sweep.seeds import Seeds
from tests.dashboards.ledgers import Start, empty_store, plan_of
from tests.orchestrator.server import Server

HOUR = 3_600_000


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture
def root(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(results, "FRESH_S", 0.0)
    monkeypatch.setattr(reader, "PLAN_S", 0.0)
    monkeypatch.setattr(reader, "REST", 0.0)
    return empty_store(tables, tmp_path / "project")


def standing(study: Study) -> dict[str, list[str]]:
    """The outcomes of each arm's seeds."""
    return {"/".join(arm.levels.values()): [c.outcome for c in arm.cells] for arm in study.arms}


# ---------------------------------------------------------------- what was written is read


def test_a_sweep_is_read_as_it_was_planned_and_ended(root: Path) -> None:
    plan = plan_of(root)
    start = Start(root, plan, "small.yaml --only x")
    began = time.time()
    for number in range(len(plan.cells)):
        cell = plan.cells[number].cell
        if cell.axes == {"norm": "gn", "batch": 1}:
            start.train(number, "diverged", step=40, reason="the loss is NaN")
        elif cell.axes["norm"] != "evonorm_s0" or cell.seed == 0:
            start.train(number, 0.41 if cell.seed else 0.4, gpu_hours=0.25)
    start.end()

    study = read_study("small", root=root)
    assert (study.name, study.state, study.question) == ("small", "finished", "Which norm?")
    assert study.target == Target("AP50", "max", 0.01)
    assert [(a.name, a.levels, a.baseline) for a in study.axes] == [
        ("norm", ("gn", "bn", "evonorm_s0"), "bn"),  # in the order of the file
        ("batch", ("4", "1"), "4"),
    ]
    assert standing(study) == {
        "gn/4": ["converged"] * 2,
        "gn/1": ["diverged"] * 2,
        "bn/4": ["converged"] * 2,
        "bn/1": ["converged"] * 2,
        "evonorm_s0/4": ["converged", "waiting"],
        "evonorm_s0/1": ["converged", "waiting"],
    }
    assert study.baseline is not None
    base = study.arm(study.baseline)
    assert (base.label, base.values("AP50")) == ("norm=bn batch=4", [0.4, 0.41])
    assert [c.seed for c in base.cells] == [0, 1]
    assert base.differences == {}
    other = study.arms[1]
    assert other.differences == {"model.neck.norm_act": "gn", "train.batch_per_gpu": "1"}
    failed = other.cells[0]
    assert (failed.step, failed.reason, failed.value("AP50")) == (40, "the loss is NaN", None)
    first = base.cells[0]
    assert first.metrics == {"AP50": 0.4, "mAP": 0.2, "gpu_hours": 0.25}
    assert first.gpus == 2 * 0.5
    assert (first.sweep, first.attempts, first.folder) == ("small", 1, str(root))
    assert first.tags["data.fingerprint"] == plan.cells[0].fingerprint
    assert first.began is not None
    assert first.ended is not None
    assert began - 1 <= first.began <= first.ended <= time.time() + 1
    assert study.links == {"command": start.ledger.ui_command()}
    assert first.links == {}  # nothing serves its page
    assert study.tags["sweep.variant"] == plan.variant

    (listed,) = read_studies(root)
    assert (listed.name, listed.arguments, listed.state) == (
        "small",
        "small.yaml --only x",
        "finished",
    )
    assert (listed.planned, listed.settled) == (12, 10)
    assert listed.outcomes == {"converged": 8, "diverged": 2, "waiting": 2}
    assert listed.gpu_hours == pytest.approx(8 * 0.25)
    assert listed.updated == study.updated
    assert listed.remark == ""


def test_levels_read_as_in_the_file_and_an_arm_without_an_axis_has_a_dash(root: Path) -> None:
    plan = plan_of(
        root,
        axes={
            "freeze": {"values": [True, False]},
            "norm": {"path": "model.neck.norm_act", "values": ["gn", "bn"]},
            "rate": {"path": "optim.lr", "values": [0.01, 0.1], "when": "norm == 'gn'"},
        },
        set={"train.steps": "=(100 if freeze else 200)"},
        baseline={"freeze": True, "norm": "bn"},
        seeds=[0],
    )
    Start(root, plan).end()
    study = read_study("small", root=root)
    assert [axis.levels for axis in study.axes] == [
        ("true", "false"),
        ("gn", "bn"),
        ("0.01", "0.1", "-"),
    ]
    assert [axis.baseline for axis in study.axes] == ["true", "bn", "-"]
    assert set(standing(study)) == {
        f"{a}/{b}" for a in ("true", "false") for b in ("gn/0.01", "gn/0.1", "bn/-")
    }
    assert study.baseline is not None
    assert list(study.arm(study.baseline).levels.values()) == ["true", "bn", "-"]


def test_a_cell_counts_whichever_sweep_trained_it(root: Path) -> None:
    plan = plan_of(root)
    first = Start(root, plan)
    for number in range(len(plan.cells)):
        first.train(number, 0.5, gpu_hours=1.0)
    first.end()
    axes = {"norm": {"path": "model.neck.norm_act", "values": ["bn", "frozen_bn"]}}
    second = Start(root, plan_of(root, name="other", axes=axes, baseline={"norm": "bn"}))
    shared = {p.id for p in plan.cells} & {p.id for p in second.plan.cells}
    study = read_study("other", root=root)
    found = {cell.id: cell for cell in study.cells}
    assert {id for id, cell in found.items() if cell.outcome == "converged"} == shared
    assert {found[id].sweep for id in shared} <= {"small"}
    by_name = {listed.name: listed for listed in read_studies(root)}
    assert by_name["other"].state == "running"
    assert by_name["other"].settled == len(shared)


def test_the_newest_result_decides_else_the_newest_attempt(root: Path) -> None:
    start = Start(root, plan_of(root, seeds=[0]))
    start.train(0, "crashed", reason="boom")
    start.train(0, 0.3, attempt=2)
    start.train(0, "oom", attempt=3)  # of a later start with --fresh
    start.train(1, "oom")
    start.train(1, "timeout", attempt=2, reason="too slow")
    start.train(2, 0.2)
    start.train(2, 0.25, attempt=2)
    cells = {cell.id: cell for cell in read_study("small", root=root).cells}
    a, b, c = (cells[p.id] for p in start.plan.cells[:3])
    assert (a.outcome, a.value("AP50"), a.attempts) == ("converged", 0.3, 3)
    assert (b.outcome, b.reason, b.attempts) == ("timeout", "too slow", 2)
    assert (c.value("AP50"), c.attempts) == (0.25, 2)


def test_an_attempt_left_open_runs_as_long_as_its_sweep_does(root: Path) -> None:
    start = Start(root, plan_of(root))
    start.begin(0)
    watch = Reader(root)
    (cell, *_) = watch.study("small").cells
    assert (cell.outcome, cell.ended) == ("running", None)
    start.ledger._live.set_terminated(start.run, "KILLED")
    study = watch.study("small")
    (cell, *_) = study.cells
    assert (study.state, cell.outcome, cell.reason) == ("interrupted", "lost", UNHEARD)

    other = Start(root, replace(plan_of(root), variant="another"))
    other.begin(1)
    study = watch.study("small", start.plan.variant)  # it has ended; who trains the cell has not
    assert study.state == "interrupted"
    assert {c.outcome for c in study.cells} == {"lost", "running", "waiting"}


def test_further_seeds_appear_when_they_are_begun(root: Path) -> None:
    plan = plan_of(root, seeds={"list": [0, 1], "extend_to": 4})
    assert len(plan.more) == 6 * 2
    start = Start(root, plan)
    third = next(p for p in plan.more if p.cell.seed == 2 and p.cell.axes["norm"] == "gn")
    start.train(plan.info(third), 0.6)
    study = read_study("small", root=root)
    assert sum(len(arm.cells) for arm in study.arms) == 13
    (grown,) = (arm for arm in study.arms if len(arm.cells) == 3)
    assert grown.label == third.cell.arm_label
    assert [(c.seed, c.outcome) for c in grown.cells][2] == (2, "converged")
    (listed,) = read_studies(root)
    assert (listed.planned, listed.settled) == (13, 1)
    assert isinstance(plan.sweep.replicates, Seeds)


def test_cells_that_choose_values_are_not_in_the_table(root: Path) -> None:
    tune = {"nuisance": {"lr_mult": [0.5, 1, 2]}, "default": {"lr_mult": 1}, "share": 0.5}
    rate = {"set": {"optim.lr": "=0.01 * lr_mult"}}
    plan = plan_of(root, tune={**tune, "per": ["norm"]}, **rate)
    assert plan.tuning is not None
    stage = Start(root, plan.tuning)
    for number in range(len(plan.tuning.cells)):
        stage.train(number, 0.5)
    study = read_study("small", root=root)
    assert study.arms == ()
    assert study.cautions[0].startswith("the cells that choose values are run first")
    (listed,) = read_studies(root)
    assert listed.settled == listed.planned == len(plan.tuning.cells)

    waiting = Start(root, plan)  # the plan, in which no value is chosen yet
    study = read_study("small", root=root)
    assert {c.outcome for c in study.cells} == {"waiting"}
    chosen = plan.asked(waiting.ledger.settled)
    second = Start(root, chosen)
    for number in range(len(chosen.cells)):
        second.train(number, 0.5)
    study = read_study("small", root=root)
    assert len(list(study.cells)) == len(chosen.cells) == 12
    assert {c.outcome for c in study.cells} == {"converged"}
    assert "lr_mult" not in {axis.name for axis in study.axes}


def test_rows_of_another_report_stand_with_their_arms(root: Path) -> None:
    plan = plan_of(root, seeds=[0])
    document = plan.to_json()
    document["reference"] = "a report"
    document["reference_protocol"] = {"data": "COCO 2014", "steps": 90000}
    row = {"label": "GN + 4", "converged": False, "metrics": {}, "remark": "after 2k steps"}
    document["cells"][0] |= {"ref": "B07", "reference": row, "protocol": {"steps": 100}}
    document["excluded"] = [{"label": "norm=in", "axes": {"norm": "in"}, "why": "no"}]
    document["cautions"] = ["few images"]
    Start(root, plan, **document).end()
    study = read_study("small", root=root)
    arm = study.arms[0]
    assert arm.reference is not None
    assert (arm.reference.id, arm.reference.label, arm.reference.converged) == (
        "B07",
        "GN + 4",
        False,
    )
    assert arm.reference.remark == "after 2k steps"
    assert arm.reference.protocol["steps"] == 90000
    assert arm.protocol == {"steps": 100}
    assert {a.reference for a in study.arms[1:]} == {None}
    assert (study.reference, study.cautions) == ("a report", ("few images",))
    assert study.excluded == ({"label": "norm=in", "axes": {"norm": "in"}, "why": "no"},)


# ---------------------------------------------------------------- which sweep


def test_a_sweep_is_named_by_its_name_or_its_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    Start(root, plan_of(root)).end()
    assert read_study("small.yaml").name == "small"
    with pytest.raises(LedgerError, match=r"no sweep 'smal' is on record .*; nearest: 'small'$"):
        read_study("smal")
    with pytest.raises(LedgerError, match=r"no sweep 'x' is on record .*; on record: 'small'$"):
        read_study("x")
    for text, said in (
        (None, "No such file"),
        ("[", "not a YAML file"),
        ("a: 1", "no `name`"),
        ("name: 3", "no `name`"),
    ):
        file = root / "other.yaml"
        if text is not None:
            file.write_text(text)
        with pytest.raises(LedgerError, match=said) as caught:
            read_study("other.yaml")
        assert "\n" not in str(caught.value)
    with pytest.raises(LedgerError, match=r"^other.yml: No such file"):
        read_study("other.yml")


def test_of_several_variants_the_last_at_work_is_meant(root: Path) -> None:
    plan = plan_of(root)
    for variant, arguments in (("aa1", "--data /x"), ("aa2", ""), ("bb", "--set seeds=[0]")):
        Start(root, replace(plan, variant=variant), arguments).end()
    running = Start(root, replace(plan, variant="aa1"), "--data /y")  # the run of its last start
    assert read_study("small", root=root).variant == "aa1"
    running.end()
    time.sleep(0.01)
    Start(root, replace(plan, variant="bb"), "--set seeds=[0]").end("FAILED")
    last = read_study("small", root=root)
    assert (last.variant, last.state) == ("bb", "failed")
    assert read_study("small", "aa2", root).variant == "aa2"
    assert read_study("small", running.run, root).variant == "aa1"
    assert len(read_studies(root)) == 3
    with pytest.raises(LedgerError, match=r"no variant 'c'; it has .*bb \(--set seeds=\[0\]\)"):
        read_study("small", "c", root)
    with pytest.raises(LedgerError, match="'aa' begins several variants of 'small'"):
        read_study("small", "aa", root)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", 'it\'s "so" `x`', "прогон \\textbf{1} & 2", "a" * 240]
)
def test_a_name_may_be_anything(name: str, root: Path) -> None:
    plan = plan_of(root, seeds=[0])
    plan = replace(plan, sweep=replace(plan.sweep, name=name))
    start = Start(root, plan)
    start.train(0, "crashed", reason=name)
    start.end()
    study = read_study(name, root=root)
    assert study.name == name
    assert study.arms[0].cells[0].reason == name
    assert [listed.name for listed in read_studies(root)] == [name]


# ---------------------------------------------------------------- what users do to a store


def plan_file(root: Path, run: str) -> Path:
    return root / "mlruns" / "artifacts" / run / "artifacts" / "plan.json"


DAMAGE = [
    *("", "{", "[]", "3", "null", '{"cells": 3}', '{"cells": [1]}', '{"axes": [], "cells": []}'),
    '{"cells": [{"id": "a", "label": "x", "seed": "one", "axes": {}}]}',
    '{"cells": [], "axes": {"a": 5}}',
    "[" * 100_000,
    '{"cells": [], "axes": {}, "metric": {"min_effect": 1' + "0" * 400 + "}}",
    '{"cells": [{"id": "a", "label": "x", "seed": Infinity, "axes": {}}]}',
]


def test_a_plan_is_kept_while_its_artifact_cannot_be_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.reader.PLAN_S", 0.0)
    monkeypatch.setattr("dashboards.results.FRESH_S", 0.0)
    start = Start(root, plan_of(root))
    start.train(0, 0.4)
    reader = Reader(root)
    before = reader.study("small")
    file = plan_file(root, start.run)
    file.rename(file.with_suffix(".away"))
    assert reader.study("small") == before
    assert len(list(before.cells)) == 12


@pytest.mark.parametrize("damage", [None, *DAMAGE])
def test_without_a_plan_the_study_is_what_was_begun(root: Path, damage: str | None) -> None:
    start = Start(root, plan_of(root))
    numbers = {p.cell.label: n for n, p in enumerate(start.plan.cells)}
    for arm in ("norm=gn batch=4", "norm=bn batch=4"):
        start.train(numbers[f"{arm} seed=0"], 0.4)
    start.train(numbers["norm=gn batch=4 seed=1"], "oom")
    start.end()
    file = plan_file(root, start.run)
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    study = read_study("small", root=root)
    assert standing(study) == {"gn/4": ["converged", "oom"], "bn/4": ["converged"]}
    assert study.arms[0].label == "norm=gn batch=4"
    assert [(a.name, a.levels, a.baseline) for a in study.axes] == [
        ("norm", ("gn", "bn"), None),
        ("batch", ("4",), None),
    ]
    assert study.baseline is None
    (caution,) = study.cautions
    assert start.run in caution
    (listed,) = read_studies(root)
    assert (listed.planned, listed.settled, listed.remark) == (3, 2, caution)


def test_a_sweep_without_cells_and_without_reachable_files(root: Path) -> None:
    start = Start(root, plan_of(root))
    start.end("KILLED")
    shutil.rmtree(root / "mlruns" / "artifacts")
    study = read_study("small", root=root)
    assert (study.state, study.arms, study.axes) == ("interrupted", (), ())
    (listed,) = read_studies(root)
    assert (listed.planned, listed.outcomes, listed.gpu_hours) == (0, {}, 0.0)
    assert read_curves(study, root=root) == {}


def test_numbers_that_are_none_are_not_there(root: Path) -> None:
    start = Start(root, plan_of(root, seeds=[0]))
    start.train(0, 0.4, gpu_hours=math.nan, train_hours=math.inf, images_per_s=-math.inf)
    cell = read_study("small", root=root).arms[0].cells[0]
    assert cell.metrics == {"AP50": 0.4, "mAP": 0.2}  # MLflow has 1.8e308 for an infinity
    (listed,) = read_studies(root)
    assert listed.gpu_hours == 0.0


def test_the_ap_of_classes_is_read_and_what_anyone_wrote_into_a_tag_does_no_harm(
    root: Path,
) -> None:
    start = Start(root, plan_of(root, seeds=[0]))
    classes = json.dumps({"cat": 0.5, "<dog>": -1.0, "x": math.nan, "y": "z", "t": True})
    start.train(0, 0.4, tags={"cell.class_AP": classes, "ray.url": "javascript:alert(1)"})
    start.train(1, 0.4, tags={"cell.class_AP": classes[:20], "cell.attempt": "many"})
    ray = {"ray.url": "http://head:8265/#/actors/1"}
    start.train(2, 0.4, tags={"cell.class_AP": "[1]", "ray.stays": "true", **ray})
    start.train(5, 0.4, tags={"ray.stays": "false", **ray})  # that dashboard ended with the sweep
    handle = start.train(3, 0.4)
    start.ledger._live.set_tag(handle, "cell.outcome", "wonderful")
    start.ledger._live.set_tag(handle, "resources.workers", "two")
    start.ledger._live.delete_tag(handle, "cell.seed")
    bare = start.ledger._live.create_run(start.ledger.experiment_id, tags={"run.kind": "cell"})
    start.ledger._live.set_tag(bare.info.run_id, "cell.id", start.plan.cells[4].id)
    start.ledger._live.set_terminated(bare.info.run_id)
    start.ledger._live.create_run(start.ledger.experiment_id, tags={"run.kind": "cell"})
    cells = {cell.id: cell for cell in read_study("small", root=root).cells}
    a, b, c, d, e = (cells[p.id] for p in start.plan.cells[:5])
    assert a.metrics == {"AP50": 0.4, "mAP": 0.2, "AP: cat": 0.5, "AP: <dog>": -1.0}
    assert a.links == {}
    assert a.value("AP: <dog>") is None  # no such object in the data
    assert b.metrics == {"AP50": 0.4, "mAP": 0.2}
    assert b.attempts == 1
    assert c.links == {"ray": "http://head:8265/#/actors/1"}
    assert cells[start.plan.cells[5].id].links == {}
    assert (d.outcome, d.gpus) == ("lost", 0.0)
    assert "'wonderful'" in d.reason
    assert (e.outcome, e.reason) == ("lost", "its run in MLflow is closed with no outcome")


def test_the_newest_state_is_seen_also_of_what_a_user_deletes(root: Path) -> None:
    start = Start(root, plan_of(root, seeds=[0]))
    kept = Start(root, plan_of(root, name="kept", seeds=[0]))
    live = start.ledger._live
    watch = Reader(root)

    def outcome(number: int) -> str:
        cells = {cell.id: cell for cell in watch.study("small").cells}
        return cells[start.plan.cells[number].id].outcome

    assert [outcome(n) for n in (0, 1)] == ["waiting"] * 2
    first = start.begin(0)
    start.ledger.flush()
    assert outcome(0) == "running"
    start.ledger.finish(first, "converged", "", 1, {"AP50": 0.5})
    assert outcome(0) == "converged"
    live.set_terminated(first, end_time=int(time.time() * 1000) - 100 * HOUR)
    assert outcome(0) == "converged"
    live.delete_run(first)
    assert outcome(0) == "waiting"
    live.restore_run(first)
    assert outcome(0) == "converged"
    live.delete_run(start.run)
    with pytest.raises(LedgerError, match=r"no sweep 'small'"):
        watch.study("small")
    live.restore_run(start.run)
    assert outcome(0) == "converged"
    live.delete_experiment(start.ledger.experiment_id)
    assert [listed.name for listed in watch.studies()] == ["kept"]
    assert {c.outcome for c in watch.study("kept").cells} == {"waiting"}
    live.restore_experiment(start.ledger.experiment_id)
    assert outcome(0) == "converged"
    assert {c.outcome for c in watch.study("kept").cells} == {"converged", "waiting"}
    kept.end()


# ---------------------------------------------------------------- what is asked for


class Counted:
    """MLflow's client, which counts the runs that it gives out."""

    def __init__(self, client: Any) -> None:
        self.client, self.runs = client, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def search_runs(self, *args: Any) -> Any:
        page = self.client.search_runs(*args)
        self.runs += len(page)
        return page


def test_what_has_ended_is_asked_for_once(root: Path) -> None:
    start = Start(root, plan_of(root))
    now = int(time.time() * 1000)
    for number in range(10):
        handle = start.train(number, 0.1 * number)
        start.ledger._live.set_terminated(handle, "FINISHED", now - 3 * HOUR)
    watch = Reader(root)
    counted = Counted(watch._runs.client)
    watch._runs._client = counted
    before = watch.study("small")
    assert counted.runs == 11  # ten cells, one sweep
    counted.runs = 0
    assert watch.study("small") is before
    assert counted.runs == 1  # the sweep, which runs
    handle = start.begin(10)
    start.ledger.finish(handle, "stalled")
    start.ledger._live.set_terminated(handle, "FINISHED", now - HOUR // 12)  # told late
    late = start.begin(11)
    start.ledger.finish(late, "converged", "", 1, {"AP50": 0.9})
    counted.runs = 0
    after = {cell.id: cell for cell in watch.study("small").cells}
    assert after[start.plan.cells[10].id].outcome == "stalled"
    assert after[start.plan.cells[11].id].value("AP50") == 0.9
    assert counted.runs == 3
    assert list(after.values()) == list(read_study("small", root=root).cells)


def test_many_threads_see_the_same(root: Path) -> None:
    start = Start(root, plan_of(root))
    for number in range(6):
        start.train(
            number, 0.5, curve=[Point(i, 1.7e9 + i, {"loss/total": i / 7}) for i in range(9)]
        )
    start.end()
    watch, seen, errors = Reader(root), [], []

    def look() -> None:
        try:
            study = watch.study("small")
            seen.append((study, watch.studies(), watch.curves(study)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(seen) == 8
    assert all(found == seen[0] for found in seen)


# ---------------------------------------------------------------- curves


def test_curves_end_where_the_run_died(root: Path) -> None:
    start = Start(root, plan_of(root, seeds=[0]))

    def points(values: list[float], first: int = 0, clock: float = 1.7e9) -> list[Point]:
        return [
            Point(i, clock + i, {"loss/total": value, "grad_norm": 1.0})
            for i, value in enumerate(values, first)
        ]

    handle = start.begin(0)
    start.ledger.log_points(handle, points([3.0, 2.0, math.inf, math.nan]))
    start.ledger.finish(handle, "diverged", "", 3)
    handle = start.begin(1)
    start.ledger.log_points(handle, points([3.0, 2.5, 2.0]))
    start.ledger.log_points(handle, points([2.4, 1.9, 1.5], 1, 1.8e9))  # again from a checkpoint
    start.ledger.finish(handle, "converged", "", 4, {"AP50": 0.5})
    gone = start.train(2, 0.5, curve=points([1.0]))
    study = read_study("small", root=root)
    a, b, c = (p.id for p in start.plan.cells[:3])
    watch = Reader(root)
    found = watch.curves(study)
    assert found[a] == {"loss/total": [[0, 3.0], [1, 2.0], [2, None], [3, None]]}
    assert found[b]["loss/total"] == [[0, 3.0], [1, 2.4], [2, 1.9], [3, 1.5]]
    assert found[b]["AP50"] == [[4, 0.5]]  # the sweep's metric
    assert found[c] == {"loss/total": [[0, 1.0]], "AP50": [[100, 0.5]]}
    assert set(read_curves(study, ["grad_norm"], root)[a]) == {"grad_norm"}
    start.ledger._live.delete_run(gone)
    assert watch.curves(study) == found


def test_curves_in_use_are_read_once_however_many_they_are(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "KEPT", 3)
    start = Start(root, plan_of(root))
    for number in range(6):
        points = [Point(i, 1.7e9 + i, {"loss/total": number + i / 7}) for i in range(9)]
        start.train(number, 0.5, curve=points)
    watch = Reader(root)
    study = watch.study("small")
    found = watch.curves(study)
    assert sum(map(len, found.values())) == 12  # of 6 cells, the loss and AP50
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as store:
        store.execute("ALTER TABLE metrics RENAME TO away")  # nothing can be read again
        store.commit()
        assert watch.curves(study) == found
        monkeypatch.setattr(curves, "IN_USE_S", 0.0)  # from now on only KEPT counts
        assert watch.curves(study) == found
        with pytest.raises(LedgerError):
            watch.curves(study)
        store.execute("ALTER TABLE away RENAME TO metrics")
        store.commit()
    assert watch.curves(study) == found


def values() -> st.SearchStrategy[list[float | None]]:
    number = st.floats(-1e6, 1e6, allow_nan=False)
    return st.lists(st.one_of(number, number, number, st.none()), max_size=1200)


@given(values(), st.integers(10, 300))
def test_a_thinned_curve_keeps_its_shape(drawn: list[float | None], most: int) -> None:
    points: Points = [[3 * i, value] for i, value in enumerate(drawn)]
    thin = thinned(points, most)
    steps = [p[0] for p in thin]
    assert all(p in points for p in thin)
    assert steps == sorted(set(steps))  # type: ignore[type-var]
    assert len(thin) <= 1.5 * most + 4
    if len(points) <= most:
        assert thin == points
    if not points:
        return
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    numbers = [v for _, v in points if v is not None]
    kept = [v for _, v in thin if v is not None]
    if numbers:
        assert (min(kept), max(kept)) == (min(numbers), max(numbers))
    assert (None in drawn) == (None in [v for _, v in thin])
    last = next((i for i in reversed(range(len(drawn))) if drawn[i] is not None), None)
    if last is not None and last + 1 < len(drawn):  # it ends with what is no number: both sides
        assert points[last] in thin
        assert points[last + 1] in thin


def test_a_long_curve_comes_as_about_200_points() -> None:
    thin = thinned([[i, math.sin(i / 50) + 1e3 * (i == 7777)] for i in range(10_000)])
    assert MOST / 2 < len(thin) <= MOST
    assert [7777, pytest.approx(1e3, abs=2)] in thin


# ---------------------------------------------------------------- a server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server")
    monkeypatch.setattr(results, "FRESH_S", 0.0)
    monkeypatch.setattr(reader, "REST", 0.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.kill()


def test_a_server_is_read_and_one_that_does_not_answer_is_one_line(
    server: Server, tmp_path: Path
) -> None:
    start = Start(tmp_path, plan_of(tmp_path, seeds=[0]))
    start.train(
        0, 0.5, curve=[Point(i, 1.7e9 + i, {"loss/total": 1 / (i + 1)}) for i in range(500)]
    )
    running = start.begin(1)
    watch = Reader(tmp_path)
    study = watch.study("small")
    assert len(study.arms) == 6  # the plan comes from the server
    cells = {cell.id: cell for cell in study.cells}
    a, b = (cells[p.id] for p in start.plan.cells[:2])
    page = f"{server.uri}/#/experiments/{a.experiment_id}/runs/{a.run_id}"
    assert a.links["mlflow"] == f"{page}?workflowType=machine_learning"
    assert study.links["mlflow"].startswith(f"{server.uri}/#/experiments/{a.experiment_id}/runs/")
    assert b.outcome == "running"
    start.ledger.finish(running, "oom")
    start.ledger._live.delete_run(a.run_id)
    cells = {cell.id: cell for cell in watch.study("small").cells}
    assert [cells[p.id].outcome for p in start.plan.cells[:2]] == ["waiting", "oom"]
    start.ledger._live.restore_run(a.run_id)
    study = watch.study("small")
    curve = watch.curves(study)[a.id]["loss/total"]
    assert (curve[0], curve[-1]) == ([0, 1.0], [499, 1 / 500])
    assert len(curve) <= MOST
    server.kill()
    for ask in (watch.studies, lambda: watch.study("small"), lambda: read_curves(study)):
        with pytest.raises(LedgerError, match="does not answer") as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert read_client(find_store()) is not None
