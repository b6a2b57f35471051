"""`--smoke` on real gangs: which arms work, before hours are spent on them."""

from __future__ import annotations

import re

import yaml

from detcore.config import Config, from_dict
from detcore.config.schema import Shapes
from detcore.data.shapes import ensure_shapes
from tests.cluster.conftest import BASE, BN_GN, Workplace, noise


def test_every_arm_is_heard_and_nothing_counts(workplace: Workplace) -> None:
    """Two arms that work and two whose loss is not finite after the first step, on a folder in COCO
    format; the store that is set answers nobody and is not asked."""
    place = workplace
    source = from_dict(Config, BASE).data.source
    assert isinstance(source, Shapes)
    data = str(ensure_shapes(source))
    axes = {"norm": BN_GN, "lr": {"path": "optim.lr", "values": [0.01, 1.0e30]}}
    place.write(axes=axes, seeds=[0, 1])
    stale = place.folder / "mlruns" / "smoke" / "tiny" / "mlruns" / "cells" / "stale"
    stale.mkdir(parents=True)  # of an earlier smoke run
    done = place.run("--smoke", "--data", data, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.process.returncode == 1, done.stderr()
    assert (
        noise(done.stderr(), "Files of the cells.*", "  /.*/mlruns/smoke/tiny/mlruns/cells") == []
    )
    assert "converged" not in done.stderr()
    *lines, last = done.stdout().splitlines()
    assert last == "2 of 4 arms ok"
    assert len(lines) == 4
    for norm in ("bn", "gn"):
        (good,) = [line for line in lines if f" norm={norm} lr=0.01 " in line]
        assert re.fullmatch(r"ok {6}norm=\w+ lr=0\.01  \(2 steps, scored; \d+ s\)", good)
        (bad,) = [line for line in lines if f" norm={norm} lr=1e+30:" in line]
        assert re.match(r"failed  norm=\w+ lr=1e\+30: diverged: (loss|gradient norm) is ", bad)

    # nothing of it is seen by the sweep itself
    assert not (place.folder / "mlruns" / "mlflow.db").exists()
    assert not (place.folder / "mlruns" / "cells").exists()
    cells = list((place.folder / "mlruns" / "smoke" / "tiny" / "mlruns" / "cells").iterdir())
    assert len(cells) == 4
    for cell in cells:
        config = yaml.safe_load((cell / "config.yaml").read_text())
        assert config["train"]["steps"] == 2
        assert not (cell / "checkpoint.pt").exists()
    done.wait_for_all()
