"""The MLflow ledger, on real stores: an embedded one, one that a killed process left behind, and a
server that is killed."""

import json
import math
import os
import sqlite3
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dashboards.store import cut, find_store
from detcore.result import METRICS, Point
from orchestrator.tracking import spool
from orchestrator.tracking.ledger import CellInfo, LedgerError, open_ledger
from orchestrator.tracking.runs import STATUS, cell_params
from orchestrator.tracking.spool import is_key, read_points
from orchestrator.tracking.views import VIEWS, view_states
from tests.orchestrator.server import Server, free_port

AXES = {"norm": ["bn", "gn"], "batch": [1, 2]}
COCO = {name: (i + 1) / 100 for i, name in enumerate(METRICS)}


def info(id, norm="bn", batch=1, seed=0, **more):
    base = {"optim": {"lr": 0.01, "kind": "sgd"}, "seed": 0, "model": {"neck": {"norm": "bn"}}}
    config = {"optim": {"lr": 0.02, "kind": "sgd"}, "seed": 0, "model": {"neck": {"norm": norm}}}
    axes = {"norm": norm, "batch": batch}
    return CellInfo(id, f"{norm} b{batch} s{seed}", axes, seed, config, base, **more)


def curve(n, start=0):
    """n points, ten steps apart, as a trainer reports them."""
    return [
        Point(10 * i, 1.7e9 + i / 7, {"lr": 0.01 * i, "loss/total": 1 / (i + 1)})
        for i in range(start, start + n)
    ]


def write_points(file, points):
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": p.step, "time": p.time, "values": p.values}) for p in points]
    file.write_text("\n".join(lines) + "\n")


def history(ledger, run_id, key):
    return [(m.step, m.value) for m in ledger._live.get_metric_history(run_id, key)]


def expected(points, key):
    return [(p.step, p.values[key]) for p in points]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def ledger(root, request):
    """A ledger of its own experiment, in the module's store."""
    return open_ledger(request.node.name, root)


# ---------------------------------------------------------------- the contract (DESIGN.md, 6)


def test_a_cell_is_recorded_under_the_agreed_names(ledger, tmp_path):
    dump = tmp_path / "detections.json"
    dump.write_text("[]")
    sweep = ledger.start_sweep("name: x\n", {"cells": []}, "[dashboard](http://h)", AXES)
    gn = info(
        "c1",
        "gn",
        2,
        1,
        ref="R7",
        resources={"workers": 2, "cpus_per_worker": 1},
        provenance={"data.fingerprint": "f00"},
    )
    run_id = ledger.start_attempt(gn, sweep, 3, tmp_path)
    assert ledger._live.get_run(run_id).data.tags["cell.outcome"] == "running"
    ledger.tag(run_id, {"ray.job_id": "0200", "ray.actor_ids": ["a", "b"]})
    ledger.log_points(run_id, curve(3))
    assert ledger.finish(
        run_id, "converged", "mAP 0.01", 20, COCO, {"train_hours": 0.5, "params_m": 1.2}, [dump]
    )

    run = ledger._live.get_run(run_id)
    tags = run.data.tags
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "gn b2 s1"
    wanted = {
        "run.kind": "cell",
        "sweep.name": ledger.name,
        "sweep.run_id": sweep,
        "cell.id": "c1",
        "cell.label": "gn b2 s1",
        "cell.attempt": "3",
        "cell.outcome": "converged",
        "cell.reason": "mAP 0.01",
        "cell.step": "20",
        "cell.seed": "1",
        "axis.norm": "gn",
        "axis.batch": "2",
        "ref.id": "R7",
        "data.fingerprint": "f00",
        "resources.workers": "2",
        "ray.job_id": "0200",
    }
    assert wanted.items() <= tags.items()
    assert "mlflow.parentRunId" not in tags  # flat: nested runs hide in the table
    assert {"version.torch", "version.ray", "version.python"} <= tags.keys()
    assert run.data.metrics == {
        **COCO,
        "train_hours": 0.5,
        "params_m": 1.2,
        "lr": 0.02,
        "loss/total": 1 / 3,
    }
    assert run.data.params == {
        "norm": "gn",
        "batch": "2",
        "optim.lr": "0.02",
        "model.neck.norm": "gn",
    }
    files = {file.path for file in ledger._live.list_artifacts(run_id)}
    assert files == {"config.yaml", "detections.json"}
    where = Path(ledger._live.download_artifacts(run_id, "config.yaml"))
    assert yaml.safe_load(where.read_text()) == gn.config


