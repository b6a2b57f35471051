"""Arms that are left out with a reason, and what has to hold in every cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan_table import table_of
from orchestrator.sweep.expand import expansion
from orchestrator.sweep.spec import SweepError, load_sweep
from orchestrator.tracking.render import to_markdown
from orchestrator.tracking.table import Row

SWEEP = """\
version: 1
name: t
axes:
  norm: {path: model.neck.norm_act, values: [bn, gn]}
  batch: {path: train.batch_per_gpu, values: [1, 2, 4]}
baseline: {norm: gn, batch: 2}
derive: {images: batch * workers, lr: 0.01 * images}
set: {optim.lr: =lr}
seeds: [0, 1]
resources: {workers: 2}
"""
NOT_ONE = "exclude: [{if: norm == 'bn' and batch == 1, why: one image has no variance}]\n"


def sweep_of(folder: Path, more: str) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(SWEEP + more)
    return file


def message(folder: Path, more: str) -> str:
    with pytest.raises(SweepError) as caught:
        expansion(load_sweep(sweep_of(folder, more)))
    found = str(caught.value).replace(f"{folder}/", "")
    assert "\n" not in found
    return found


def test_an_excluded_arm_is_left_out_in_every_seed(tmp_path: Path) -> None:
    whole = {c.label for c in expansion(load_sweep(sweep_of(tmp_path, ""))).cells}
    found = expansion(load_sweep(sweep_of(tmp_path, NOT_ONE)))
    assert whole - {c.label for c in found.cells} == {
        "norm=bn batch=1 seed=0",
        "norm=bn batch=1 seed=1",
    }
    (excluded,) = found.excluded
    assert (excluded.label, excluded.why) == ("norm=bn batch=1", "one image has no variance")


def test_a_rule_may_read_computed_numbers(tmp_path: Path) -> None:
    more = "exclude: [{if: images > 4, why: too large}, {if: batch == 1, why: 'too\n  small'}]\n"
    found = expansion(load_sweep(sweep_of(tmp_path, more)))
    assert {c.arm_label for c in found.cells} == {"norm=bn batch=2", "norm=gn batch=2"}
    assert {e.label: e.why for e in found.excluded} == {
        "norm=bn batch=1": "too small",
        "norm=bn batch=4": "too large",
        "norm=gn batch=1": "too small",
        "norm=gn batch=4": "too large",
    }


def test_an_arm_says_every_reason_that_it_is_left_out_for(tmp_path: Path) -> None:
    more = "exclude: [{if: batch == 1, why: small}, {if: norm == 'bn' and batch < 2, why: bad}]\n"
    found = expansion(load_sweep(sweep_of(tmp_path, more)))
    assert {e.label: e.why for e in found.excluded} == {
        "norm=bn batch=1": "small; bad",
        "norm=gn batch=1": "small",
    }


def test_what_an_excluded_arm_would_compute_does_not_matter(tmp_path: Path) -> None:
    more = "exclude: [{if: batch == 1, why: no share}]\n"
    file = sweep_of(tmp_path, more)
    file.write_text(file.read_text().replace("0.01 * images", "0.01 / (batch - 1)"))
    assert len(expansion(load_sweep(file)).cells) == 2 * 2 * 2


def test_the_plan_and_the_table_give_the_reason(tmp_path: Path) -> None:
    plan = make_plan(sweep_of(tmp_path, NOT_ONE), root=tmp_path)
    line = "left out: norm=bn batch=1: one image has no variance"
    assert f"\n\n{line}\n\n" in plan.to_text()
    assert json.loads(json.dumps(plan.to_json()))["excluded"] == [
        {
            "label": "norm=bn batch=1",
            "axes": {"norm": "bn", "batch": 1},
            "blocks": ["factorial"],
            "why": "one image has no variance",
        }
    ]
    rows = [Row(p.cell.axes, p.cell.seed, "converged", {"mAP": 0.5}) for p in plan.cells]
    assert table_of(plan, rows).notes[-1] == line
    assert line in to_markdown(table_of(plan, rows)).replace("\\", "")


def test_a_claim_that_holds_changes_nothing(tmp_path: Path) -> None:
    plain = expansion(load_sweep(sweep_of(tmp_path, "")))
    more = 'assert: ["images == batch * workers", "seed < 2", "norm in [\'bn\', \'gn\']"]\n'
    assert expansion(load_sweep(sweep_of(tmp_path, more))) == plain


def test_a_claim_is_not_asked_of_what_is_left_out(tmp_path: Path) -> None:
    more = "assert: [\"norm == 'gn' or batch > 1\"]\n"
    assert "does not hold: batch = 1, norm = 'bn' (arm norm=bn batch=1)" in message(tmp_path, more)
    assert expansion(load_sweep(sweep_of(tmp_path, more + NOT_ONE)))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("exclude: {if: batch == 1, why: x}", "exclude: must be a list of rules {if: condition"),
        ("exclude: [batch == 1]", "exclude.0: must be {if: condition, why: text}, is 'batch == 1'"),
        ("exclude: [{if: batch == 1}]", "exclude.0: `why` is missing"),
        ("exclude: [{why: batch == 1}]", "exclude.0: `if` is missing"),
        ("exclude: [{if: batch == 1, wy: x}]", "unknown key 'wy'; did you mean 'why'?"),
        ("exclude: [{if: batch == 1, why: ''}]", "exclude.0.why: must be the reason"),
        ("exclude: [{if: batch == 1, why: 3}]", "exclude.0.why: must be the reason"),
        ("exclude: [{if: 1, why: x}]", "exclude.0.if: must be a condition"),
        ("exclude: [{if: bacth == 1, why: x}]", "unknown name 'bacth'|did you mean 'batch'?"),
        ("exclude: [{if: batch, why: x}]", "must be true or false for every arm, is 1 (arm norm="),
        ("exclude: [{if: batch < 'x', why: x}]", "exclude.0.if: < cannot compare"),
        ("exclude: [{if: batch == 3, why: x}]",
         "exclude.0.if: 'batch == 3' matches none of 6 arms"),
        ("exclude: [{if: batch == 2, why: x}]",
         "exclude.0.if: 'batch == 2' leaves out the baseline (norm=gn batch=2)"),
        ("exclude: [{if: batch > 0, why: x}]", "leaves out the baseline"),
        ("exclude: [{if: seed == 1, why: x}]", "exclude.0.if: 'seed == 1' depends on the seed"),
        ("assert: batch == 1", "assert: must be a list of conditions, is 'batch == 1'"),
        ("assert: [3]", "assert.0: must be a condition"),
        ("assert: [batc == 1]", "assert.0: unknown name 'batc'|did you mean 'batch'?"),
        ("assert: [batch]", "assert.0: must be true or false for every arm, is 1"),
        ("assert: [images == 4]",
         "assert.0: 'images == 4' does not hold: images = 2 (arm norm=bn batch=1)"),
        ("assert: [lr * images < 1 and seed == 0]",
         "does not hold: images = 2, lr = 0.02, seed = 1 (arm norm=bn batch=1)"),
        ("assert: [batch / (batch - 1) > 1]", "assert.0: division by zero"),
    ],
)  # fmt: skip
def test_mistakes_in_rules(tmp_path: Path, more: str, words: str) -> None:
    found = message(tmp_path, more)
    assert found.startswith("sweep.yaml:11: "), found
    assert all(part in found for part in words.split("|")), found


def test_a_rule_that_depends_on_the_seed_through_a_line_is_refused(tmp_path: Path) -> None:
    file = sweep_of(tmp_path, "exclude: [{if: lr > 1, why: x}]\n")
    file.write_text(file.read_text().replace("0.01 * images", "0.01 * images + seed"))
    with pytest.raises(SweepError, match=r"exclude\.0\.if: 'lr > 1' depends on the seed"):
        load_sweep(file)
