"""Every fault of the chaos matrix once; twenty of each are tests.benchmarks.chaos's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_fault_is_called_by_its_name_and_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.chaos", "--each", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # a line for each fault, then all that was not as it should be
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
