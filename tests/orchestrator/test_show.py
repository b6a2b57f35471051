"""`python -m orchestrator.show` of a cell that was really trained: what it says, and that its
command trains the cell again to the same numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from detcore.cli import load_config
from orchestrator import show
from orchestrator.cluster.gang import TRAIN, Rank
from orchestrator.planning.plan import Plan
from tests.cluster.conftest import BASE
from tests.orchestrator.place import RAY, Place
from tests.orchestrator.server import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("the project's")  # a name that a shell must not take apart


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("DETCORE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Plan:
    """A sweep whose first cell was trained as a gang trains it; the second crashed."""
    layered = {**BASE, "train": {"steps": 6}}
    (folder / "base.yaml").write_text(yaml.safe_dump(layered))
    place = Place(folder, "small")
    sweep = yaml.safe_load(place.file.read_text())
    levels = {"gn": {"kind": "gn", "groups": 4}, "# [b]: {": {"kind": "gn", "groups": 2}}
    sweep["axes"]["norm"]["values"] = levels
    sweep |= {"base": "base.yaml", "resources": {"workers": 1, "cpus_per_worker": 1}}
    place.file.write_text(yaml.safe_dump(sweep, sort_keys=False))
    ledger, plan = place.start()
    jobs = [plan.job(planned) for planned in plan.cells]
    with pytest.MonkeyPatch.context() as patch, place.recorder(ledger, plan) as recorder:
        patch.setenv("DETCORE_CACHE", str(folder / "cache"))
        recorder.started(jobs[0], dict(RAY))
        rank = Rank(TRAIN, jobs[0]["folder"], 0)
        recorder.ended(jobs[0], rank.run(jobs[0], 0, 0, ""))
        recorder.started(jobs[1], dict(RAY))
        crash = {"outcome": "crashed", "reason": "x", "traceback": ""}
        recorder.ended(jobs[1], {"fault": crash})
    return plan


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert show.main(arguments) == 0
    said = capsys.readouterr()
    return said.out, said.err


def numbers(folder: Path) -> tuple[Any, ...]:
    """All that training decides, none rounded: metrics, curves without times, detections."""
    result = json.loads((folder / "result.json").read_text())
    points = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = ("images_per_s", "data_wait")
    curves = [(p["step"], {k: v for k, v in p["values"].items() if k not in times}) for p in points]
    rest = (result["outcome"], result["step"], result["metrics"])
    return (*rest, curves, (folder / "detections.json").read_bytes())


def shell(command: str, cwd: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_command_trains_the_cell_again_bit_for_bit(
    trained: Plan, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = trained.cells[0].id
    command, notes = told(capsys, cell, "--cmd")
    assert len(command.splitlines()) == 1
    assert "checkpoint" not in notes
    shell(command, Path("/"))  # given from anywhere
    then, now = (numbers(folder / place / cell) for place in ("mlruns/cells", "runs"))
    assert len(then[3]) > 3  # there are curves to compare
    assert now == then
    # a second time it would go on from what is there, and says so
    assert "goes on from its checkpoint" in told(capsys, cell, "--cmd")[1]


def test_the_command_without_the_cells_files(
    trained: Plan, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on another machine that reaches the same MLflow."""
    cell = trained.cells[0].id
    before = numbers(trained.folder / cell)
    (trained.folder / cell).rename(tmp_path / cell)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    command, notes = told(capsys, cell, "--cmd")
    (trained.folder / cell).mkdir()  # what is there is another attempt's: its config differs
    (trained.folder / cell / "config.yaml").write_text("seed: 7\n")
    again, _ = told(capsys, cell, "--cmd")
    assert "is not on this machine" in notes
    assert f"orchestrator.show {cell} > {cell}.yaml" in command
    assert f"orchestrator.show {cell} > {cell}.yaml" in again
    shell(command, folder)
    assert numbers(folder / "runs" / cell) == before
    shutil.rmtree(trained.folder / cell)
    (tmp_path / cell).rename(trained.folder / cell)


def test_what_is_shown_is_a_config(
    trained: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for planned in trained.cells[:2]:
        text, _ = told(capsys, planned.id)
        file = tmp_path / "config.yaml"
        file.write_text(text)
        assert load_config(file, []) == planned.cell.config  # names stay in their comments
        assert f"# cell {planned.id} of sweep small: " in text
        assert f"# folder: {trained.folder / planned.id}" in text
    found = json.loads(told(capsys, trained.cells[0].id, "--json")[0])
    assert (found["id"], found["label"], found["seed"]) == (
        trained.cells[0].id,
        "norm=gn seed=0",
        0,
    )
    assert {"data.fingerprint", "code.version", "version.torch"} <= found["provenance"].keys()
    assert {"config.yaml", "result.json"} <= {*found["files"]} & {*found["artifacts"]}
    assert found["metrics"].keys() >= {"mAP"}
    assert found["command"] == told(capsys, found["id"], "--cmd")[0].rstrip()


def test_other_code_is_said_to_give_other_numbers(
    trained: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.tracking.attempts import open_records

    records = open_records()
    run = trained.cells[1].id
    (attempt,) = records.attempts(f"tags.`cell.id` = '{run}'")
    tags = {"code.version": "0", "version.torch": "1.0", "git.dirty": "true"}
    attempt.run.data.tags.update(tags)
    notes = show.notes_on(attempt, show.config_of(records, attempt))
    assert notes[0].startswith("the cell was trained by code version 0, this is ")
    assert any("version.torch was 1.0, here it is " in note for note in notes)
    assert any("not committed" in note for note in notes)
    attempt.run.data.tags["code.version"] = show.CODE_VERSION
    (note, *_) = show.notes_on(attempt, {"seed": 1})
    assert "its config means something else to this code" in note


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"cpus_per_worker": "4.0", "gpus_per_worker": "0"}, [":-4}", "runtime.device=cpu"]),
        ({"cpus_per_worker": "0.5", "gpus_per_worker": "1"}, [":-1}", "runtime.device=cuda"]),
    ],
)
def test_the_command_sets_what_ray_had_set(
    trained: Plan, resources: dict[str, str], words: list[str]
) -> None:
    from orchestrator.tracking.attempts import open_records

    records = open_records()
    (attempt,) = records.attempts(f"tags.`cell.id` = '{trained.cells[1].id}'")
    attempt.run.data.tags.update({f"resources.{k}": v for k, v in resources.items()})
    config = show.config_of(records, attempt)
    fixed = {**config, "runtime": {**config["runtime"], "threads": 1, "device": "cpu"}}
    free = {**config, "runtime": {**config["runtime"], "threads": 0, "device": "auto"}}
    for word in words:
        assert word in show.command_of(attempt, free)
    assert "OMP_NUM_THREADS" not in show.command_of(attempt, fixed)
    assert "runtime.device" not in show.command_of(attempt, fixed)


def test_a_mistake_is_one_line_and_exit_code_2(
    trained: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show.main(["norm=gn"]) == 2
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # no patience
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert show.main([trained.cells[0].id, "--cmd"]) == 2
    said = capsys.readouterr()
    first, second = said.err.splitlines()
    assert said.out == ""
    assert trained.cells[0].id in first
    assert "does not answer" in second