def test_a_level_of_the_first_axis_keeps_its_colour(ledger, tmp_path):
    sweep = ledger.start_sweep("", {}, "", AXES)
    cells = [info("x", n, b) for n in ("bn", "gn") for b in (1, 2)]
    runs = [ledger.start_attempt(cell, sweep, 1, tmp_path) for cell in cells]
    colours = [ledger._live.get_run(run).data.tags["mlflow.runColor"] for run in runs]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    for run in runs:
        ledger.finish(run, "cancelled")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("converged", "FINISHED"), ("diverged", "FINISHED"), ("stalled", "FINISHED")]
    + [(fault, "FAILED") for fault in ("oom", "crashed", "timeout", "lost")]
    + [("cancelled", "KILLED")],
)
def test_results_finish_faults_fail_and_only_results_settle(
    root, tmp_path_factory, outcome, status
):
    ledger = open_ledger("statuses", root)
    cell = info(f"status-{outcome}")
    run_id = ledger.start_attempt(cell, "s", 1, tmp_path_factory.getbasetemp())
    assert ledger.settled([cell.id]) == {}
    ledger.finish(run_id, outcome, "because", 7)
    assert ledger._live.get_run(run_id).info.status == status == STATUS[outcome]
    found = ledger.settled([cell.id])
    assert set(found) == ({cell.id} if status == "FINISHED" else set())
    if found:
        assert (found[cell.id].outcome, found[cell.id].step) == (outcome, 7)
    assert ledger.next_attempt(cell.id) == 2


def test_a_result_counts_in_every_sweep_and_the_newest_wins(root, tmp_path):
    first, second, third = (open_ledger(f"shared-{i}", root) for i in range(3))
    for number, (ledger, value) in enumerate([(first, 0.1), (second, 0.2)], 1):
        run_id = ledger.start_attempt(info("base"), "s", number, tmp_path)
        ledger.finish(run_id, "converged", "", 300, {"mAP": value}, {"train_hours": 1.0})
        time.sleep(0.01)  # runs are ordered by their start in milliseconds
    fault = third.start_attempt(info("base"), "s", 3, tmp_path)
    third.finish(fault, "crashed", "a fault unsettles nothing")
    found = third.settled(["base", "unknown"])
    assert set(found) == {"base"}
    assert (found["base"].metrics, found["base"].values) == ({"mAP": 0.2}, {"train_hours": 1.0})
    assert found["base"].sweep == "shared-1"
    assert third.next_attempt("unknown") == 1
    third._live.delete_run(found["base"].run_id)  # what a user deletes is no result any more
    assert third.settled(["base"])["base"].metrics == {"mAP": 0.1}


def test_the_sweep_has_one_run_however_often_it_is_started(ledger):
    first = ledger.start_sweep("a: 1", {"n": 1}, "first", AXES)
    assert ledger.finish_sweep(first, {"table.md": "| old |"})
    assert ledger._live.get_run(first).info.status == "FINISHED"
    again = open_ledger(ledger.name, ledger.store.embedded.parent.parent)
    assert again.start_sweep("a: 2", {"n": 2}, "n" * 9000, AXES) == first
    run = again._live.get_run(first)
    assert run.info.status == "RUNNING"
    assert run.data.tags["run.kind"] == "sweep"
    assert run.data.tags["mlflow.note.content"].endswith("... [9000 characters]")
    assert again.finish_sweep(first, {"table.md": "| new |"}, "KILLED")
    assert again._live.get_run(first).info.status == "KILLED"
    text = {
        f: Path(again._live.download_artifacts(first, f)).read_text()
        for f in ("sweep.yaml", "table.md")
    }
    assert text == {"sweep.yaml": "a: 2", "table.md": "| new |"}


def test_params_are_what_differs_from_the_base():
    base = {"a": {"kind": "x", "p": 1}, "b": 2, "norm": "inner"}
    config = {"a": {"kind": "y"}, "b": 2, "norm": "inner", "c": {"d": [1, 2]}}
    cell = CellInfo("i", "l", {"norm": "gn"}, 0, config, base)
    assert cell_params(cell) == {"a.kind": "y", "a.p": "None", "c.d": "[1, 2]", "norm": "gn"}


def test_a_long_reason_is_cut_where_one_can_see_it(ledger, tmp_path):
    run_id = ledger.start_attempt(info("long"), "s", 1, tmp_path)
    ledger.finish(run_id, "crashed", "x" * 3000)
    reason = ledger._live.get_run(run_id).data.tags["cell.reason"]
    assert len(reason) == 500
    assert reason.endswith("... [3000 characters]")
    assert cut("short", 500) == "short"


