"""`python -m orchestrator.doctor`, and a start of a sweep, on nodes that were really started with
something wrong about them. Each node has an environment of its own, as machines have."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray

from detcore.config.schema import Shapes
from detcore.data.shapes import ensure_shapes
from tests.cluster.conftest import ROOT, Workplace, until
from tests.cluster.raylets import Raylets
from tests.orchestrator.server import free_port

pytestmark = pytest.mark.slow
DATA = "$ABLATION_DATA/set"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders in which nodes keep the data: `good/set`, `other/set` with one image more, `none`."""
    root = tmp_path_factory.mktemp("data")
    made = ensure_shapes(Shapes(train_images=4, val_images=2, size=64), root / "cache")
    for name in ("good", "other"):
        shutil.copytree(made, root / name / "set")
    image = next((root / "other" / "set" / "train").iterdir())
    image.write_bytes(image.read_bytes() + b"0")
    (root / "none").mkdir()
    return root


@pytest.fixture(scope="module")
def nodes(data: Path) -> Iterator[Raylets]:
    """Two nodes that are as they should be."""
    with Raylets() as cluster:
        cluster.start("head", ABLATION_DATA=str(data / "good"))
        cluster.start("twin", ABLATION_DATA=str(data / "good"))
        yield cluster


def doctor(
    folder: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.doctor", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )


def lines_of(said: str, level: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(level)]


@pytest.fixture
def place(workplace: Workplace, data: Path, nodes: Raylets) -> Workplace:
    """A folder with a sweep, from which the driver is started as one of the cluster."""
    workplace.environment |= nodes.environment(ABLATION_DATA=str(data / "good"))
    workplace.write(name="tiny", seeds=[0], resources={"workers": 1})
    return workplace


def ask(place: Workplace, nodes: Raylets, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ["sweep.yaml", "--data", DATA, "--address", nodes.address, *more]
    return doctor(place.folder, place.environment, *arguments)


def fake_version(folder: Path) -> str:
    """A PYTHONPATH on which the package says that it is an older one."""
    info = folder / "old" / "detection_ablation-0.0.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: detection-ablation\nVersion: 0.0.9\n"
    )
    return f"{info.parent}{os.pathsep}{ROOT}"


def changed_source(folder: Path) -> str:
    """A PYTHONPATH with another checkout of the same version."""
    for name in ("detcore", "orchestrator", "dashboards"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "changed" / name, ignore=ignored)
    with (folder / "changed" / "detcore" / "schedule.py").open("a") as file:
        file.write("# tried something here\n")
    return str(folder / "changed")


def test_all_is_well_on_two_nodes(place: Workplace, nodes: Raylets) -> None:
    done = ask(place, nodes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    *found, last = done.stdout.splitlines()
    assert last.endswith("none failed")
    assert {line.split()[0] for line in found} == {"ok"}
    said = "\n".join(found)
    for part in ("2 nodes", "node head (", "node twin (", "gloo between 2 nodes", "mlflow.db"):
        assert part in said
    assert not (place.folder / "mlruns").exists()  # it leaves nothing behind


def test_json_has_all_of_it(place: Workplace, nodes: Raylets) -> None:
    done = ask(place, nodes, "--json")
    told = json.loads(done.stdout)
    assert told["ok"] is True
    checks = {finding["check"] for finding in told["findings"]}
    assert [node["facts"]["versions"]["ray"] for node in told["nodes"]] == [ray.__version__] * 2
    assert checks == {"sweep", "cluster", "gang", "node", "gloo", "mlflow"}


def test_no_gpu_where_the_sweep_asks_for_one(place: Workplace, nodes: Raylets) -> None:
    done = ask(place, nodes, "--set", "resources.gpus_per_worker=1")
    assert done.returncode == 1
    (line,) = lines_of(done.stdout, "failure")
    assert "gpu" in line
    assert "the sweep asks for GPUs (1 a worker), 2 nodes (2 CPUs, 0 GPUs) has none" in line
    assert "remedy: join nodes with GPUs" in line


def test_a_gang_that_is_too_large_is_named(place: Workplace, nodes: Raylets) -> None:
    done = ask(place, nodes, "--set", "resources.workers=3")
    assert done.returncode == 1
    (line,) = lines_of(done.stdout, "failure")
    assert "needs 3 workers of 1 CPU at once, 2 nodes (2 CPUs, 0 GPUs) has room for 2" in line
    assert "remedy: run on a larger cluster" in line


# ---------------------------------------------------------------- nodes with something wrong


@pytest.fixture(scope="module")
def faulty(nodes: Raylets, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Raylets:
    """Nodes each of which has one thing wrong; they come after the tests above."""
    folder, good = tmp_path_factory.mktemp("code"), str(data / "good")
    nodes.start("old", ABLATION_DATA=good, PYTHONPATH=fake_version(folder))
    nodes.start("changed", ABLATION_DATA=good, PYTHONPATH=changed_source(folder))
    nodes.start("without", ABLATION_DATA=str(data / "none"))
    nodes.start("other", ABLATION_DATA=str(data / "other"))
    nodes.start("unset")
    nodes.start("fake-gpu", gpus=1, ABLATION_DATA=good)
    return nodes


WRONG = {
    "old": "detection-ablation 0.0.9 there, 0.1.0 here; remedy: install",
    "changed": "the source of detection-ablation is not the driver's",
    "without": "none/set: no such folder (data.source.root: $ABLATION_DATA/set on ",
    "other": "data $ABLATION_DATA/set are not the driver's (coco-",
    "unset": "the variable ABLATION_DATA is not set on ",
}


def test_every_fault_is_named_with_its_node(place: Workplace, faulty: Raylets) -> None:
    done = ask(place, faulty)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = lines_of(done.stdout, "failure")
    for name, part in WRONG.items():
        (line,) = (line for line in failed if f"node {name} (" in line)
        assert part in line
        assert "; remedy: " in line
    (line,) = (line for line in failed if "node fake-gpu (" in line)
    assert "Ray counts 1 GPUs, and torch can use none" in line
    assert len(failed) == len(WRONG) + 1
    for name in ("head", "twin"):
        assert any(f"node {name} (" in line for line in lines_of(done.stdout, "ok"))
    assert "failed, 1 warning" in done.stdout.splitlines()[-1]  # nvidia-smi and Ray disagree


def test_a_start_is_refused_with_a_line_for_each(place: Workplace, faulty: Raylets) -> None:
    run = place.run("--data", DATA, "--address", faulty.address)
    assert run.process.returncode == 2
    said = [line for line in run.stderr().splitlines() if "; remedy: " in line]
    assert len([line for line in said if not line.startswith("note: ")]) == len(WRONG)
    for name, part in WRONG.items():
        assert any(line.startswith(f"node {name} (") and part in line for line in said)
    assert "Traceback" not in run.stderr()
    assert place.cells() == []
    assert list((place.folder / "mlruns" / "cells").glob(".shared-*")) == []


# ---------------------------------------------------------------- storage


def in_own_namespace() -> bool:
    mount = ["unshare", "-m", "mount", "--bind", "/tmp", "/mnt"]
    try:
        return subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.skipif(not in_own_namespace(), reason="no mount namespaces here")
def test_storage_that_is_not_shared_and_nodes_that_join_late(
    workplace: Workplace, tmp_path: Path
) -> None:
    """A disk of its own is mounted where a node should see the folder of cells. While a sweep runs,
    such a node is left out, and the cells are trained on the other."""
    workplace.write(base={"train": {"steps": 600}}, seeds=[0], resources={"workers": 1})
    cells, own = workplace.folder / "mlruns" / "cells", tmp_path / "own"
    own.mkdir()
    with ExitStack() as stack:
        nodes = stack.enter_context(Raylets())
        workplace.environment |= nodes.environment()
        nodes.start("head")
        run = workplace.start("--address", nodes.address)
        until(lambda: run.process.poll() is not None or [*cells.glob("*/rank0.log")], "a cell")
        nodes.start("apart", cpus=2, before=f"mount --bind {own} {cells}")
        left_out = "a node that joined is left out: node apart ("
        until(lambda: left_out in run.stderr() or run.process.poll() is not None, "left out")
        assert left_out in run.stderr(), run.stderr()
        assert f"the folder of cells {cells} is not shared there" in run.stderr()
        assert run.wait() == 0, run.stderr()
        assert [cell.data.tags["cell.attempt"] for cell in workplace.cells()] == ["1"] * 2

        done = doctor(workplace.folder, workplace.environment, "--address", nodes.address)
        assert done.returncode == 1
        (line,) = lines_of(done.stdout, "failure")
        assert "storage" in line
        assert f"the folder of cells {cells} is not shared there; remedy: start the sweep" in line
    assert list(own.iterdir()) == []


# ---------------------------------------------------------------- clusters that do not answer


def alone(**more: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RAY_", "MLFLOW_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def cluster_line(tmp_path: Path, address: str, **environment: str) -> str:
    done = doctor(tmp_path, alone(**environment), "--address", address)
    assert done.returncode == 1
    # Ray's own client warns of every try that a token is refused
    assert [s for s in done.stderr.splitlines() if "gcs_client.cc" not in s] == []
    (line,) = lines_of(done.stdout, "failure")
    assert line.split()[1] == "cluster"
    return line


def test_nothing_listens(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    line = cluster_line(tmp_path, address, RAY_AUTH_MODE="disabled")
    assert f"no Ray cluster answers at {address}" in line
    assert "remedy: " in line


def test_what_listens_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        line = cluster_line(tmp_path, address, RAY_AUTH_MODE="disabled")
    assert f"no Ray cluster answers at {address}: timed out" in line


def test_what_listens_is_a_web_server(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        line = cluster_line(tmp_path, address, RAY_AUTH_MODE="disabled")
        server.shutdown()
    assert f"no Ray cluster answers at {address}: what listens there is not Ray" in line


def test_a_token_that_is_missing_is_the_remedy(tmp_path: Path) -> None:
    with Raylets(token="a-token-of-the-tests-0123456789abcdef") as nodes:
        nodes.start("head")
        line = cluster_line(tmp_path, nodes.address)
        assert "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here" in line
        wrong = nodes.auth | {"RAY_AUTH_TOKEN": "wrong-0123456789abcdef0123456789abcdef"}
        line = cluster_line(tmp_path, nodes.address, **wrong)
        assert "set RAY_AUTH_TOKEN here to that of its nodes" in line
        assert "wrong-" not in line
        done = doctor(tmp_path, alone(**nodes.auth), "--address", nodes.address)
        assert done.returncode == 0, done.stdout
        assert "a-token" not in done.stdout


def test_this_machine_alone(tmp_path: Path) -> None:
    done = doctor(tmp_path, alone())
    assert done.returncode == 0, done.stdout
    assert "a sweep runs on this machine" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.yaml"], "absent.yaml"),
        (["--profile", "coco"], "--profile goes with a sweep"),
        (
            ["sweep.yaml", "--data", "$NOT_SET_HERE/x"],
            "--data is $NOT_SET_HERE/x, and the variable",
        ),
    ],
)
def test_mistakes_in_the_arguments(workplace: Workplace, arguments: Any, said: str) -> None:
    workplace.write()
    done = doctor(workplace.folder, workplace.environment, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
