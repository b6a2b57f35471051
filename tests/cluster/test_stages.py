"""A sweep that first tunes a learning rate and then spends further seeds, on a real Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import BN_GN, Workplace

TUNED = {
    "axes": {"norm": BN_GN},
    "baseline": {"norm": "bn"},
    "derive": {"lr": "0.01 * lr_mult"},
    "set": {"optim.lr": "=lr", "monitor.min_map": 0.0},
    "seeds": {"list": [0, 1], "extend_to": 3},
    "tune": {"nuisance": {"lr_mult": [0.5, 1]}, "per": ["norm"], "steps": 4, "seed": 1000},
}


def artifact(place: Workplace, name: str) -> Any:
    (sweep,) = place.sweeps()
    return json.loads(Path(place.client().download_artifacts(sweep.info.run_id, name)).read_text())


@pytest.mark.slow
def test_tuning_then_cells_then_further_seeds_and_nothing_again(workplace: Workplace) -> None:
    place = workplace
    place.write({"train": {"steps": 8}}, **TUNED)
    first = place.run()
    assert first.process.returncode == 0, first.stderr()
    runs = place.cells()
    tuning = [r for r in runs if r.data.tags.get("cell.role") == "tune"]
    cells = [r for r in runs if r not in tuning]
    assert len(tuning) == 4  # two norms, two candidates
    assert {r.data.tags["cell.seed"] for r in tuning} == {"1000"}
    last = max(r.info.end_time for r in tuning)
    assert all(r.info.start_time >= last for r in cells)  # what is chosen is known before

    # each arm has the rate that scored best on held-out images, under every seed
    scores: dict[str, dict[float, float]] = {}
    for r in tuning:
        mult = float(r.data.tags["tune.lr_mult"])
        scores.setdefault(r.data.tags["axis.norm"], {})[mult] = r.data.metrics["mAP"]
    for r in cells:
        arm = scores[r.data.tags["axis.norm"]]
        best = max(arm, key=lambda mult: (arm[mult], mult == 1.0))
        assert float(r.data.params.get("optim.lr", 0.01)) == 0.01 * best  # 0.01 is the base's
    assert {g["axes"]["norm"] for g in artifact(place, "tuning.json")["groups"]} == {"bn", "gn"}

    # further seeds came in pairs, as the decisions say
    seeds: dict[str, set[str]] = {}
    for r in cells:
        seeds.setdefault(r.data.tags["axis.norm"], set()).add(r.data.tags["cell.seed"])
    assert seeds["bn"] == seeds["gn"]
    decisions = artifact(place, "decisions.json")["decisions"]
    asked = any(d["action"] == "runs seed 2" for d in decisions)
    assert seeds["bn"] == ({"0", "1", "2"} if asked else {"0", "1"})
    assert f"{len(cells)} of {len(cells)} settled" in first.stdout()

    again = place.run()
    assert again.process.returncode == 0, again.stderr()
    assert "starting Ray" not in again.stderr()
    assert [r.info.run_id for r in place.cells()] == [r.info.run_id for r in runs]
    table = again.stdout().strip()
    assert table
    assert table in first.stdout()  # which shows the scores of tuning before it