def test_the_saved_views_are_written_in_mlflows_form(ledger):
    ledger.start_sweep("", {}, "", AXES)
    tags = ledger._live.get_experiment(ledger.experiment_id).tags
    for view, name in VIEWS.items():
        whole = json.loads(tags[f"mlflow.sharedViewState.{view}"])
        state = json.loads(whole["state"])
        assert whole["name"] == name
        assert view_states(AXES)[view].items() <= state.items()
        # the filter of each view is one that the store understands
        ledger._live.search_runs([ledger.experiment_id], state["searchFilter"])
    assert set(VIEWS.values()) == {"COCO table", "Convergence failures", "Curves"}


# ---------------------------------------------------------------- points


@pytest.mark.parametrize(("runs", "gap"), [(1, 5), (4, 8), (40, 60)])
def test_the_more_runs_have_something_to_say_the_longer_is_each_one_s_turn(
    ledger, tmp_path, monkeypatch, runs, gap
):
    now, sent = [1000.0], {}
    monkeypatch.setattr(spool, "time", SimpleNamespace(monotonic=lambda: now[0]))
    log_batch = ledger._live.log_batch

    def noted(run_id, **what):
        sent.setdefault(run_id, []).append(now[0])
        log_batch(run_id, **what)

    monkeypatch.setattr(ledger._live, "log_batch", noted)
    ids = [ledger.start_attempt(info(f"turn{i}"), "s", 1, tmp_path) for i in range(runs)]
    points = [Point(i, 1.7e9 + i, {"lr": 0.1 * i}) for i in range(130)]
    for point in points:
        now[0] += 1
        for run_id in ids:
            ledger.log_points(run_id, [point])
    for run_id in ids:
        apart = [b - a for a, b in pairwise(sent[run_id])]
        assert set(apart) == {gap}
    assert ledger.flush()
    assert history(ledger, ids[-1], "lr") == expected(points, "lr")


def test_points_come_once_and_in_order_and_infinity_is_no_number(ledger, tmp_path):
    run_id = ledger.start_attempt(info("pts"), "s", 1, tmp_path)
    points = curve(1500)  # 3000 numbers: more than one request takes
    ledger.log_points(run_id, points[:700])
    ledger.log_points(run_id, points[400:1200])
    write_points(tmp_path / "metrics.jsonl", points)
    bad = Point(99_999, 1.8e9, {"grad_norm": math.inf, "AP@0.5": 1.0, "lr": 7.0})
    ledger.log_points(run_id, [bad])
    assert ledger.finish(run_id, "diverged", "inf", 9, metrics_file=tmp_path / "metrics.jsonl")
    assert history(ledger, run_id, "loss/total") == expected(points, "loss/total")
    assert history(ledger, run_id, "lr") == [*expected(points, "lr"), (99_999, 7.0)]
    [(step, value)] = history(ledger, run_id, "grad_norm")
    assert step == 99_999
    assert math.isnan(value)
    assert [m for m in ledger.messages if "AP@0.5" in m] == [
        "the value 'AP@0.5' is not recorded: MLflow takes letters, digits, _-./: and space"
    ]


@given(st.text(alphabet="aZ09_-./: @%[]()é\\\n", max_size=12) | st.just("k" * 251))
def test_a_key_is_taken_only_if_mlflow_takes_it(key):
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name

    try:
        _validate_metric_name(key)
        allowed = 0 < len(key) <= MAX_ENTITY_KEY_LENGTH
    except MlflowException:
        allowed = False
    if is_key(key):
        assert allowed
    elif allowed:  # stricter than MLflow on odd names only
        assert not key.isascii() or key.startswith(".") or key.endswith("\n")


def test_half_a_line_of_a_killed_writer_is_passed_over(tmp_path):
    file = tmp_path / "metrics.jsonl"
    write_points(file, curve(3))
    with file.open("a") as out:
        out.write('{"step": 30, "time": 1.0, "val')
    assert read_points(file) == curve(3)
    assert read_points(tmp_path / "none.jsonl") == []


def test_a_run_deleted_by_the_user_holds_up_no_other(ledger, tmp_path):
    gone = ledger.start_attempt(info("del"), "s", 1, tmp_path)
    other = ledger.start_attempt(info("other"), "s", 1, tmp_path)
    ledger._live.delete_run(gone)
    ledger.log_points(gone, curve(600))
    ledger.log_points(other, curve(600))
    assert not ledger.finish(gone, "converged", "", 1)
    assert ledger.finish(other, "converged", "", 1)
    assert history(ledger, other, "lr") == expected(curve(600), "lr")
    assert any("refuses the run of bn b1 s0" in message for message in ledger.messages)


