"""The command line without Ray: what a dry run shows, and how each kind of mistake ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orchestrator.planning.make_plan import make_plan
from orchestrator.run import _next_commands

SWEEP = {
    "version": 1,
    "name": "small",
    "question": "Is it?",
    "base": "base.yaml",
    "axes": {
        "norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]},
        "batch": {"path": "train.batch_per_gpu", "values": [1, 4]},
    },
    "seeds": [0, 1],
    "resources": {"workers": 2},
}
BASE = {"data": {"source": {"kind": "shapes", "train_images": 8, "val_images": 4, "size": 64}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    return tmp_path


def run(
    folder: Path, *arguments: str, sweep: str = "sweep.yaml", **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.run", sweep, *arguments],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_command_for_the_user_is_a_line_of_its_own(folder: Path) -> None:
    plan = make_plan(folder / "sweep.yaml", root=folder)
    command = "mlflow ui --backend-store-uri x --host 127.0.0.1 --port 5000"
    lines = _next_commands(plan, command, "7").splitlines()
    assert f"  {command}" in lines
    page = "http://127.0.0.1:5000/#/experiments/7?workflowType=machine_learning"
    assert f"  then open {page}" in lines
    assert "  python -m dashboards.report small --out report.html" in lines
    link = "http://mlflow.example:80/#/experiments/1"
    assert f"  open     {link}" in _next_commands(plan, link, "7").splitlines()


def test_a_dry_run_shows_the_cells_and_makes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    done = run(folder, "--dry-run", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    plan = json.loads(done.stdout)
    first = ["sweep", "question", "baseline", "axes", "metric", "cells"]
    first += ["reference", "reference_protocol"]
    design = ["blocks", "excluded", "aliases", "cautions", "failure"]
    ahead = ["reconcile", "forecast", "out_of_memory", "budget"]
    assert list(plan) == [*first, *design, *ahead]
    assert plan["sweep"] == "small"
    assert plan["question"] == "Is it?"
    assert plan["baseline"] == {"norm": "bn", "batch": 1}
    assert plan["axes"] == {"norm": ["bn", "gn"], "batch": [1, 4]}
    assert plan["metric"]["name"] == "mAP"
    assert plan["metric"]["variances"] == "auto"
    # seed by seed, within a seed in the order of the axes
    assert [(c["seed"], c["axes"]["norm"], c["axes"]["batch"]) for c in plan["cells"]] == [
        (seed, norm, batch) for seed in (0, 1) for norm in ("bn", "gn") for batch in (1, 4)
    ]
    assert len({c["id"] for c in plan["cells"]}) == 8
    for cell in plan["cells"]:
        assert list(cell)[:7] == ["id", "label", "ref", "axes", "seed", "resources", "status"]
        assert list(cell)[7:] == ["differences", "reference", "protocol", "ledger", "forecast"]
        assert cell["ledger"] == {"state": "new", "why": ""}
        assert cell["forecast"]["seconds"] is None  # there is no past to tell it from
        assert cell["status"] == "waiting"
        assert cell["resources"] == {"workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 0}

    text = run(folder, "--dry-run", "--only", "norm == 'gn' and batch <= 1")
    assert (text.returncode, text.stderr) == (0, "")
    chosen = [c for c in plan["cells"] if c["axes"] == {"norm": "gn", "batch": 1}]
    for cell in plan["cells"]:
        assert (cell["id"] in text.stdout) == (cell in chosen)
    assert sorted(folder.rglob("*")) == before


def test_a_dry_run_without_its_data_says_so(folder: Path) -> None:
    done = run(folder, "--dry-run", "--set", "data.source={kind: coco, root: absent}")
    assert done.returncode == 0
    assert "absent: no such folder" in done.stdout
    assert "not those of a real run" in done.stdout


def test_a_reader_that_goes_away_gives_no_traceback(folder: Path) -> None:
    command = f"{sys.executable} -m orchestrator.run sweep.yaml --dry-run | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


MISTAKES = {
    "no such file": (["--profile", "x"], {"sweep": "absent.yaml"}, ["absent.yaml"]),
    "a folder as sweep": ([], {"sweep": "."}, ["."]),
    "unknown profile": (["--profile", "cocoo"], {}, ["cocoo"]),
    "unknown setting": (["--set", "train.stepz=3"], {}, ["train.stepz", "steps"]),
    "bad value": (["--set", "train.steps=many"], {}, ["train.steps", "many"]),
    "no assignment": (["--set", "train.steps"], {}, ["train.steps"]),
    "only of an unknown axis": (["--only", "nrm == 'gn'"], {}, ["nrm", "norm"]),
    "only that matches nothing": (["--only", "norm == 'x'"], {}, ["bn, gn"]),
    "a cell that may never start": (
        ["--dry-run", "--set", "resources.gpus_per_worker=4", "--max-gpus", "6"],
        {},
        ["norm=bn batch=1 seed=0 takes 8 GPUs", "at most 6", "--max-gpus"],
    ),
    "no such data": (["--data", "absent"], {}, ["absent: no such folder"]),
    "store of files": ([], {"MLFLOW_TRACKING_URI": "file:///tmp/x"}, ["MLFLOW_TRACKING_URI"]),
    "store that is not there": (
        [],
        {"MLFLOW_TRACKING_URI": "sqlite:////dev/null/x.db"},
        ["/dev/null/x.db"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(folder: Path, case: str) -> None:
    arguments, options, words = MISTAKES[case]
    done = run(folder, *arguments, **options)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "Traceback" not in line
    for word in words:
        assert word in line
    assert not (folder / "mlruns" / "cells").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json"],
        ["--max-concurrent", "0"],
        ["--max-concurrent", "two"],
        ["--max-gpus", "1.5"],
        ["--gpu-hours", "0"],
        ["--gpu-hours", "nan"],
        ["--smoke", "--dry-run"],
        ["--smoke", "--fresh"],
        ["--smoke", "--retry-failed"],
        ["--frobnicate"],
    ],
)
def test_a_mistake_in_the_arguments_shows_the_usage(folder: Path, arguments: list[str]) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: python -m orchestrator.run")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("blocked", ["mlruns", "mlruns/small.lock"])
def test_a_working_folder_that_cannot_be_written_is_one_line(folder: Path, blocked: str) -> None:
    # permissions say nothing to root: something else lies where we want to write
    place = folder / blocked
    if blocked == "mlruns":
        place.write_text("")
    else:
        place.mkdir(parents=True)
    done = run(folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder / 'elsewhere.db'}")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "folder you can write to" in line


def test_a_sweep_file_that_is_not_text_is_one_line(folder: Path) -> None:
    (folder / "sweep.yaml").write_bytes(b"\xff\xfe\x00name: x")
    done = run(folder)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
