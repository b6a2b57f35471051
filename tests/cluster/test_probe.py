"""`--probe` on real gangs: what a sweep costs is measured by a short cell of each kind."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import BN_GN, Workplace, noise


def test_a_short_cell_of_every_kind_tells_the_rest(workplace: Workplace) -> None:
    """Two norms, whose costs are not known, at two learning rates, which cost the same."""
    place = workplace
    axes = {"norm": BN_GN, "lr": {"path": "optim.lr", "values": [0.01, 0.02]}}
    base = {"train": {"steps": 100}, "eval": {"every": 1}}
    place.write(base=base, axes=axes, seeds=[0, 1])
    before = json.loads(place.run("--dry-run", "--json").stdout())
    assert before["forecast"]["unknown"] == 8

    done = place.run("--probe")
    assert done.process.returncode == 0, done.stderr()
    assert noise(done.stderr(), "tiny-probe") == []
    text = " ".join(done.stdout().split())
    assert "8 cells (4 arms, 2 seeds): 0 settled before, 8 to run" in text
    told = "(8 cells from runs with the same model, input, batch and gang, by their steps)"
    assert f"CPU-core-hours {told}" in text
    assert place.cells() == []  # nothing of it is a result of the sweep
    probes = place.cells(name="tiny-probe")
    assert {run.data.tags["axis.norm"] for run in probes} == {"bn", "gn"}
    assert [run.data.tags["cell.step"] for run in probes] == ["50", "50"]

    # half of the steps were trained, and it was scored once: by hand from what MLflow has of them
    found = json.loads(place.run("--dry-run", "--json").stdout())
    assert [c["id"] for c in found["cells"]] == [c["id"] for c in before["cells"]]
    for run in probes:
        train = run.data.metrics["train_hours"] * 3600
        whole = (run.info.end_time - run.info.start_time) / 1000
        norm = run.data.tags["axis.norm"]
        seconds = [c["forecast"]["seconds"] for c in found["cells"] if c["axes"]["norm"] == norm]
        assert seconds == [pytest.approx(2 * train + whole - train, rel=1e-6)] * 4

    again = place.run("--probe")
    assert again.process.returncode == 0, again.stderr()
    assert "starting Ray" not in again.stderr()  # all is known
    assert len(place.cells(name="tiny-probe")) == 2
    done.wait_for_all()
