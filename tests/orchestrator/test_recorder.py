"""What is on record after faults, interruptions and outages: real stores, and files as gangs leave
them; only the training is left out."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.plan import Plan
from orchestrator.running.recovery import close_orphans, result_tags, store_unrecorded
from orchestrator.tracking import spool
from tests.orchestrator.place import COCO, RAY, Place
from tests.orchestrator.server import Server


def outcomes(runs: list[Any]) -> list[tuple[str, str, str]]:
    return [(r.data.tags["cell.attempt"], r.data.tags["cell.outcome"], r.info.status) for r in runs]


def test_an_attempt_that_died_before_it_began_is_on_record(place: Place) -> None:
    ledger, plan = place.start(only="norm == 'gn' and seed == 1")
    job = plan.job(plan.cells[0])
    lost = {"fault": {"outcome": "lost", "reason": "a worker died", "traceback": "", "time": 0.0}}
    with place.recorder(ledger, plan) as recorder:
        recorder.ended(job, lost)
        recorder.started(job, dict(RAY))
        recorder.ended(job, {"result": place.train(plan, plan.cells[0])})
        recorder.ended(job, lost)  # a process that dies after its result takes nothing away
    assert recorder.all_settled
    assert recorder.stored
    assert outcomes(place.runs(ledger)) == [
        ("1", "lost", "FAILED"),
        ("2", "converged", "FINISHED"),
    ]
    assert place.runs(ledger)[0].data.tags["cell.reason"] == "a worker died"
    assert place.said().count("seed=1: ") == 2


def test_files_go_to_the_attempt_that_made_them(place: Place) -> None:
    ledger, plan = place.start(only="norm == 'gn' and seed == 1")
    job = plan.job(plan.cells[0])
    folder = plan.folder / plan.cells[0].id
    with place.recorder(ledger, plan) as recorder:
        recorder.started(job, dict(RAY))
        crash = {"outcome": "crashed", "reason": "x", "traceback": "Traceback: first"}
        recorder.ended(job, {"fault": crash})
        recorder.started(job, dict(RAY))
        recorder.ended(job, {"fault": {"outcome": "timeout", "reason": "y", "traceback": ""}})
        recorder.started(job, dict(RAY))
        (folder / "detections.json").write_text("[]")  # of some attempt before
        recorder.ended(job, {"result": place.train(plan, plan.cells[0], "diverged")})
    files = [
        {f.path for f in ledger._live.list_artifacts(r.info.run_id)} for r in place.runs(ledger)
    ]
    assert files == [
        {"config.yaml", "traceback.txt"},
        {"config.yaml"},
        {"config.yaml", "result.json"},
    ]


def test_the_ap_of_each_class_is_a_tag_and_what_was_matched_an_artifact(place: Place) -> None:
    """By the recorder, and by the start that finds the result on disk."""
    ledger, plan = place.start(only="norm == 'gn'")
    first, second = plan.cells
    by_class = {'a "b"': 0.123456, "<i>": 1.0}
    results = []
    for planned in plan.cells:
        result = place.train(plan, planned) | {"class_AP": by_class}
        folder = plan.folder / planned.id
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "matches.npz").write_bytes(b"matches")
        results.append(result)
    with place.recorder(ledger, plan) as recorder:
        recorder.started(plan.job(first), dict(RAY))
        recorder.ended(plan.job(first), {"result": results[0]})
    ledger, plan = place.start(only="norm == 'gn'")
    assert [p.id for p in plan.todo] == [second.id]
    assert store_unrecorded(ledger, plan, place.screen)
    for run in place.runs(ledger):
        assert json.loads(run.data.tags["cell.class_AP"]) == {'a "b"': 0.1235, "<i>": 1.0}
        assert "matches.npz" in {f.path for f in ledger._live.list_artifacts(run.info.run_id)}


def test_what_is_too_long_for_a_tag_is_none() -> None:
    # {"<9 characters>": 0.1234, ...}: 21 characters each with the comma and the space
    fits = {f"{n:09}": 0.12341 for n in range(238)}
    assert len(result_tags({"class_AP": fits})["cell.class_AP"]) == 238 * 21
    assert result_tags({"class_AP": {**fits, "one more": 0.1}}) == {}
    assert result_tags({"class_AP": {}}) == result_tags({}) == {}


def test_what_a_start_of_a_part_does_to_the_table_of_the_whole(place: Place) -> None:
    ledger, plan = place.start()
    with place.recorder(ledger, plan, arguments="sweep.yaml") as recorder:
        for planned in plan.cells:
            recorder.started(plan.job(planned), dict(RAY))
            outcome = "diverged" if planned.cell.axes["norm"] == "bn" else "converged"
            recorder.ended(plan.job(planned), {"result": place.train(plan, planned, outcome)})
    (sweep,) = place.runs(ledger, "sweep")
    table = place.text(ledger, sweep, "table.csv")

    ledger, part = place.start(only="norm == 'gn'")
    arguments = "sweep.yaml --only \"norm == 'gn'\""
    with place.recorder(ledger, part, arguments=arguments) as recorder:
        pass
    assert "2 of 2 settled" in recorder.report()
    (sweep,) = place.runs(ledger, "sweep")
    again = place.text(ledger, sweep, "table.csv")

    def without_run_ids(text: str) -> list[str]:
        return sorted(line.rpartition(",")[0] for line in text.splitlines())

    assert without_run_ids(again) == without_run_ids(table)
    assert "4 of 4 settled" in place.text(ledger, sweep, "table.md")
    assert sweep.data.tags["sweep.arguments"] == arguments
    assert arguments in sweep.data.tags["mlflow.note.content"]

    # other settings are another experiment in the same words: their table has its own run
    ledger, other = place.start(overrides=["train.steps=7"])
    with place.recorder(ledger, other, arguments="sweep.yaml --set train.steps=7"):
        pass
    first, second = place.runs(ledger, "sweep")
    assert first.info.run_id == sweep.info.run_id
    assert place.text(ledger, first, "table.csv") == again
    assert "4 waiting" in place.text(ledger, second, "table.md")


def left_running(place: Place, tags: dict[str, str]) -> tuple[Plan, str]:
    """An attempt at the first cell that another orchestrator left, begun half an hour ago."""
    ledger, plan = place.start(only="norm == 'gn' and seed == 1")
    planned = plan.cells[0]
    began = time.time() - 1800
    run = ledger.start_attempt(plan.info(planned), "s", 1, plan.folder / planned.id, began)
    for key, value in tags.items():
        ledger._live.set_tag(run, key, value)
    return plan, run


@pytest.mark.parametrize("file", ["result.json", "metrics.jsonl"])
def test_a_killed_orchestrators_attempt_has_its_cost(place: Place, file: str) -> None:
    plan, run = left_running(place, {"orchestrator.pid": "0"})
    place.train(plan, plan.cells[0])
    if file == "metrics.jsonl":
        (plan.folder / plan.cells[0].id / "result.json").unlink()
    ledger, plan = place.start(only="norm == 'gn' and seed == 1")
    assert close_orphans(ledger, plan, place.screen).changed
    closed = ledger._live.get_run(run)
    assert closed.data.tags["cell.outcome"] == ("converged" if file == "result.json" else "lost")
    # 2 workers with 3 GPUs each for half an hour
    assert closed.data.metrics["gpu_hours"] == pytest.approx(3.0, abs=0.05)


def test_an_attempt_on_another_host_is_closed_when_its_cell_starts_here(place: Place) -> None:
    _, run = left_running(place, {"orchestrator.host": "another-host"})
    ledger, plan = place.start(only="norm == 'gn'")
    recovered = close_orphans(ledger, plan, place.screen)
    assert not recovered.changed
    with place.recorder(ledger, plan, elsewhere=recovered.elsewhere) as recorder:
        recorder.started(plan.job(plan.cells[0]), dict(RAY))  # another cell
        assert ledger._live.get_run(run).info.status == "RUNNING"
        recorder.started(plan.job(plan.cells[1]), dict(RAY))
        assert ledger._live.get_run(run).data.tags["cell.outcome"] == "lost"
    assert outcomes(place.runs(ledger))[0] == ("1", "lost", "FAILED")
    assert place.runs(ledger)[-1].data.tags["cell.attempt"] == "2"


def test_a_deleted_result_is_trained_anew_and_a_newer_one_is_kept(place: Place) -> None:
    ledger, plan = place.start(only="norm == 'gn' and seed == 1")
    job = plan.job(plan.cells[0])
    with place.recorder(ledger, plan) as recorder:
        recorder.started(job, dict(RAY))
        recorder.ended(job, {"result": place.train(plan, plan.cells[0])})
    (run,) = place.runs(ledger)
    ledger._live.delete_run(run.info.run_id)
    ledger, plan = place.start(only="norm == 'gn' and seed == 1")
    assert len(plan.todo) == 1
    assert not store_unrecorded(ledger, plan, place.screen)
    time.sleep(0.01)
    place.train(plan, plan.cells[0], "stalled")  # a later attempt, that MLflow has not heard of
    assert store_unrecorded(ledger, plan, place.screen)
    assert ledger.settled(plan.ids)[plan.cells[0].id].outcome == "stalled"


@pytest.fixture
def killed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(spool, "PAUSES", (0.0, 1000.0))
    yield server
    server.kill()


def test_results_that_came_while_mlflow_was_down_are_not_trained_again(
    killed_later: Server, tmp_path: Path
) -> None:
    server, place = killed_later, Place(tmp_path, "outage")
    ledger, plan = place.start()
    with place.recorder(ledger, plan) as recorder:
        early = plan.job(plan.cells[0])
        recorder.started(early, dict(RAY))
        server.kill()
        recorder.ended(early, {"result": place.train(plan, plan.cells[0])})
        late = plan.job(plan.cells[1])  # MLflow never hears that this one began
        recorder.started(late, dict(RAY))
        recorder.ended(late, {"result": place.train(plan, plan.cells[1], "diverged")})
    assert not recorder.stored
    after = place.said().rpartition("diverged")[2].splitlines()[1:]
    assert len(after) == 1, after
    assert str(plan.folder) in after[0]
    assert "the same command stores them" in after[0]

    server.start()
    ledger, plan = place.start()
    assert len(plan.todo) == 4
    # as after a new start: this process is still alive, and so its attempt is its own
    (open_run,) = place.runs(ledger)
    ledger._live.set_tag(open_run.info.run_id, "orchestrator.pid", "0")
    assert close_orphans(ledger, plan, place.screen).changed
    plan = plan.reconciled(ledger.settled(plan.ids))
    assert store_unrecorded(ledger, plan, place.screen)
    plan = plan.reconciled(ledger.settled(plan.ids))
    assert [plan.status(p) for p in plan.cells] == ["converged", "diverged", "waiting", "waiting"]
    assert plan.settled[plan.cells[0].id].metrics == COCO
    restored = ledger._live.get_run(plan.settled[plan.cells[1].id].run_id)
    assert restored.data.metrics["loss/total"] == 0.5
    assert restored.data.metrics["gpu_hours"] == pytest.approx(6.0, abs=0.05)
    (line,) = [line for line in place.said().splitlines() if "stored now" in line]
    assert plan.cells[1].cell.label in line
    # once and no more
    assert not store_unrecorded(ledger, plan, place.screen)
    assert len(place.runs(ledger)) == 2


def test_it_is_said_once_how_long_the_first_step_was_in_coming(place: Place) -> None:
    ledger, plan = place.start(only="norm == 'gn'")
    began = time.time() - 12.3
    other_clock = 1.8e9  # of the node that trains
    points = [{"step": s, "time": other_clock, "values": {"loss/total": 1.0}} for s in (0, 1)]
    score = {"step": 5, "time": other_clock, "values": {"mAP": 0.5}}  # of a run that goes on
    with place.recorder(ledger, plan, began=began) as recorder:
        for planned in plan.cells:
            recorder.started(plan.job(planned), dict(RAY))
            recorder.points(plan.job(planned), [score])
        assert "first step" not in place.said()
        for planned in plan.cells:
            recorder.points(plan.job(planned), points)
    assert place.said().count("first step") == 1
    assert re.search(r"first step 1[2-9]\.\d s after the command", place.said())