def test_a_lost_answer_makes_no_second_run(ledger, tmp_path, monkeypatch):
    real, calls = ledger._live.create_run, []

    def loses_its_answer(*args, **kwargs):
        calls.append(real(*args, **kwargs))
        if len(calls) == 1:
            raise ConnectionError("connection reset by peer")
        return calls[-1]

    monkeypatch.setattr(ledger._live, "create_run", loses_its_answer)
    handle = ledger.start_attempt(info("twice"), "s", 1, tmp_path)
    assert ledger.flush()
    assert ledger.finish(handle, "converged", "", 1, {"mAP": 0.5})
    runs = ledger._live.search_runs([ledger.experiment_id], "tags.`cell.id` = 'twice'")
    assert [run.info.run_id for run in runs] == [calls[0].info.run_id]
    assert runs[0].data.metrics == {"mAP": 0.5}


# ---------------------------------------------------------------- what a dead orchestrator leaves

ORCHESTRATOR = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.orchestrator.test_ledger import curve, info, open_ledger, write_points
root = Path(sys.argv[1])
ledger = open_ledger("left", root)
for id in ("unfinished", "told"):
    write_points(root / id / "metrics.jsonl", curve(40))
    run = ledger.start_attempt(info(id), "s", 1, root / id)
    ledger.log_points(run, curve(25))
ledger.flush()
ledger._live.set_tag(run, "cell.outcome", "converged")  # told its outcome, and died before closing
(root / "ready").touch()
time.sleep(300)
"""


def test_what_a_killed_orchestrator_leaves_is_found_and_completed(tmp_path):
    root = tmp_path / "odd %20 #name"  # MLflow unquotes what it is given
    root.mkdir()
    assert open_ledger("left", root, create=False).settled(["told"]) == {}
    assert list(root.iterdir()) == []  # a dry run makes nothing
    here = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", ORCHESTRATOR, str(root), here],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        while not (root / "ready").exists():
            assert child.poll() is None, child.stdout.read().decode()
            time.sleep(0.1)
        ledger = open_ledger("left", root)
        alive = {attempt.cell_id: attempt.owner for attempt in ledger.open_attempts()}
        assert alive == {"unfinished": "alive", "told": "alive"}
    finally:
        child.kill()
        said = child.communicate()[0].decode()
    assert said == ""  # a new store is made without a word
    with sqlite3.connect(ledger.store.embedded) as database:
        assert database.execute("pragma journal_mode").fetchone() == ("wal",)

    [left] = ledger.open_attempts()
    assert (left.cell_id, left.owner, left.attempt) == ("unfinished", "gone", 1)
    assert left.folder == root / "unfinished"
    told = ledger.settled(["told", "unfinished"])
    assert set(told) == {"told"}
    assert ledger._live.get_run(told["told"].run_id).info.status == "FINISHED"

    assert ledger.finish(left.run_id, "lost", "died", metrics_file=left.folder / "metrics.jsonl")
    assert history(ledger, left.run_id, "lr") == expected(curve(40), "lr")
    assert ledger.open_attempts() == []
    ledger._live.set_tag(told["told"].run_id, "orchestrator.host", "another-host")
    ledger._live.update_run(told["told"].run_id, status="RUNNING")
    [far] = ledger.open_attempts()  # not ours to close: it may live
    assert (far.owner, far.host) == ("elsewhere", "another-host")


OPENS = """
import sys, time
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from orchestrator.tracking.ledger import open_ledger
root, name = Path(sys.argv[1]), sys.argv[2]
(root / f"{name} is ready").touch()
while not (root / "go").exists():
    time.sleep(0.001)
