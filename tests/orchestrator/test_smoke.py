"""The cells of a smoke run; that they run is seen in tests/cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from detcore.config.schema import CocoFolder
from detcore.data.coco import open_split
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.running.smoke import smoke_plan
from tests.detcore.data.builders import box, coco, record, write_split

SWEEP: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "base": "base.yaml",
    "axes": {
        "norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]},
        "steps": {"path": "train.steps", "values": [1000, 2000]},
    },
    "seeds": [3, 4],
}
BASE = {
    "optim": {"lr": 0.02},
    "schedule": {"kind": "cosine", "warmup_steps": 100},
    "eval": {"every": 50},
    "monitor": {"progress": [{"at": 0.5}]},
}


def plan_of(folder: Path, base: dict[str, Any] = BASE, **more: Any) -> Plan:
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP | more, sort_keys=False))
    return make_plan(file, root=folder)


def test_one_small_cell_of_every_arm(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    tiny = smoke_plan(plan, tmp_path / "own")
    arms = list(dict.fromkeys(p.cell.arm_label for p in plan.cells))
    assert [p.cell.arm_label for p in tiny.cells] == arms
    assert {p.cell.seed for p in tiny.cells} == {3}
    # arms that differ only in their steps are two here as well, and none is a cell of the sweep
    assert len({*tiny.ids, *plan.ids}) == 4 + 8
    assert tiny.folder == tmp_path / "own" / "mlruns" / "cells"
    for p in tiny.cells:
        config = p.cell.config
        assert (config.train.steps, config.eval.every, config.monitor.progress) == (2, 0, ())
        # the rate of a warm-up's first step: 0.02 / 100
        assert config.optim.lr == pytest.approx(0.0002)
        assert config.model.neck.norm_act == next(
            q.cell.config.model.neck.norm_act
            for q in plan.cells
            if q.cell.arm_label == p.cell.arm_label
        )


@pytest.mark.parametrize("holdout", [0.0, 0.5])
def test_a_folder_is_scored_on_a_few_images_with_boxes(tmp_path: Path, holdout: float) -> None:
    data = tmp_path / "data"
    images = [record(i) for i in range(1, 31)]
    boxes = [box(i, i, 1 + i % 2, [2, 3, 10, 8]) for i in range(21, 31)]  # the first 20 have none
    for split in ("train", "val"):
        write_split(data, split, coco(images, boxes))
    source = {"kind": "coco", "root": str(data)}
    plan = plan_of(tmp_path, BASE | {"data": {"source": source, "holdout": holdout}})
    tiny = smoke_plan(plan, tmp_path / "own")
    (small,) = {p.cell.config.data.source for p in tiny.cells}
    assert isinstance(small, CocoFolder)
    kept = json.loads(Path(str(small.val_annotations)).read_text())
    assert [image["id"] for image in kept["images"]] == list(range(21, 29))
    assert [a["image_id"] for a in kept["annotations"]] == list(range(21, 29))
    # what trains reads it as it reads any folder
    assert len(open_split(tiny.cells[0].cell.config.data, "val").image_ids) == 8


def test_a_sweep_that_tunes_has_its_arms_heard_before(tmp_path: Path) -> None:
    more = {
        "derive": {"lr": "0.01 * lr_mult"},
        "set": {"optim.lr": "=lr"},
        "tune": {"nuisance": {"lr_mult": [0.5, 1]}, "per": ["norm"]},
    }
    plan = plan_of(tmp_path, **more)
    assert all(p.waits for p in plan.cells)
    tiny = smoke_plan(plan, tmp_path / "own")
    assert tiny.tuning is None
    assert len(tiny.todo) == 4
