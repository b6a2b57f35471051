"""A start of a sweep up to the point where gangs would train: a real store, no Ray."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.answers import EXIT_OK
from orchestrator.cluster.connect import Cluster
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.running.recorder import Recorder
from orchestrator.running.start import start_sweep
from orchestrator.running.training import Ended
from orchestrator.tracking.ledger import open_ledger
from tests.orchestrator.test_tuning import make

ASKED = {
    "address": None,
    "arguments": "",
    "yes": True,
    "gpu_hours": None,
    "max_gpus": None,
    "max_concurrent": None,
}


@contextmanager
def small_cluster(address: str | None, largest: float) -> Iterator[Cluster]:
    yield Cluster(({"CPU": largest},), dashboard="", local=True, needs_token=False)


def test_a_fresh_start_trains_anew_what_tunes_and_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("orchestrator.running.ground.connected", small_cluster)
    monkeypatch.setattr("orchestrator.running.start.check_effects", lambda plan: "")
    stages: list[int] = []

    def train(plan: Plan, recorder: Recorder, *_: Any) -> Ended:
        stages.append(len(plan.todo))
        for planned in plan.todo:
            job = plan.job(planned)
            recorder.started(job, {"ray.job_id": "01", "ray.actor_ids": "a,b", "ray.nodes": "n"})
            end = {"outcome": "converged", "reason": "", "step": 1, "metrics": {"mAP": 0.3}}
            recorder.ended(job, {"result": {**end, "values": {}}})
        return Ended(recorder)

    monkeypatch.setattr("orchestrator.running.start.train", train)
    make(tmp_path)

    def start(fresh: bool) -> str:
        plan = make_plan(tmp_path / "sweep.yaml", root=tmp_path)
        args = argparse.Namespace(**ASKED, retry_failed=frozenset(), fresh=fresh)
        with (tmp_path / "screen.txt").open("w") as file:
            code = start_sweep(args, plan, open_ledger("tuned", tmp_path), Console(file=file))
        assert code == EXIT_OK
        return (tmp_path / "screen.txt").read_text()

    start(fresh=False)
    assert stages == [12, 8]
    start(fresh=False)
    assert stages == [12, 8]
    said = start(fresh=True)
    assert stages == [12, 8, 12, 8]
    assert "0 settled before, 8 to run" in said