open_ledger(name, root)
"""


def test_the_first_starts_of_two_sweeps_may_meet(tmp_path):
    """With a temporary folder each, as batch systems give them: MLflow's own lock lies there."""
    children = []
    for name in ("one", "two"):
        (tmp_path / f"tmp-{name}").mkdir()
        children.append(
            subprocess.Popen(
                [sys.executable, "-c", OPENS, str(tmp_path), name],
                cwd=Path(__file__).parents[2],
                env={**os.environ, "TMPDIR": str(tmp_path / f"tmp-{name}")},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        while len(list(tmp_path.glob("* is ready"))) < 2:
            assert all(child.poll() is None for child in children)
            time.sleep(0.05)
        (tmp_path / "go").touch()
        said = [child.communicate(timeout=120)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert said == ["", ""]
    assert [child.returncode for child in children] == [0, 0]
    names = {e.name for e in open_ledger("one", tmp_path)._live.search_experiments()}
    assert {"one", "two"} <= names


# ---------------------------------------------------------------- stores that cannot be used


def test_a_deleted_experiment_is_named_with_the_remedy(root):
    ledger = open_ledger("thrown away", root)
    ledger._live.delete_experiment(ledger.experiment_id)
    with pytest.raises(LedgerError, match=r"'thrown away' is deleted.*restore -x") as error:
        open_ledger("thrown away", root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("./mlruns", "MLFLOW_TRACKING_URI: './mlruns' is not a database or a server.*unset it"),
        ("file:///tmp/x", "is not a database or a server"),
        ("http://user:secret@127.0.0.1:{port}", "http://127.0.0.1:[0-9]+ does not answer.*unset"),
        ("sqlite:////dev/null/x.db", "cannot be opened"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_with_the_remedy(
    monkeypatch, tmp_path, uri, problem
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(port=free_port()))
    with pytest.raises(LedgerError, match=problem) as error:
        open_ledger("x", tmp_path)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_one_cannot_write_to(tmp_path):
    (tmp_path / "mlruns").write_text("a file in its place")
    with pytest.raises(LedgerError, match=r"mlflow\.db: cannot be made or opened"):
        open_ledger("x", tmp_path)


def test_how_to_look_at_the_results(monkeypatch, tmp_path):
    store = find_store(tmp_path)
    assert store.browse("7") == (
        f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlruns/mlflow.db "
        "--host 127.0.0.1 --port 5000"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@host:5000/")
    assert find_store(tmp_path).browse("7") == (
        "http://host:5000/#/experiments/7?workflowType=machine_learning"
    )
    # what is printed ends up in logs and issues: no password in it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:pw@host/results")
    assert find_store(tmp_path).browse("7") == (
        'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI" --host 127.0.0.1 --port 5000'
    )


# ---------------------------------------------------------------- a server that dies


@pytest.fixture
def server(tmp_path, root):
    open_ledger("any", root)  # makes the module's store; a copy saves the server its migration
    with (
        sqlite3.connect(find_store(root).embedded) as made,
        sqlite3.connect(tmp_path / "server.db") as copy,
    ):
        made.backup(copy)
    server = Server(tmp_path)
    yield server
    server.kill()


def test_a_server_killed_in_mid_sweep_loses_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(spool, "PAUSES", (0.0, 1000.0))  # two tries, then only when told to
    ledger = open_ledger("outage", tmp_path)
    assert ledger.ui_command().startswith(f"{server.uri}/#/experiments/")
    sweep = ledger.start_sweep("a: 1", {}, "note", AXES)
    one, two, three = curve(900), curve(700), curve(5)
    early = ledger.start_attempt(info("early"), sweep, 1, tmp_path)
    ended = ledger.start_attempt(info("ended"), sweep, 1, tmp_path)
    ledger.log_points(early, one[:300])

    server.kill()
    ledger.log_points(early, one[300:600])
    ledger.log_points(ended, two)
    assert not ledger.finish(ended, "diverged", "NaN at 7", 7, COCO)
    late = ledger.start_attempt(info("late"), sweep, 1, tmp_path)  # its run cannot be made now
    ledger.tag(late, {"ray.job_id": "09"})
    ledger.log_points(late, three)
    assert not ledger.finish(late, "converged", "", 50, COCO)
    assert not ledger.flush()
    assert len([m for m in ledger.messages if "does not answer" in m]) == 1

    server.start()
    ledger.log_points(early, one[600:])
    assert ledger.flush()
    assert ledger.finish(early, "converged", "", 9000, COCO)
    assert ledger.finish_sweep(sweep, {"table.md": "| t |"})
    assert [m for m in ledger.messages if "answers again" in m] == [ledger.messages[-1]]

    found = open_ledger("outage", tmp_path).settled(["early", "ended", "late"])
    assert {id: s.outcome for id, s in found.items()} == {
        "early": "converged",
        "ended": "diverged",
        "late": "converged",
    }
    assert all(s.metrics == COCO for s in found.values())
    for id, points in (("early", one), ("ended", two), ("late", three)):
        for key in ("lr", "loss/total"):
            assert history(ledger, found[id].run_id, key) == expected(points, key)
    runs = ledger._live.search_runs([ledger.experiment_id], "tags.`run.kind` = 'cell'")
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 3
    tags = ledger._live.get_run(found["late"].run_id).data.tags
    assert tags["ray.job_id"] == "09"
    files = [f.path for f in ledger._live.list_artifacts(found["late"].run_id)]
    assert files == ["config.yaml"]
    assert ledger.open_attempts() == []
