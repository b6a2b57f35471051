"""From what a node says of itself to what is wrong with it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from orchestrator.cluster.node_findings import LITTLE_DISK, Answer, findings
from orchestrator.cluster.nodes import Asked, Node, smallest_of, sources_of, this_process
from orchestrator.cluster.reach import of_sum, of_torch

FACTS: dict[str, Any] = {
    "host": "a",
    "python": "3.11.7",
    "versions": {
        "detection-ablation": "1.2.3",
        "torch": "2.15.0+cu130",
        "torchvision": "0.29.2",
        "ray": "2.60.0",
        "numpy": "2.3.0",
    },
    "source": {"place": "/opt/app", "sha256": "0123456789abcdef"},
    "gpus": [],
    "storage": "",
    "free_bytes": int(1e12),
}
SOURCES = [{"kind": "coco", "root": "$DATA/set"}]
PRINT = {"fingerprint": "coco-0000"}
HERE = Answer("this machine", {"CPU": 8}, facts=FACTS, data=(PRINT,))


def node(change: dict[str, Any] | None = None, **more: Any) -> Answer:
    """Like the driver's machine, but for `change` in its facts (`versions.torch` is a key)."""
    facts = copy.deepcopy(FACTS)
    for key, value in (change or {}).items():
        *sections, last = key.split(".")
        place = facts
        for section in sections:
            place = place[section]
        place[last] = value
    answer = Answer("node b (10.0.0.2)", {"CPU": 8}, facts=facts, data=(PRINT,))
    return dataclasses.replace(answer, **more)


def told(answer: Answer) -> list[tuple[str, str, str]]:
    found = findings(answer, HERE, "/share/cells", SOURCES)
    for finding in found:
        assert finding.what.startswith("node b (10.0.0.2): ")
        assert bool(finding.remedy) == (finding.level != "ok")
        assert "\n" not in str(finding)
    return [(finding.check, finding.level, finding.what) for finding in found]


def test_a_node_like_the_driver_is_one_line() -> None:
    (line,) = told(node())
    assert line == (
        "node",
        "ok",
        "node b (10.0.0.2): detection-ablation 1.2.3, torch 2.15.0+cu130, ray 2.60.0, Python "
        "3.11.7; source 01234567; 8 CPUs, 0 GPUs; 1000 GB free",
    )


@pytest.mark.parametrize(
    ("change", "check", "level", "said"),
    [
        ({"versions.detection-ablation": "1.2.2"}, "version", "failure", "1.2.2 there, 1.2.3 here"),
        ({"source.sha256": "f"}, "source", "failure", "/opt/app there, /opt/app here"),
        ({"versions.torch": "2.14.0+cu130"}, "version", "failure", "torch 2.14.0 there, 2.15.0"),
        ({"versions.ray": "2.59.0"}, "version", "failure", "ray 2.59.0 there, 2.60.0 here"),
        ({"python": "3.12.1"}, "version", "failure", "Python 3.12.1 there, 3.11.7 here"),
        ({"versions.numpy": "2.2.0"}, "version", "warning", "numpy 2.2.0 there, 2.3.0 here"),
        ({"storage": "is not shared"}, "storage", "failure", "/share/cells is not shared there"),
        ({"free_bytes": int(LITTLE_DISK) - 1}, "disk", "warning", "5.0 GB free for /share/cells"),
        ({"gpus": ["H100", "H100"]}, "gpu", "warning", "it has 2 GPUs, of which Ray counts none"),
    ],
)
def test_what_differs_is_named(change: dict[str, Any], check: str, level: str, said: str) -> None:
    (line,) = (line for line in told(node(change)) if line[1] != "ok")
    assert line[:2] == (check, level)
    assert said in line[2]


@pytest.mark.parametrize(
    "change",
    [
        {"versions.torch": "2.15.0+cpu"},  # of the same version, built for another device
        {"python": "3.11.2"},
        {"source.place": "/home/somebody/checkout"},
        {"versions.mlflow": "3.0.0"},  # only the driver talks to MLflow
    ],
)
def test_what_may_differ(change: dict[str, Any]) -> None:
    assert [line[1] for line in told(node(change))] == ["ok"]


