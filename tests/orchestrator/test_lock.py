"""Two orchestrators in one folder, as real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.running.lock import alone, hold_cells
from orchestrator.sweep.spec import SweepError

ROOT = Path(__file__).parents[2]
HOLDS = """
import sys, time
from pathlib import Path
from orchestrator.running.lock import alone, hold_cells
folder = Path(sys.argv[1])
with alone(folder, "other.sweep"), hold_cells(folder, {c: "x" for c in sys.argv[2:]}):
    print("held", flush=True)
    time.sleep(300)
"""


def test_a_cell_is_trained_by_one_sweep_at_a_time(tmp_path: Path) -> None:
    many = {f"{number:012x}": f"cell {number}" for number in range(0, 20_000, 2)}
    shared, last = "00000000ffff", "ffffffffffff"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path), shared, last],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with alone(tmp_path, "mine"), hold_cells(tmp_path, many):
            pass  # other cells, more of them than there are file descriptors
        for cell in (shared, last):
            with (
                pytest.raises(SweepError, match="cell norm=gn is held by") as raised,
                hold_cells(tmp_path, {**many, cell: "norm=gn"}),
            ):
                pass
            assert f"sweep other.sweep (process {child.pid})" in str(raised.value)
            assert "\n" not in str(raised.value)
    finally:
        child.kill()
        child.communicate()
    # however its process ends, a cell is free again
    with hold_cells(tmp_path, {shared: "norm=gn", last: "norm=bn"}):
        again = subprocess.run(
            [sys.executable, "-c", HOLDS, str(tmp_path), last],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 1
        assert "SweepError: cell x is held by" in again.stderr
