"""A sweep from the file to the table: what it leaves in MLflow, on the screen, on the machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcore.config import Config, from_dict
from detcore.config.schema import CocoFolder, Shapes
from detcore.data.folder import find_annotations
from detcore.data.shapes import ensure_shapes
from detcore.result import METRICS
from orchestrator.sweep.identity import cell_id
from tests.cluster.conftest import BN_GN, INTERRUPTED, Workplace, noise, until


def by_pycocotools(config: Config, detections: Path) -> dict[str, float]:
    assert isinstance(config.data.source, Shapes)
    folder = CocoFolder(root=str(ensure_shapes(config.data.source)))
    truth = COCO(str(find_annotations(folder, "val")))
    evaluator = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return dict(zip(METRICS, evaluator.stats.tolist(), strict=True))


def from_dashboard(place: Workplace, address: str, path: str) -> Any:
    token = (Path(place.environment["HOME"]) / ".ray" / "auth_token").read_text().strip()
    request = urllib.request.Request(address + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_sweep_is_run_recorded_and_not_run_again(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = workplace
    axes = {
        "norm": BN_GN,
        "batch_per_gpu": {"path": "train.batch_per_gpu", "values": [1, 2]},
    }
    place.write(axes=axes, question="Is this recorded?")
    first = place.run("--max-concurrent", "1")
    assert first.process.returncode == 0, first.stderr()
    assert noise(first.stderr(), r"Is this recorded\?") == []
    first.wait_for_all()
    assert not list(Path(place.environment["TMPDIR"]).glob("sweep-*"))

    # ---- MLflow
    (sweep,) = place.sweeps()
    assert sweep.info.status == "FINISHED"
    client = place.client()
    stored = {f.path for f in client.list_artifacts(sweep.info.run_id)}
    assert stored >= {"sweep.yaml", "plan.json", "table.md", "table.csv", "report.html"}
    runs = place.cells()
    _check_report(place, sweep.info.run_id)
    assert sorted(r.data.tags["cell.label"] for r in runs) == [
        f"norm={norm} batch_per_gpu={batch} seed=0" for norm in ("bn", "gn") for batch in (1, 2)
    ]
    for run in runs:
        _check_cell(place, run, sweep.info.run_id, monkeypatch)
    colours = {(r.data.tags["axis.norm"], r.data.tags["mlflow.runColor"]) for r in runs}
    assert len(colours) == 2

    # ---- the ranks of a shape are the same processes from cell to cell
    actors = [r.data.tags["ray.actor_ids"].split(",") for r in runs]
    assert all(ids == actors[0] and len(set(ids)) == 3 for ids in actors)

    # ---- the table
    table = first.stdout()
    for run in runs:
        assert f"{run.data.tags['cell.outcome']} {run.data.metrics['mAP']:.3f}" in table or (
            run.data.tags["cell.outcome"] == "converged"
        )
    assert "4 of 4 settled" in table

    # ---- again: nothing is trained
    again = place.run()
    assert again.process.returncode == 0
    assert again.stdout() == table
    assert "Ray ..." not in again.stderr()
    assert noise(again.stderr(), r"Is this recorded\?") == []
    assert [r.info.run_id for r in place.cells()] == [r.info.run_id for r in runs]
    assert len(place.sweeps()) == 1

    # ---- with a level more, exactly its cells are trained
    axes["batch_per_gpu"] = {"path": "train.batch_per_gpu", "values": [1, 2, 3]}
    place.write(axes=axes, question="Is this recorded?")
    more = place.run()
    assert more.process.returncode == 0
    assert "4 settled before, 2 to run" in more.stderr()
    now = place.cells()
    assert [r.info.run_id for r in now[:4]] == [r.info.run_id for r in runs]
    assert {r.data.tags["axis.batch_per_gpu"] for r in now[4:]} == {"3"}
    assert len(now) == 6


def _check_report(place: Workplace, run_id: str) -> None:
    """The page has what MLflow has, as a finished sweep, and its note leads to it."""
    client = place.client()
    page = Path(client.download_artifacts(run_id, "report.html", str(place.folder))).read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    document = json.loads(found.group(1))["document"]
    assert document["sweep"]["state"] == "finished"
    assert (
        document["provenance"]["sweep_sha256"]
        == hashlib.sha256((place.folder / "sweep.yaml").read_bytes()).hexdigest()
    )
    assert {c["run_id"]: c["metrics"]["mAP"] for c in document["cells"]} == {
        run.info.run_id: run.data.metrics["mAP"] for run in place.cells()
    }
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert note.startswith("[Report](#/experiments/")
    assert f"/runs/{run_id}/artifacts/report.html)" in note


def _check_cell(
    place: Workplace, run: Any, sweep_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settled cell's run, by the ledger's contract: tags, params, curves, numbers, files."""
    tags, metrics, client = run.data.tags, run.data.metrics, place.client()
    assert run.info.status == "FINISHED"
    assert tags["cell.outcome"] in ("converged", "stalled")
    wanted = {
        "run.kind": "cell",
        "sweep.name": "tiny",
        "sweep.run_id": sweep_run,
        "cell.attempt": "1",
        "cell.seed": "0",
        "cell.step": "12",
        "cell.label": f"norm={tags['axis.norm']} batch_per_gpu={tags['axis.batch_per_gpu']} seed=0",
    }
    assert wanted.items() <= tags.items()
    for name in ("cell.reason", "mlflow.runColor", "data.fingerprint", "version.torch", "ray.url"):
        assert tags[name]
    assert "mlflow.parentRunId" not in tags
    assert run.data.params["norm"] == tags["axis.norm"]
    assert run.data.params["batch_per_gpu"] == tags["axis.batch_per_gpu"]
    if tags["axis.batch_per_gpu"] != "2":  # what the base has anyway
        assert run.data.params["train.batch_per_gpu"] == tags["axis.batch_per_gpu"]

    # the config among the artifacts is the cell
    local = Path(client.download_artifacts(run.info.run_id, "config.yaml"))
    config = from_dict(Config, yaml.safe_load(local.read_text()))
    assert cell_id(config, tags["data.fingerprint"]) == tags["cell.id"]

    # the curves are those of the cell's file
    folder = place.cell_folder(run)
    points = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for key in ("loss/total", "loss/class", "loss/box", "lr", "grad_norm"):
        curve = client.get_metric_history(run.info.run_id, key)
        written = [(p["step"], p["values"][key]) for p in points if key in p["values"]]
        assert [(m.step, m.value) for m in curve] == written
        assert [step for step, _ in written] == [0, 2, 4, 6, 8, 10, 11]

    # the 12 numbers are pycocotools'
    monkeypatch.setenv("DETCORE_CACHE", place.environment["DETCORE_CACHE"])
    detections = Path(client.download_artifacts(run.info.run_id, "detections.json"))
    assert {name: metrics[name] for name in METRICS} == by_pycocotools(config, detections)
    for key in (
        "images_per_s",
        "data_wait",
        "train_hours",
        "eval_s_per_img",
        "peak_mem_gb",
        "params_m",
    ):
        assert metrics[key] >= 0
    assert metrics["gpu_hours"] == 0