def test_without_the_package_nothing_else_is_asked_of_it() -> None:
    change = {"source": {}, "versions": {"ray": "2.60.0"}}
    ((check, level, what),) = told(node(change, data=({"error": "ModuleNotFoundError"},)))
    assert (check, level) == ("version", "failure")
    assert "detection-ablation is not installed in its Python 3.11.7" in what


def test_a_checkout_without_a_version_is_known_by_its_source() -> None:
    versions = {k: v for k, v in FACTS["versions"].items() if k != "detection-ablation"}
    assert [line[1] for line in told(node({"versions": versions}))] == ["ok"]
    (line,) = told(node({"versions": versions, "source.sha256": "f"}))
    assert line[0] == "source"


def test_data_that_are_absent_different_or_out_of_reach() -> None:
    (line,) = told(node(data=({"error": "/data/set: no such folder"},)))
    assert line == ("data", "failure", "node b (10.0.0.2): data: /data/set: no such folder")
    (line,) = told(node(data=({"fingerprint": "coco-1111"},)))
    assert "data $DATA/set are not the driver's (coco-1111 there, coco-0000 here)" in line[2]
    (line,) = told(node(data=(), data_problem="no answer within 900 s"))
    assert "its data were not seen: no answer within 900 s" in line[2]


def test_a_head_that_trains_nothing_needs_neither_data_nor_storage() -> None:
    change = {"storage": "does not exist", "versions.torch": "none"}
    assert [line[1] for line in told(node(change, data=(), trains=False))] == ["ok"]


def test_a_node_that_does_not_answer_is_a_finding() -> None:
    (line,) = told(node(facts=None, problem="no answer within 120 s"))
    assert line == ("node", "failure", "node b (10.0.0.2): no answer within 120 s")


def test_which_nodes_train_and_on_which_data() -> None:
    def job(cpus: float, gpus: float, source: dict[str, Any]) -> dict[str, Any]:
        config = {"data": {"source": source}}
        return {"config": config, "cpus_per_worker": cpus, "gpus_per_worker": gpus}

    jobs = [job(4, 1, SOURCES[0]), job(2, 2, SOURCES[0]), job(4, 1, {"kind": "shapes"})]
    assert sources_of(jobs) == SOURCES
    asked = Asked(None, "", [], smallest_of(jobs))  # type: ignore[arg-type]
    sizes = [(8, 0), (4, 1), (2, 2), (2, 1)]
    assert [asked.trains({"CPU": c, "GPU": g}) for c, g in sizes] == [False, True, True, False]


def test_this_process_is_like_itself(tmp_path: Any) -> None:
    (tmp_path / "token").touch()
    here = this_process(Asked(tmp_path, "token"))
    (finding,) = findings(here, here, str(tmp_path), [])
    assert finding.level == "ok"


TWO = [Node("1", "a", "10.0.0.1", {"CPU": 1}), Node("2", "b", "10.0.0.2", {"CPU": 1, "GPU": 2})]
SEES = {"cuda": True, "gpus": 2, "version.cuda": "13.0", "version.nccl": "2.28.3"}
BLIND = {"cuda": False, "gpus": 0, "version.cuda": "13.0", "version.nccl": "2.28.3"}


@pytest.mark.parametrize(
    ("said", "level", "part"),
    [
        (SEES, "ok", "torch sees 2 GPUs with CUDA 13.0, NCCL 2.28.3"),
        (BLIND, "failure", "Ray counts 2 GPUs, and torch can use none: CUDA 13.0 does not start"),
        (BLIND | {"version.cuda": ""}, "failure", "this torch is built for CPUs"),
        ({"error": "No module named torch"}, "failure", "does not start: No module named torch"),
    ],
)
def test_what_torch_says_of_a_node(said: dict[str, Any], level: str, part: str) -> None:
    (finding,) = of_torch("node b", TWO[1], said)
    assert finding.level == level
    assert part in finding.what


def test_a_node_without_gpus_need_not_have_cuda() -> None:
    assert of_torch("node a", TWO[0], BLIND) == []


def test_the_sum_between_the_nodes() -> None:
    fine = {"seconds": 0.2}
    assert of_sum("gloo", TWO, {"1": fine, "2": fine}).level == "ok"
    finding = of_sum("NCCL", TWO, {"1": fine, "2": {"error": "timed out"}})
    assert (finding.check, finding.level) == ("nccl", "failure")
    assert "node b does not reach the others: timed out" in finding.what
    assert "NCCL_SOCKET_IFNAME" in finding.remedy
