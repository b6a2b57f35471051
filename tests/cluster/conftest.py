"""Helpers that run `python -m orchestrator.run` as a person does: a real process, real Ray, gloo,
MLflow and training.

Every process that a run starts carries a mark in its environment, by which it is found, waited for
and, at worst, ended.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MARK = "ABLATION_TEST_MARK"
PATIENCE = 240  # seconds for anything that must happen; generous, as machines are shared

BASE: dict[str, Any] = {
    "data": {
        "source": {"kind": "shapes", "train_images": 32, "val_images": 8, "size": 64, "seed": 0},
        "input": {
            "train_short_sides": [64],
            "train_max_side": 64,
            "eval_short_side": 64,
            "eval_max_side": 64,
        },
    },
    "model": {
        "kind": "retinanet",
        "backbone": {"kind": "tiny", "width": 8, "norm_act": {"kind": "gn", "groups": 4}},
        "neck": {"kind": "fpn", "channels": 16, "norm_act": {"kind": "gn", "groups": 4}},
        "head": {"kind": "towers", "num_convs": 1, "norm_act": {"kind": "gn", "groups": 4}},
        "anchors": {"kind": "grid", "sizes": [16, 32, 64, 96, 128]},
        "postprocess": {"score_threshold": 0.001},  # after a few steps: many poor detections
    },
    "optim": {"lr": 0.01},
    "schedule": {"kind": "cosine", "warmup_steps": 2},
    "train": {"steps": 12},
    "eval": {"batch": 8},
    "runtime": {"loader_workers": 0, "threads": 1, "log_every": 2},
}

BN_GN = {
    "path": ["model.neck.norm_act", "model.head.norm_act"],
    "values": {"bn": {"kind": "bn"}, "gn": {"kind": "gn", "groups": 4}},
}


@dataclass
class Started:
    """A run of the orchestrator in its own session. `mark` finds all processes that came of it."""

    process: subprocess.Popen[str]
    mark: str
    out: Path
    err: Path

    def stdout(self) -> str:
        return self.out.read_text()

    def stderr(self) -> str:
        return self.err.read_text()

    def wait(self, timeout: float = PATIENCE) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s\n{self.stdout()}\n{self.stderr()}")

    def wait_for_all(self, timeout: float = 90) -> None:
        """No process may stay. After a kill, Ray's two agents (idle helpers) wait 60 s for their
        head to come back."""
        give_up = time.monotonic() + timeout
        while living := self.living():
            assert time.monotonic() < give_up, f"still there after {timeout} s: {living}"
            time.sleep(0.1)

    def living(self) -> dict[int, str]:
        """Every process of this run that still lives (its own included): pid to command line."""
        return marked(self.mark)

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait for `true()` to be so while the run goes on; returns what it returned."""

        def now() -> Any:
            # MLflow's tables are there before this line is: two processes must not both make them
            if "starting Ray" not in self.stderr():
                assert self.process.poll() is None, self.stderr()
                return None
            value = true()
            assert value or self.process.poll() is None, f"{what}\n{self.stdout()}{self.stderr()}"
            return value

        return until(now, what)

    def ranks(self) -> list[int]:
        """A rank's title is its class while it is idle or polled, and the cell's label else."""
        titles = ("ray::Rank", "ray::norm=", "ray::workers=", "ray::data=")
        return [pid for pid, line in self.living().items() if line.startswith(titles)]

    def supervisors(self) -> list[int]:
        return [p for p, line in self.living().items() if line.startswith("ray::ImplicitFunc")]

    def end(self) -> None:
        for pid in self.living():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@dataclass
