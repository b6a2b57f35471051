"""A sweep on the services of docker-compose.yml, its gangs over several nodes, read back from each
service as others read it: by HTTP."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import psycopg
import pytest

from tests.cluster.conftest import Started, Workplace, steps_of, until
from tests.stack import native
from tests.stack.stack import Stack

RANKS = (2, 3)
SEEDS = (0, 1)
CELLS = len(RANKS) * len(SEEDS)
pytestmark = pytest.mark.slow


def ask(url: str, body: Any = None, **headers: str) -> Any:
    """The JSON of an answer; `body` makes it a POST."""
    data = None if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **named})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def status(url: str, body: Any = None, **headers: str) -> int:
    try:
        ask(url, body, **headers)
    except urllib.error.HTTPError as refused:
        return refused.code
    return 200


def prometheus(stack: Stack, query: str) -> list[dict[str, Any]]:
    address = f"{stack.url('prometheus')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    answer = ask(address)
    assert answer["status"] == "success"
    return list(answer["data"]["result"])


@pytest.fixture(scope="module")
def place(stack: Stack) -> Workplace:
    """Every node has one CPU, so a gang of two lies on two of them and a gang of three on all."""
    place = Workplace(stack.project, stack.driver_environment())
    place.write(
        axes={"ranks": {"values": list(RANKS)}},
        resources={"workers": "ranks"},
        seeds=list(SEEDS),
    )
    return place


@pytest.fixture(scope="module")
def sweep(place: Workplace) -> Started:
    run = place.run()
    assert run.process.returncode == 0, run.stderr()
    run.wait_for_all()
    return run


@pytest.fixture(scope="module")
def cells(stack: Stack, sweep: Started) -> list[dict[str, Any]]:
    """The runs of the cells, by MLflow's REST interface: info, metrics and tags."""
    address = f"{stack.url('mlflow')}/api/2.0/mlflow"
    experiment = ask(f"{address}/experiments/get-by-name?experiment_name=tiny")["experiment"]
    found = ask(
        f"{address}/runs/search",
        {
            "experiment_ids": [experiment["experiment_id"]],
            "filter": "tags.`run.kind` = 'cell'",
        },
    )
    return [
        {
            "run_id": run["info"]["run_id"],
            "status": run["info"]["status"],
            "tags": {tag["key"]: tag["value"] for tag in run["data"]["tags"]},
            "metrics": {m["key"]: m["value"] for m in run["data"]["metrics"]},
        }
        for run in found["runs"]
    ]


def test_gangs_lie_on_several_nodes_and_every_cell_settles(cells: list[dict[str, Any]]) -> None:
    done = {(int(c["tags"]["axis.ranks"]), int(c["tags"]["cell.seed"])): c for c in cells}
    assert len(cells) == CELLS
    assert done.keys() == {(ranks, seed) for ranks in RANKS for seed in SEEDS}
    for (ranks, _), cell in done.items():
        nodes = cell["tags"]["ray.nodes"].split(",")
        assert len(set(nodes)) == ranks
        assert set(nodes) <= {"127.0.0.2", "127.0.0.3", "127.0.0.4"}
        assert cell["tags"]["cell.outcome"] in ("converged", "stalled")
        assert cell["status"] == "FINISHED"


def test_mlflow_has_every_point_that_a_cell_wrote(
    stack: Stack, place: Workplace, cells: list[dict[str, Any]]
) -> None:
    for cell in cells:
        folder = place.folder / "mlruns" / "cells" / cell["tags"]["cell.id"]
        query = urllib.parse.urlencode({"run_id": cell["run_id"], "metric_key": "loss/total"})
        history = ask(f"{stack.url('mlflow')}/api/2.0/mlflow/metrics/get-history?{query}")
        stored = [int(point["step"]) for point in history["metrics"]]
        assert stored
        assert sorted(stored) == sorted(steps_of(folder))
        result = json.loads((folder / "result.json").read_text())
        assert cell["metrics"]["mAP"] == result["metrics"]["mAP"]


def test_the_dashboards_show_the_same_cells(stack: Stack, cells: list[dict[str, Any]]) -> None:
    (listed,) = ask(f"{stack.url('dashboards')}/api/sweeps.json")
    assert (listed["name"], listed["state"]) == ("tiny", "finished")
    assert (listed["planned"], listed["settled"]) == (CELLS, CELLS)
    shown = ask(f"{stack.url('dashboards')}/api/sweep/tiny.json")["cells"]
    assert {c["run_id"]: c["metrics"]["mAP"] for c in shown} == {
        c["run_id"]: c["metrics"]["mAP"] for c in cells
    }
    browser = f"http://localhost:{stack.settings['MLFLOW_PORT']}/#/"
    assert all(cell["links"]["mlflow"].startswith(browser) for cell in shown)


