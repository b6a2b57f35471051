"""What tuning cells choose, and a plan in two stages: with results by hand, and on a real store
with the commands that look at it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import show, status, why
from orchestrator.planning.history import read_history
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.planning.plan_table import table_of
from orchestrator.planning.preflight import check_effects
from orchestrator.planning.reconcile import reconcile
from orchestrator.planning.tuning import tuning_json, tuning_notes, tuning_text
from orchestrator.sweep.spec import SweepError
from orchestrator.tracking.attempts import open_records
from orchestrator.tracking.ledger import open_ledger
from orchestrator.tracking.runs import Settled
from orchestrator.tracking.store import search_cells
from orchestrator.tracking.table import Row
from orchestrator.tracking.views import view_states
from tests.orchestrator.test_preflight import BASE

SWEEP: dict[str, Any] = {
    "version": 1,
    "name": "tuned",
    "axes": {
        "norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]},
        "batch": {"path": "train.batch_per_gpu", "values": [1, 2]},
    },
    "baseline": {"norm": "bn", "batch": 2},
    "set": {"optim.lr": "=0.01 * lr_mult", "train.steps": 40},
    "seeds": [0, 1],
    "tune": {"nuisance": {"lr_mult": [0.5, 1, 2]}, "per": ["norm", "batch"]},
}


def make(folder: Path, changes: Mapping[str, Any] | None = None, **options: Any) -> Plan:
    file = folder / "sweep.yaml"
    data = {key: value for key, value in {**SWEEP, **(changes or {})}.items() if value is not None}
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return make_plan(file, root=folder, **options)


def ended(score: float | None = None, outcome: str = "converged") -> Settled:
    return Settled("run", outcome, "", 10, {} if score is None else {"mAP": score}, {}, "x")


def results(plan: Plan, scores: Mapping[tuple[Any, ...], Iterable[Any]]) -> dict[str, Settled]:
    """Of each group in `scores` how its candidates ended, in the order of the list: a score, an
    outcome, or None for not at all."""
    assert plan.tuning is not None
    by_group: dict[tuple[Any, ...], list[str]] = {}
    for p in plan.tuning.whole().cells:
        by_group.setdefault((p.cell.axes["norm"], p.cell.axes["batch"]), []).append(p.id)
    out = {}
    for group, found in scores.items():
        for id_, how in zip(by_group[group], found, strict=True):
            if how is not None:
                out[id_] = ended(outcome=how) if isinstance(how, str) else ended(how)
    return out


def values(plan: Plan) -> dict[tuple[str, ...], float | None]:
    return {c.group: c.values["lr_mult"] if c.values else None for c in plan.choices}


WORKED = {
    ("bn", 1): (0.30, 0.20, 0.10),  # the smallest, so at the edge
    ("bn", 2): (0.20, 0.30, 0.25),  # inside
    ("gn", 1): ("diverged", "stalled", "diverged"),  # none: the default
    ("gn", 2): (0.20, None, 0.40),  # not yet
}


def test_choices_worked_by_hand(tmp_path: Path) -> None:
    plan = make(tmp_path)
    told = plan.tuned(results(plan, WORKED))
    assert values(told) == {
        ("bn", "1"): 0.5,
        ("bn", "2"): 1,
        ("gn", "1"): 1,
        ("gn", "2"): None,
    }
    assert [c.failed for c in told.choices] == [False, False, True, False]
    assert [c.edges for c in told.choices] == [("lr_mult",), (), (), ()]
    lr = {(p.cell.axes["norm"], p.cell.axes["batch"]): p.cell.config.optim.lr for p in told.cells}
    assert lr == {("bn", 1): 0.005, ("bn", 2): 0.01, ("gn", 1): 0.01, ("gn", 2): 0.01}
    assert {p.cell.arm_label for p in told.cells if p.waits} == {"norm=gn batch=2"}
    assert [p.cell.arm_label for p in told.todo] == [
        "norm=bn batch=1",
        "norm=bn batch=2",
        "norm=gn batch=1",
    ] * 2
    assert tuning_notes(told) == [
        "lr_mult tuned over 3 values per norm × batch, each with 25 % of the steps under seed "
        "1000, by mAP on held-out training images (10 %): bn,1 -> 0.5; bn,2 -> 1; gn,1 -> 1",
        "1 group of arms waits for lr_mult: 2 of 3 tuning cells have settled",
        "caution: the best lr_mult is at the edge of its list for bn,1 (0.5): widen the list",
        "caution: no value of lr_mult converged for gn,1: the default 1 stands there",
    ]


@pytest.mark.parametrize(
    ("candidates", "default", "scores", "best"),
    [
        ([0.5, 1, 2], 1, (0.3, 0.3, 0.3), 1),  # all equal: the default
        ([0.5, 1, 2], 1, (0.3, 0.1, 0.3), 0.5),  # as near on both sides: the smaller
        ([0.25, 0.5, 1, 2], 2, (0.3, 0.1, 0.3, 0.1), 1),  # the nearer to the default
        ([0.5, 1, 2], 1, ("diverged", "stalled", 0.01), 2),
        ([0.5, 1, 2], 1, (-1.0, 0.0, -1.0), 1),  # -1 is pycocotools' word for undefined
        ([0.5, 1, 2], 1, (float("nan"), 0.1, 0.05), 1),
        ([0.5, 1, 2], 2, (-1.0, "stalled", "diverged"), 2),  # none: the default
    ],
)
def test_ties_and_failures(
    tmp_path: Path, candidates: list[float], default: float, scores: tuple[Any, ...], best: float
) -> None:
    tune = {
        **SWEEP["tune"],
        "nuisance": {"lr_mult": candidates},
        "default": {"lr_mult": default},
    }
    plan = make(tmp_path, {"tune": tune})
    assert values(plan.tuned(results(plan, {("bn", 2): scores})))["bn", "2"] == best


def test_a_result_that_says_diverged_does_not_count_by_its_score(tmp_path: Path) -> None:
    plan = make(tmp_path)
    found = results(plan, {("bn", 2): (0.1, 0.2, 0.3)})
    best = max(found, key=lambda id_: found[id_].metrics["mAP"])
    found[best] = Settled("run", "diverged", "", 3, {"mAP": 0.9}, {}, "x")
    assert values(plan.tuned(found))["bn", "2"] == 1


def test_the_smallest_is_best_where_the_sweep_says_so(tmp_path: Path) -> None:
    plan = make(tmp_path, {"metric": {"name": "mAP", "goal": "min"}})
    assert values(plan.tuned(results(plan, {("bn", 2): (0.3, 0.1, 0.2)})))["bn", "2"] == 1
    other = {**SWEEP["tune"], "select_on": "AP50"}
    plan = make(tmp_path, {"metric": {"name": "mAP", "goal": "min"}, "tune": other})
    assert plan.sweep.tune is not None
    assert plan.sweep.tune.goal == "max"


ALL = dict.fromkeys(WORKED, (0.2, 0.3, 0.1))


def test_ids_are_known_when_the_tuning_has_settled(tmp_path: Path) -> None:
    plan = make(tmp_path)
    assert plan.tuning is not None
    assert len(plan.cells) == 8
    assert all(p.waits for p in plan.cells)
    assert plan.todo == []
    assert len(plan.tuning.todo) == 12
    assert [c["id"] for c in plan.to_json()["cells"]] == [None] * 8
    assert len(set(plan.ids)) == 8
    found = results(plan, ALL)
    told = plan.asked(lambda ids: {id_: found[id_] for id_ in ids if id_ in found})
    assert len(told.todo) == 8
    assert told.tuning is not None
    assert told.tuning.todo == []
    assert [c["id"] for c in told.to_json()["cells"]] == told.ids
    # the default was best everywhere: what is trained is what the sweep without `tune` trains
    plain = make(tmp_path, {"set": {"optim.lr": 0.01, "train.steps": 40}, "tune": None})
    assert told.ids == plain.ids
    # what was trained is found again, and nothing is left to do
    for p in told.cells:
        found[p.id] = ended(0.4)
    again = make(tmp_path).asked(lambda ids: {id_: found[id_] for id_ in ids if id_ in found})
    assert (again.ids, again.todo) == (told.ids, [])
    assert again.tuning is not None
    assert again.tuning.todo == []


def test_another_choice_makes_other_cells_of_its_group_only(tmp_path: Path) -> None:
    plan = make(tmp_path)
    one = plan.tuned(results(plan, ALL))
    other = plan.tuned(results(plan, {**ALL, ("gn", 1): (0.2, 0.3, 0.4)}))
    differing = {
        a.cell.arm_label for a, b in zip(one.cells, other.cells, strict=True) if a.id != b.id
    }
    assert differing == {"norm=gn batch=1"}


def test_only_tunes_what_it_keeps(tmp_path: Path) -> None:
    plan = make(tmp_path, only="norm == 'gn' and seed == 0")
    assert plan.tuning is not None
    assert (len(plan.cells), len(plan.tuning.cells)) == (2, 6)
    whole = make(tmp_path)
    assert whole.tuning is not None
    assert set(plan.tuning.ids) < set(whole.tuning.ids)
    assert plan.whole().tuning.ids == whole.tuning.ids  # type: ignore[union-attr]
    told = plan.tuned(results(plan, ALL))
    assert [p.cell.label for p in told.todo] == ["norm=gn batch=1 seed=0", "norm=gn batch=2 seed=0"]
    assert len(tuning_json(told)["groups"]) == 2
    assert len(tuning_json(told.whole())["groups"]) == 4


def test_what_a_plan_shows(tmp_path: Path) -> None:
    plan = make(tmp_path)
    assert plan.headline() == (
        "tuned\n12 tuning cells first (4 groups of arms): 0 settled before, 12 to run\n"
        "8 cells after (4 arms, 2 seeds): 0 settled before, 8 to run; 8 of 1 × 1 CPU"
    )
    assert plan.tuning is not None
    assert plan.tuning.headline() == (
        "tuned\n12 tuning cells (12 candidates, 1 seed): 0 settled before, 12 to run; "
        "12 of 1 × 1 CPU"
    )
    told = plan.tuned(results(plan, WORKED))
    assert told.tuning is not None
    text = tuning_text(told)
    at = text.index("  norm=bn batch=1")
    ids = [p.id for p in told.tuning.cells[:3]]
    assert text[at + 1] == (
        f"      10 steps; lr_mult=0.5 {ids[0]} converged, lr_mult=1 {ids[1]} converged, "
        f"lr_mult=2 {ids[2]} converged"
    )
    said = json.loads(json.dumps(told.to_json()))["tune"]
    assert [c["id"] for c in said["cells"]] == told.tuning.ids
    assert said["groups"][0]["values"] == {"lr_mult": 0.5}
    assert [c["score"] for c in said["groups"][0]["candidates"]] == [0.3, 0.2, 0.1]
    assert said["groups"][2]["failed"]
    assert said["groups"][3]["values"] is None
    assert "tune" not in make(tmp_path, {"set": {"train.steps": 40}, "tune": None}).to_json()


def test_under_the_table_stands_what_was_tuned(tmp_path: Path) -> None:
    plan = make(tmp_path)
    plan = plan.tuned(results(plan, ALL))
    rows = [
        Row(p.cell.axes, p.cell.seed, "converged", {"mAP": 0.5}, id=p.id, label=p.cell.label)
        for p in plan.cells
    ]
    notes = table_of(plan, rows).notes
    assert any(note.startswith("lr_mult tuned over 3 values per norm × batch") for note in notes)


def test_an_axis_that_was_not_tuned_apart_is_named(tmp_path: Path) -> None:
    plan = make(tmp_path, {"tune": {**SWEEP["tune"], "per": ["batch"]}})
    assert tuning_notes(plan)[-1] == (
        "caution: lr_mult was not tuned per norm: levels of these that want another value are at "
        "a disadvantage"
    )


def test_the_table_of_tuning_cells_is_of_their_scores(tmp_path: Path) -> None:
    plan = make(tmp_path)
    found = results(plan, WORKED)
    assert plan.tuning is not None
    rows = [
        Row(p.cell.axes, p.cell.seed, found[p.id].outcome, found[p.id].metrics, id=p.id)
        for p in plan.tuning.cells
        if p.id in found
    ]
    table = table_of(plan.tuning, rows)
    assert (table.names, table.columns[0]) == (("norm", "batch"), "lr_mult 0.5")
    lines = {levels: [entry.text for entry in entries] for levels, entries in table.lines}
    assert lines["bn", "1"] == ["0.300 (1/1)", "0.200 (1/1)", "0.100 (1/1)"]
    assert lines["gn", "2"] == ["0.200 (1/1)", "·", "0.400 (1/1)"]


def test_arms_that_tuning_makes_one_run_are_an_error(tmp_path: Path) -> None:
    """An axis that is no part of `per` and is read in one branch only: with the value 2 both of its
    levels come to the same learning rate."""
    changes = {
        "axes": {**SWEEP["axes"], "low": {"values": [0.001, 0.002]}},
        "baseline": {"norm": "bn", "batch": 2, "low": 0.001},
        "set": {"optim.lr": "=max(low, 0.01 * lr_mult - 0.009)", "train.steps": 40},
        "tune": {**SWEEP["tune"], "nuisance": {"lr_mult": [1, 2]}},
        "design": [{"one_at_a_time": ["low"]}],
    }
    plan = make(tmp_path, changes)
    with pytest.raises(SweepError, match=r"axis low.* are the same run"):
        plan.tuned(results(plan, {("bn", 2): (0.1, 0.2)}))


def test_arms_are_measured_before_anything_is_tuned(tmp_path: Path) -> None:
    """Tuned apart, two arms that do the same could get other learning rates, and look different."""
    (tmp_path / "b.yaml").write_text(BASE)
    changes = {
        "base": "b.yaml",
        "axes": {"what": {"path": "data.input.train_max_side", "values": [96, 97]}},
        "baseline": {"what": 96},
        "tune": {**SWEEP["tune"], "per": ["what"]},
    }
    plan = make(tmp_path, changes)
    assert all(p.waits for p in plan.cells)
    with pytest.raises(SweepError, match=r"axis what, levels '96' and '97'.* do the same"):
        check_effects(plan)


# ---------------------------------------------------------------- on a real store


def test_two_stages_on_a_real_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tuning cells are recorded like any other; status, why and show know them; MLflow's views and
    the table do not."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    plan = make(tmp_path)
    ledger = open_ledger("tuned", tmp_path)
    plan = plan.asked(ledger.settled)
    assert plan.tuning is not None
    spec = plan.sweep.file.read_text()
    run = ledger.start_sweep(spec, plan.to_json(), "", plan.axes, plan.variant)

    def train(stage: Plan, score: dict[str, float]) -> None:
        for p in stage.todo:
            folder = stage.folder / p.id
            folder.mkdir(parents=True)
            handle = ledger.start_attempt(stage.info(p), run, 1, folder)
            ledger.finish(handle, "converged", "", p.cell.config.train.steps, score)

    first = plan.tuning.cells[0]
    assert status.main(["sweep.yaml"]) == 0
    said = capsys.readouterr().out
    assert "tuning: 0 of 12 settled" in said
    assert "4 groups of arms wait for lr_mult: 0 of 12 tuning cells have settled" in said
    assert why.main(["norm=bn", "batch=1", "seed=0"]) == 2  # it waits: its id is not known
    assert "was never started; this starts it" in capsys.readouterr().err

    train(plan.tuning, {"mAP": 0.3})
    plan = plan.asked(ledger.settled)
    assert plan.tuning is not None
    assert plan.tuning.todo == []
    assert len(plan.todo) == 8
    train(plan, {"mAP": 0.4})
    done = make(tmp_path).asked(ledger.settled)
    assert done.todo == []
    history = read_history(open_records(tmp_path), "tuned", done.variant)
    assert reconcile(done, history).counts()["reused"] == 8
    assert reconcile(done, history).dropped == ()  # the tuning cells are still wanted
    assert len(reconcile(replace(done, tuning=None), history).dropped) == 12

    assert status.main(["sweep.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["settled"], told["total"]) == (8, 8)
    assert (told["tuning"]["settled"], told["tuning"]["total"]) == (12, 12)
    assert why.main(first.cell.label.split()) == 0
    assert f"cell {first.id} of sweep tuned" in capsys.readouterr().out
    assert show.main([first.id]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["data"]["holdout"], config["train"]["steps"], config["seed"]) == (0.1, 10, 1000)

    client, store = ledger._live, ledger.store
    tags = {r.data.tags["cell.id"]: r.data.tags for r in search_cells(client, store)}
    assert len(tags) == 20
    assert {tags[p.id].get("cell.role") for p in done.cells} == {None}
    assert {tags[p.id]["tune.lr_mult"] for p in done.cells} == {"1"}
    assert done.tuning is not None
    assert {tags[id_]["cell.role"] for id_ in done.tuning.ids} == {"tune"}
    for view in view_states(done.axes).values():
        found = client.search_runs([ledger.experiment_id], view["searchFilter"])
        assert not {r.data.tags["cell.id"] for r in found} & set(done.tuning.ids)
    shown = client.search_runs([ledger.experiment_id], view_states([])["coco"]["searchFilter"])
    assert {r.data.tags["cell.id"] for r in shown} == set(done.ids)