class Workplace:
    """A folder with a sweep file, from which the orchestrator is started."""

    folder: Path
    environment: dict[str, str]
    runs: list[Started] = field(default_factory=list)

    def write(self, base: dict[str, Any] | None = None, **sweep: Any) -> Path:
        """`sweep.yaml`: two norms unless told otherwise; `base` is laid over BASE by section."""
        document: dict[str, Any] = {
            "version": 1,
            "name": "tiny",
            "base": "base.yaml",
            "axes": {"norm": BN_GN},
            "resources": {"workers": 2},
            "failure": {"hang_timeout_s": 60, "crash_retries": 1},
        }
        layered = {k: {**v, **(base or {}).get(k, {})} for k, v in BASE.items()}
        (self.folder / "base.yaml").write_text(yaml.safe_dump(layered, sort_keys=False))
        (self.folder / "sweep.yaml").write_text(
            yaml.safe_dump({**document, **sweep}, sort_keys=False)
        )
        return self.folder / "sweep.yaml"

    def start(self, *arguments: str, **environment: str) -> Started:
        mark = uuid.uuid4().hex
        out, err = (self.folder / f"{name}-{len(self.runs)}.txt" for name in ("out", "err"))
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.run", "sweep.yaml", *arguments],
                cwd=self.folder,
                env={**self.environment, **environment, MARK: mark},
                stdout=stdout,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self.runs.append(Started(process, mark, out, err))
        return self.runs[-1]

    def run(self, *arguments: str, **environment: str) -> Started:
        """Start and wait for the end."""
        started = self.start(*arguments, **environment)
        started.wait()
        return started

    def cells(self, uri: str | None = None, name: str = "tiny") -> list[Any]:
        """The MLflow runs of this sweep's cell attempts, oldest first."""
        return self._search("cell", uri, name)

    def sweeps(self, uri: str | None = None, name: str = "tiny") -> list[Any]:
        return self._search("sweep", uri, name)

    def client(self, uri: str | None = None) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(uri or f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}")

    def _search(self, kind: str, uri: str | None, name: str) -> list[Any]:
        client = self.client(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return []
        return list(
            client.search_runs(
                [experiment.experiment_id],
                f"tags.`run.kind` = '{kind}'",
                order_by=["attributes.start_time ASC"],
            )
        )

    def cell_folder(self, run: Any) -> Path:
        return self.folder / "mlruns" / "cells" / str(run.data.tags["cell.id"])


def marked(mark: str) -> dict[int, str]:
    """The living processes whose environment has `mark`: pid to command line."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found[int(entry.name)] = line
        except OSError:
            continue
    return found


def until(true: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Wait for `true()` to be so; returns what it returned."""
    give_up = time.monotonic() + timeout
    while time.monotonic() < give_up:
        value = true()
        if value:
            return value
        time.sleep(0.1)
    pytest.fail(f"did not happen within {timeout} s: {what}")


def steps_of(folder: Path) -> list[int]:
    """The steps in a cell's metrics.jsonl that have a loss, in the order of the file."""
    file = folder / "metrics.jsonl"
    if not file.exists():
        return []
    whole = [line for line in file.read_text().splitlines(True) if line.endswith("\n")]
    points = [json.loads(line) for line in whole]
    return [p["step"] for p in points if "loss/total" in p["values"]]


ALLOWED = [
    r"tiny",
    r"\d+ cells? \(\d+ arms?, \d+ seeds?\): \d+ settled before, \d+ to run; .*",
    r"first step \d+\.\d s after the command",
    r"checked: each of \d+ arms takes effect",
    r"starting Ray \.\.\.",
    r"Ray dashboard: http://127\.0\.0\.1:\d+  \(asks for a token once: ray get-auth-token\)",
    r"\d+/\d+ done.*, \d+ running, \d+ waiting; .*",
    r"\[\d+/\d+\] \S.* seed=\d+: \w+( mAP -?\d\.\d+)?, [\d:]+( s)?",
    r"\S.* seed=\d+: \w+ after [\d:]+( s)?, is run again",
    r"",
    r"The report \(intervals, curves, failures\), as a file, or live in a browser:",
    r"  python -m dashboards\.report \S+ --out report\.html",
    r"  python -m dashboards\.serve",
    r"Details of every cell in MLflow:",
    r"  mlflow ui .* --port 5000",
    r"  then open http://127\.0\.0\.1:5000/#/experiments/\d+\?workflowType=machine_learning",
    r"Files of the cells \(detections, logs, checkpoints\):",
    r"  /.*/mlruns/cells",
]


INTERRUPTED = r"Interrupted\. What has settled is kept; the same command goes on from here\."


def noise(stderr: str, *more: str) -> list[str]:
    """The lines on standard error that are not the orchestrator's own; `more`: further patterns."""
    allowed = re.compile("|".join(f"(?:{p})" for p in [*ALLOWED, *more]))
    return [line for line in stderr.splitlines() if not allowed.fullmatch(line.rstrip())]


@pytest.fixture(scope="session")
def shared_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One home and data cache for all: shapes are drawn once, Ray's token is not the user's."""
    home = tmp_path_factory.mktemp("home")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_", "TUNE_")) and name != "COLUMNS"
    }
    return environment | {
        "HOME": str(home),
        "DETCORE_CACHE": str(home / "cache"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def workplace(tmp_path: Path, shared_environment: dict[str, str]) -> Iterator[Workplace]:
    # what a run leaves in the temporary folder is looked at; short, as Ray puts sockets in it
    with tempfile.TemporaryDirectory(prefix="w", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        place = Workplace(tmp_path, {**shared_environment, "TMPDIR": scratch})
        yield place
        for run in place.runs:
            run.end()
            run.process.wait()
