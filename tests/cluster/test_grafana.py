"""The panels for Grafana, asked of a real Prometheus that reads a real Ray. There is no GPU: its
two series are put in Ray's place, under the names and labels that Ray gives them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.dashboard.modules.reporter.reporter_agent import GPU_TAG_KEYS, METRICS_GAUGES
from ray.util.metrics import Gauge

from orchestrator.cluster.gangs import Gang
from orchestrator.cluster.room import Shape
from orchestrator.running.gauges import Gauges
from orchestrator.tracking.table import Row
from tests.cluster.local_ray import local_ray
from tests.orchestrator.server import free_port

PLACE = Path(__file__).parents[2] / "dashboards"
BOARD = json.loads((PLACE / "grafana" / "dashboards" / "sweeps.json").read_text())
PROMETHEUS = shutil.which("prometheus")


def exprs() -> dict[str, list[str]]:
    return {p["title"]: [t["expr"] for t in p["targets"]] for p in BOARD["panels"]}


def gang(cell: str, *gpus: str) -> Gang:
    shape = Shape(len(gpus), 0, 1)
    where = [{"ip": "10.0.0.1", "gpus": [gpu]} for gpu in gpus]
    return Gang("g", shape, (), None, [], "", {"label": cell}, where=where, ticket="t")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus; in Ray, cell a holds GPUs 0 and 1, used 40 and 60 %, cell b GPU
    2, used 10 %; 3000, 5000 and 7000 MB of memory are full."""
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed")
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "2000")
        with local_ray(cpus=1):
            stop = threading.Event()
            telling = threading.Thread(target=_tell, args=(stop,))
            telling.start()
            target = f"127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}"
            (folder / "nodes.json").write_text(json.dumps([{"targets": [target]}]))
            config = yaml.safe_load((PLACE / "prometheus" / "prometheus.yml").read_text())
            job = config["scrape_configs"][0]
            assert job["file_sd_configs"][0]["files"] == [
                "/tmp/ray/prom_metrics_service_discovery.json"
            ]
            job["file_sd_configs"][0]["files"] = [str(folder / "nodes.json")]
            config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s"}
            (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
            process = subprocess.Popen(
                [
                    PROMETHEUS,
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stderr=(folder / "log.txt").open("w"),
            )
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait()
                stop.set()
                telling.join()


def _tell(stop: threading.Event) -> None:
    gauges = Gauges("s")
    used = Gauge("node_gpus_utilization", "", ("ip", "GpuIndex", "GpuDeviceName"))
    full = Gauge("node_gram_used", "", ("ip", "GpuIndex", "GpuDeviceName"))
    rows = [Row({}, 0, o) for o in ("converged", "converged", "diverged", "running", "waiting")]
    while not stop.wait(0.5):
        gauges.tell(rows, 4, [gang("a", "0", "1"), gang("b", "2")])
        for index, percent, megabytes in (("0", 40, 3000), ("1", 60, 5000), ("2", 10, 7000)):
            tags = {"ip": "10.0.0.1", "GpuIndex": index, "GpuDeviceName": "H"}
            used.set(percent, tags)
            full.set(megabytes, tags)


def ask(address: str, expr: str) -> dict[str, float]:
    """The values by cell, outcome or sweep, whichever is the last label there is."""
    query = urllib.parse.urlencode({"query": expr.replace("$sweep", ".*")})
    with urllib.request.urlopen(f"{address}/api/v1/query?{query}", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    assert found["status"] == "success"
    out = {}
    for series in found["data"]["result"]:
        labels = series["metric"]
        name = labels.get("cell") or labels.get("outcome") or labels.get("sweep") or ""
        out[name] = float(series["value"][1])
    return out


EXPECTED = {
    "Cells by outcome": [{"converged": 2, "diverged": 1, "running": 1, "waiting": 1}],
    "Cells that wait for room": [{"s": 4}],
    "GPUs that cells hold": [{"s": 3}, {"": 3}],
    "GPU use by cell": [{"a": 50, "b": 10}],  # (40 + 60) / 2
    "GPU memory by cell": [{"a": 5000 * 2**20, "b": 7000 * 2**20}],
    "GPU use by sweep": [{"s": pytest.approx(110 / 3)}],
    "Outcomes over time": [{"converged": 2, "diverged": 1}],
}


@pytest.mark.parametrize("title", EXPECTED)
def test_a_panel_shows_what_there_is(asked: str, title: str) -> None:
    give_up = time.monotonic() + 60
    while True:
        try:
            found = [ask(asked, expr) for expr in exprs()[title]]
        except OSError:  # it starts
            found = []
        if found == EXPECTED[title]:
            return
        assert time.monotonic() < give_up, found
        time.sleep(0.5)


@pytest.mark.parametrize("title", [t for t in exprs() if t not in EXPECTED])
def test_what_ray_says_of_its_nodes_is_there(asked: str, title: str) -> None:
    for expr in exprs()[title]:
        give_up = time.monotonic() + 60
        while not (found := ask(asked, expr)):
            assert time.monotonic() < give_up
            time.sleep(0.5)
        assert all(value >= 0 for value in found.values())


def test_the_numbers_of_gpus_are_called_as_ray_calls_them() -> None:
    for name in ("node_gpus_utilization", "node_gram_used", "node_cpu_utilization"):
        assert name in METRICS_GAUGES
    assert {"ip", "GpuIndex"} <= set(GPU_TAG_KEYS)


def test_the_files_fit_each_other() -> None:
    provisioning = PLACE / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())
    uids = {s["uid"] for s in source["datasources"]}
    asked_of = {t["datasource"]["uid"] for p in BOARD["panels"] for t in p["targets"]}
    assert asked_of == uids
    assert len({p["id"] for p in BOARD["panels"]}) == len(BOARD["panels"])
    for panel in BOARD["panels"]:  # side by side on 24 columns, none over another
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    squares = [
        (x, y)
        for g in (p["gridPos"] for p in BOARD["panels"])
        for x in range(g["x"], g["x"] + g["w"])
        for y in range(g["y"], g["y"] + g["h"])
    ]
    assert len(squares) == len(set(squares))
