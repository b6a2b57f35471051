"""Which cell holds which GPU, how many wait and how they ended, as Prometheus would read it from a
real Ray."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from orchestrator.cluster.gangs import Gangs
from orchestrator.running.campaign import Campaign
from orchestrator.running.gauges import Gauges
from orchestrator.running.tune_loop import run_cells
from orchestrator.sweep.failure import Failure, Policy
from orchestrator.tracking.table import Row
from tests.cluster.light import Noted, job
from tests.cluster.local_ray import local_ray

LINE = re.compile(r"^(ray_sweep_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "2000")
        with local_ray(cpus=2, gpus=2):
            yield


def scraped() -> Series:
    """Our series, with our own labels; none before Ray serves the first."""
    port = ray.nodes()[0]["MetricsExportPort"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    ours = ("sweep", "outcome", "cell", "ip", "GpuIndex")
    out = {}
    for name, labels, value in LINE.findall(text):
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)
        out[name, frozenset(pair for pair in pairs if pair[0] in ours)] = float(value)
    return out


def until(true: Callable[[Series], bool]) -> Series:
    give_up = time.monotonic() + 60
    while not true(series := scraped()):
        assert time.monotonic() < give_up, series
        time.sleep(0.3)
    return series


def test_prometheus_reads_cells_queue_and_who_holds_which_gpu(tmp_path: Path) -> None:
    jobs = [
        job(f"{i}", i, ranks=1, gpus=1, sleep_s=12 if i < 2 else 0, folder=str(tmp_path / f"{i}"))
        for i in range(3)
    ]
    gauges = Gauges('a "sweep"')
    during: list[Series] = []
    looked = [0.0]

    def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
        return name, frozenset({"sweep": r"a \"sweep\"", **labels}.items())

    class Telling(Noted):
        def tick(self) -> None:
            super().tick()
            if gauges.is_due():
                ended = {id for _, id, _ in self.of("ended")}
                outcomes = {j["id"]: "converged" if j["id"] in ended else "waiting" for j in jobs}
                rows = [Row({}, 0, outcome) for outcome in outcomes.values()]
                gauges.tell(rows, len(campaign.queue), gangs)
            if time.monotonic() - looked[-1] > 1:
                looked.append(time.monotonic())
                during.append(scraped())

    with Gangs() as gangs:
        noted = Telling()
        campaign = Campaign(jobs, noted, gangs, Policy(Failure()))
        run_cells(campaign, "light")
        ip = ray.util.get_node_ip_address()
        gauges.tell([Row({}, 0, "converged")] * 3, 0, gangs)
        after = until(lambda s: s.get(of("ray_sweep_cells", outcome="converged")) == 3)

    held = {
        of("ray_sweep_cell_gpu", cell=jobs[cell]["label"], ip=ip, GpuIndex=gpu)
        for cell in (0, 1)
        for gpu in "01"
    }
    seen = [{key for key, value in series.items() if key in held and value} for series in during]
    most = max(seen, key=len)
    # the first two cells, each on a GPU of its own
    assert len(most) == 2
    assert {dict(labels)["GpuIndex"] for _, labels in most} == {"0", "1"}
    assert any(series.get(of("ray_sweep_queue_length")) == 1 for series in during)
    assert after[of("ray_sweep_cells", outcome="waiting")] == 0
    assert after[of("ray_sweep_queue_length")] == 0
    assert not any(value for (name, _), value in after.items() if name == "ray_sweep_cell_gpu")