def test_a_person_finds_the_job_of_a_row_in_the_dashboard(workplace: Workplace) -> None:
    """And what starts where it should not: a second orchestrator of the sweep is refused."""
    place = workplace
    place.write({"train": {"steps": 100_000}})
    run = place.start("--max-concurrent", "1")

    def url() -> str:
        cells = place.cells()
        return cells[0].data.tags.get("ray.url", "") if cells else ""

    link = run.until(url, "the first cell has started")
    address, actor = link.split("/#/actors/")
    assert address in run.stderr()
    query = urllib.parse.urlencode(
        {"filter_keys": "actor_id", "filter_predicates": "=", "filter_values": actor, "detail": 1}
    )

    def names() -> list[str]:
        answer = from_dashboard(place, address, f"/api/v0/tasks?{query}")
        return [task["name"] for task in answer["data"]["result"]["result"]]

    # the page that the link opens lists the tasks of the actor
    until(lambda: "norm=bn seed=0 rank=0" in names(), "the label is among the actor's tasks", 60)
    assert not [n for n in names() if n.endswith("poll")], "polls bury the cell's own task"

    second = place.run()
    assert second.process.returncode == 2
    (line,) = second.stderr().splitlines()
    assert "tiny" in line
    assert str(run.process.pid) in line
    assert second.stdout() == ""

    # and so is another sweep that shares a cell, here one that is yet to run
    place.write({"train": {"steps": 100_000}}, name="other")
    other = place.run("--only", "norm == 'gn'")
    assert other.process.returncode == 2
    (line,) = other.stderr().splitlines()
    assert "norm=gn seed=0" in line
    assert f"sweep tiny (process {run.process.pid})" in line
    assert len(place.cells()) == 1

    os.kill(run.process.pid, signal.SIGTERM)
    assert run.wait() == 130
    run.wait_for_all()
    assert noise(run.stderr(), INTERRUPTED) == []
    (cell,) = place.cells()
    assert (cell.data.tags["cell.outcome"], cell.info.status) == ("cancelled", "KILLED")


def test_what_the_machine_cannot_hold_is_refused_and_another_store_is_used(
    workplace: Workplace,
) -> None:
    place = workplace
    uri = f"sqlite:///{place.folder / 'elsewhere.db'}"
    place.write(resources={"workers": 2, "gpus_per_worker": 64})
    refused = place.run(MLFLOW_TRACKING_URI=uri)
    assert refused.process.returncode == 2
    last = refused.stderr().splitlines()[-1]
    assert last.startswith("cell norm=bn seed=0 needs 2 workers of 1 CPU and 64 GPU at once")
    assert noise(refused.stderr(), r"cell .* needs .*") == []
    assert refused.stdout() == ""
    refused.wait_for_all()
    assert place.cells(uri) == []

    # workers that reserve nothing are gangs as well
    place.write(resources={"workers": 2, "cpus_per_worker": 0})
    run = place.run("--only", "norm == 'gn'", MLFLOW_TRACKING_URI=uri, COLUMNS="20")
    assert run.process.returncode == 0, run.stderr()
    assert noise(run.stderr()) == []
    (cell,) = place.cells(uri)
    assert cell.info.status == "FINISHED"
    assert '"$MLFLOW_TRACKING_URI"' in run.stderr()
    assert not (place.folder / "mlruns" / "mlflow.db").exists()
