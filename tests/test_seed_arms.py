"""Every arm of sweeps/seed/*.yaml takes effect: in its small form (`--profile shapes`) it differs
from every other in something that can be measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from detcore.signature import signature
from orchestrator.sweep.expand import expand
from orchestrator.sweep.spec import load_sweep

FILES = sorted((Path(__file__).parents[1] / "sweeps/seed").glob("*.yaml"))


@pytest.mark.slow
def test_no_two_arms_are_the_same() -> None:
    found: dict[tuple[tuple[str, str], ...], str] = {}
    seen: set[str] = set()
    for file in FILES:
        for cell in expand(load_sweep(file, profile="shapes")):
            assert cell.ref is None  # its numbers are no row's
            row = str(cell.axes["row"])
            if row in seen:
                continue
            seen.add(row)
            same = found.setdefault(tuple(signature(cell.config).items()), row)
            assert same == row, f"{row} does what {same} does"
    assert len(seen) > 35
