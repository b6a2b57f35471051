"""What is on record of code and machine: real git checkouts, and this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking import provenance
from orchestrator.tracking.provenance import gang_tags, rank_tags

ROOT = Path(__file__).parents[2]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of a small project that runs our module from itself."""
    root = tmp_path / "project"
    (root / "orchestrator").mkdir(parents=True)
    (root / "detcore" / "ops").mkdir(parents=True)
    (root / "orchestrator" / "__init__.py").touch()
    text = Path(provenance.__file__).read_text()
    (root / "orchestrator" / "provenance.py").write_text(text)
    (root / "detcore" / "ops" / "boxes.py").write_text("one = 1\ntwo = 2\n")
    git(root, "init", "-q")
    git(root, "config", "user.email", "a@b.c")
    git(root, "config", "user.name", "a")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def seen(root: Path, cwd: Path | None = None, setup: str = "") -> dict[str, Any]:
    """What the module in `root` tells of its code, in a process of its own."""
    code = f"import json, orchestrator.provenance as p\n{setup}\n"
    code += 'print(json.dumps({"tags": p.code_tags(), "diff": p.code_diff()}))'
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd or root.parent,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_clean_checkout_has_a_commit_and_no_diff(checkout: Path) -> None:
    found = seen(checkout)
    assert found["diff"] == ""
    assert found["tags"]["git.commit"] == git(checkout, "rev-parse", "HEAD").strip()
    assert found["tags"]["git.dirty"] == "false"
    assert "git.diff" not in found["tags"]


def test_the_diff_makes_the_code_that_ran_out_of_its_commit(checkout: Path, tmp_path: Path) -> None:
    (checkout / "detcore" / "ops" / "boxes.py").write_text("one = 1\ntwo = 22  # ä\n")
    (checkout / "detcore" / "new.py").write_text("three = 3\n")
    (checkout / "orchestrator" / "with space.py").write_text("no newline at the end")
    (checkout / "notes.py").write_text("secret = 'a scratch file of the user'\n")
    (checkout / "detcore" / "data.bin").write_bytes(b"\0" * 10)
    git(checkout, "config", "color.ui", "always")  # a user's taste must not get into it
    git(checkout, "config", "diff.noprefix", "true")
    found = seen(checkout, cwd=checkout / "detcore")
    assert found["tags"]["git.dirty"] == "true"
    assert "secret" not in found["diff"]

    clean = tmp_path / "clean"
    git(tmp_path, "clone", "-q", str(checkout), str(clean))
    git(clean, "checkout", "-q", found["tags"]["git.commit"])
    (clean / "code.diff").write_text(found["diff"])
    git(clean, "apply", "code.diff")
    for name in ("detcore/ops/boxes.py", "detcore/new.py", "orchestrator/with space.py"):
        assert (clean / name).read_bytes() == (checkout / name).read_bytes()

    # equal changes have equal names, others another
    again = seen(checkout)
    assert again["tags"]["git.diff"] == found["tags"]["git.diff"]
    (checkout / "detcore" / "new.py").write_text("three = 4\n")
    assert seen(checkout)["tags"]["git.diff"] != found["tags"]["git.diff"]


def test_a_huge_diff_is_cut_and_says_so(checkout: Path) -> None:
    (checkout / "detcore" / "ops" / "boxes.py").write_text("x = 0\n" * 5000)
    diff = seen(checkout, setup="p.LARGEST_DIFF = 1000")["diff"]
    assert 1000 < len(diff) < 1100
    assert diff.endswith("[cut: only the first 1000 characters are kept]\n")


def test_what_is_installed_inside_a_foreign_checkout_has_no_commit(
    checkout: Path, tmp_path: Path
) -> None:
    """As in an environment that lies in the user's own project."""
    site = checkout / ".venv" / "site-packages"
    (site / "orchestrator").mkdir(parents=True)
    (checkout / "orchestrator" / "provenance.py").rename(site / "orchestrator" / "provenance.py")
    found = seen(site)
    assert not [name for name in found["tags"] if name.startswith("git.")]
    assert found["diff"] == ""
    assert found["tags"]["version.torch"]


def test_a_rank_says_what_its_numbers_depend_on() -> None:
    """In a process of its own, as torch's threads are."""
    code = """
import json, sys
from orchestrator.tracking.provenance import gpu_names, rank_tags
print(json.dumps([rank_tags(0, False), gpu_names()]))
assert "torch" not in sys.modules
import torch
torch.set_num_threads(3)
print(json.dumps(rank_tags(0, False)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    (without, names), loaded = (json.loads(line) for line in done.stdout.splitlines())
    assert names == []
    assert without["threads.omp"] == "2"
    assert without["cpu.name"]
    assert loaded == {**without, "threads.torch": "3"}


def test_a_gang_names_every_value_where_its_ranks_differ() -> None:
    h100 = {"gpu.name": "NVIDIA H100", "version.driver": "570.1", "threads.omp": "1"}
    a100 = {"gpu.name": "NVIDIA A100", "version.driver": "550.2", "threads.omp": "1"}
    assert gang_tags([h100, h100]) == {
        "gpu.names": "2 x NVIDIA H100",
        "version.driver": "570.1",
        "threads.omp": "1",
    }
    assert gang_tags([a100, h100, h100]) == {
        "gpu.names": "1 x NVIDIA A100, 2 x NVIDIA H100",
        "version.driver": "550.2, 570.1",
        "threads.omp": "1",
    }
    assert gang_tags([{"threads.omp": "1"}]) == {"threads.omp": "1"}
    assert gang_tags([]) == {}


def test_the_diff_is_with_the_sweep_and_named_by_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another start of the sweep may run other code: what each was stays."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from orchestrator.tracking import ledger as module

    first, second = "+one = 1\n", "+one = 2\n"
    ledger = module.open_ledger("small", tmp_path)
    for diff in (first, second):
        monkeypatch.setattr(module, "code_diff", lambda diff=diff: diff)  # of this checkout: any
        run = ledger.start_sweep("name: small", {}, "", {}, arguments="--set seeds=[0]")
        ledger.finish_sweep(run, {})

    def text(name: str) -> str:
        return Path(ledger._live.download_artifacts(run, name)).read_text()

    assert text(f"diffs/{provenance.diff_id(first)}.diff") == first
    assert text(f"diffs/{provenance.diff_id(second)}.diff") == text("code.diff") == second
    tags = ledger._live.get_run(run).data.tags
    assert tags["sweep.arguments"] == "--set seeds=[0]"


@pytest.mark.gpu
def test_a_rank_on_a_gpu_names_it() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    tags = rank_tags(0, True)
    assert tags["gpu.name"] == torch.cuda.get_device_properties(0).name
    assert tags["version.cuda"] == torch.version.cuda
    assert tags["version.driver"].split(".")[0].isdigit()


def test_when_a_process_began_is_known_to_itself() -> None:
    """Between the moments before it was started and after it had said so."""
    code = "from orchestrator.tracking.provenance import process_began; print(process_began())"
    before = time.time()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tick = 0.02  # the system counts hundredths of a second
    assert before - tick <= float(done.stdout) < time.time()