def test_prometheus_has_the_sweep_and_every_node(stack: Stack, sweep: Started) -> None:
    def seen() -> dict[str, float]:
        found = prometheus(stack, 'max_over_time(ray_sweep_cells{sweep="tiny"}[1h])')
        return {s["metric"]["outcome"]: float(s["value"][1]) for s in found}

    # the last numbers of a sweep go with its process: what stood during it is what counts
    until(lambda: {"converged", "stalled"} & seen().keys(), "Prometheus knows of settled cells")
    assert all(0 <= count <= CELLS for count in seen().values())
    assert seen()["waiting"] >= 1
    assert prometheus(stack, 'max_over_time(ray_sweep_queue_length{sweep="tiny"}[1h])')
    nodes = prometheus(stack, "count by (ip) (ray_node_cpu_utilization)")
    assert {s["metric"]["ip"] for s in nodes} == {"127.0.0.2", "127.0.0.3", "127.0.0.4"}


def job(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """`ray job WORDS` of a client outside the cluster: it has the dashboard's address alone."""
    environment = stack.driver_environment() | {"RAY_API_SERVER_ADDRESS": stack.url("ray-head")}
    del environment["RAY_ADDRESS"]
    command = [native.program("ray"), "job", *words]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)


RUN = ("python", "-m", "orchestrator.run")


def test_a_job_that_is_submitted_trains_nothing_again_and_has_an_exit_code(
    stack: Stack, sweep: Started, cells: list[dict[str, Any]]
) -> None:
    again = job(stack, "submit", "--", *RUN, "sweep.yaml")
    assert again.returncode == 0, again.stderr
    assert f"{CELLS} settled before, 0 to run" in again.stdout
    mistake = job(stack, "submit", "--", *RUN, "absent.yaml")
    assert mistake.returncode == 1  # Ray's own; that of the command is in what it says
    assert "exit code 2" in mistake.stdout + mistake.stderr


def test_a_job_that_is_stopped_ends_its_cells_and_says_how_to_go_on(
    stack: Stack, place: Workplace, cells: list[dict[str, Any]]
) -> None:
    text = place.write({"train": {"steps": 100_000}}, name="long", resources={"workers": 2})
    text.rename(place.folder / "long.yaml")
    submitted = job(
        stack, "submit", "--no-wait", "--submission-id", "long", "--", *RUN, "long.yaml"
    )
    assert submitted.returncode == 0, submitted.stderr
    uri = stack.url("mlflow")

    def outcomes() -> list[str]:
        return [r.data.tags["cell.outcome"] for r in place.cells(uri, "long")]

    until(lambda: "running" in outcomes(), "a cell of the job runs")
    assert job(stack, "stop", "long").returncode == 0
    until(lambda: "running" not in outcomes(), "no cell of the job runs")
    assert set(outcomes()) == {"cancelled"}
    lines = job(stack, "logs", "long").stdout
    assert "Interrupted. What has settled is kept; the same command goes on from here." in lines


# ---------------------------------------------------------------- who is let in


def test_mlflow_answers_to_its_names_alone(stack: Stack) -> None:
    address = f"{stack.url('mlflow')}/api/2.0/mlflow/experiments/search"
    port = stack.settings["MLFLOW_PORT"]
    for host in ("mlflow:5000", f"localhost:{port}", f"127.0.0.1:{port}"):
        assert status(f"{address}?max_results=1", Host=host) == 200
    assert status(f"{address}?max_results=1", Host="elsewhere.example") == 403
    body = {"max_results": 1}
    assert status(address, body, Origin=f"http://localhost:{port}") == 200
    assert status(address, body, Origin="http://elsewhere.example") == 403


def test_ray_asks_for_the_token(stack: Stack) -> None:
    jobs = f"{stack.url('ray-head')}/api/jobs/"
    assert status(jobs) == 401
    token = stack.settings["RAY_AUTH_TOKEN"]
    assert status(jobs, Authorization=f"Bearer {token}") == 200


def test_the_dashboards_answer_to_their_names_alone(stack: Stack) -> None:
    address = f"{stack.url('dashboards')}/api/sweeps.json"
    assert status(address) == 200
    assert status(address, Host="elsewhere.example") == 400


def test_the_database_asks_for_the_password(stack: Stack) -> None:
    where = {"host": "127.0.0.1", "dbname": "mlflow", "user": "ablation"}
    words = stack.service("postgres").command
    port = words[words.index("-p") + 1]
    with psycopg.connect(**where, port=port, password=stack.settings["POSTGRES_PASSWORD"]):
        pass
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(**where, port=port, password="another")


def test_a_health_check_fails_while_its_service_is_gone_and_passes_again(stack: Stack) -> None:
    """And MLflow goes on when its database has come back; so do those that ask it."""
    database, server = stack.service("postgres"), stack.service("mlflow")
    database.kill()
    assert not database.is_healthy()
    assert not server.is_healthy()  # it runs and has nothing to say: /health would be green
    assert server.is_running()
    database.start()
    server.wait_until_healthy()
    stack.service("dashboards").wait_until_healthy()
