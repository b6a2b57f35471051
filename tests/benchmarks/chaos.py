"""The chaos matrix: cells that go wrong in every way, under a real Ray, gloo and MLflow. What is
each end called, does what should settle settle, are all points stored once, is anything left?

    python -m tests.benchmarks.chaos [--each N] [--only NAME ...]

Prints a line for each fault. With 20 of each or more the lines are written to
tests/benchmarks/results/chaos.json, in the place of earlier ones of the same faults: the matrix may
be run in parts. `right` counts the cells whose attempts ended just as they
should, with the reason that tells it; `points` those in the cells' files and those in MLflow;
`left` processes and placement groups that outlived the orchestrator by more than 20 s. All of it
runs on this machine: nodes are simulated ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cluster.connect import WORKER_ENV
from tests.benchmarks.chaos_cells import HEAVY, STEP_S, STRIKE, where
from tests.cluster.conftest import BASE, MARK, marked
from tests.orchestrator.server import Server

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "chaos.json"
GONE_S = 20.0  # by then nothing of an orchestrator may be left
PATIENCE_S = 300.0
OUTAGE_S = 30.0
FRESH_S = 3.0  # a light cell writes in every step
ENOUGH = 20

Want = tuple[str, list[str], str]  # what it is, how the attempts shall end, words of the reason

FAULTS: dict[str, Want] = {
    "exit": ("exit 1: sys.exit in a rank", ["crashed", "converged"], "exit code 1"),
    "os_exit": ("exit 1: os._exit in a rank", ["crashed", "converged"], "os._exit(1)"),
    "sigkill": ("SIGKILL of a rank", ["lost", "converged"], "SIGKILL"),
    "sigsegv": ("SIGSEGV of a rank", ["crashed", "converged"], "SIGSEGV"),
    "sigstop": ("SIGSTOP of a rank", ["timeout", "converged"], "no sign of life"),
    "host_oom": ("out of memory: rlimit", ["oom"], "MemoryError"),
    "disk_full": ("disk full", ["crashed", "converged"], "disk full at "),
    "import": ("import error", ["crashed", "crashed"], "No module named"),
    "nan": ("NaN at a step", ["diverged"], f"at step {STRIKE}"),
    "explosion": ("loss explosion", ["diverged"], "above 10 times its "),
    "torch_oom": ("out of memory: torch", ["oom"], "memory"),
}


@dataclass
class Row:
    """A line of the matrix. `should` and `settled` count cells, `n` and `right` faults."""

    fault: str
    expected: str
    n: int
    right: int
    should: int
    settled: int
    sent: int
    stored: int
    left: list[str]
    seconds: float
    wrong: list[str]  # what was not as it should be, in words


class Cluster:
    """Nodes of a simulated Ray cluster: a head, where no cell runs, and workers of 8 CPUs."""

    def __init__(self) -> None:
        import ray
        from ray.cluster_utils import Cluster as Nodes

        self.mark = uuid.uuid4().hex
        os.environ |= WORKER_ENV | {
            "RAY_AUTH_MODE": "disabled",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            MARK: self.mark,
        }
        head = {"num_cpus": 0, "include_dashboard": False}
        self._nodes = Nodes(initialize_head=True, head_node_args=head)
        self.workers: dict[str, Any] = {}  # by Ray's id
        self.add()
        ray.init(address=self._nodes.address, log_to_driver=False, logging_level="ERROR")
        self.address = self._nodes.address

    def add(self) -> None:
        node = self._nodes.add_node(num_cpus=8)
        self.workers[node.node_id] = node

    def remove(self, id: str) -> None:
        self._nodes.remove_node(self.workers.pop(id), allow_graceful=False)

    def close(self) -> None:
        import ray

        ray.shutdown()
        self._nodes.shutdown()

    def busy(self) -> list[str]:
        """What works or holds room: processes of the cluster that do not idle, placement groups."""
        from ray.util import placement_group_table

        lines = marked(self.mark).values()
        there = [s for s in lines if s.startswith("ray::") and "IDLE" not in s and "Agent" not in s]
        groups = placement_group_table().values()
        return there + [f"group {g['name']}" for g in groups if g["state"] != "REMOVED"]

    def left(self) -> list[str]:
        """What is still busy after `GONE_S`; the orchestrator has ended."""
        give_up = time.monotonic() + GONE_S
        while (busy := self.busy()) and time.monotonic() < give_up:
            time.sleep(0.2)
        return busy


class Place:
    """A folder with a sweep of faults, from which orchestrators are started."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        faults: Sequence[str],
        cells: int,
        *,
        steps: int = 24,
        hang_s: float = 60,
        uri: str = "",
    ) -> None:
        self.cluster, self.folder, self.steps = cluster, folder, steps
        self.uri = uri or f"sqlite:///{folder}/mlruns/mlflow.db"
        levels = {f: {"optim.weight_decay": i * 1e-6} for i, f in enumerate(faults, 1)}
        sweep = {
            "version": 1,
            "name": "chaos",
            "base": "base.yaml",
            "axes": {"fault": {"values": levels}},
            "seeds": list(range(cells)),
            "resources": {"workers": 2},
            "failure": {"hang_timeout_s": hang_s, "retries": {"crashed": 1}},
        }
        base = {**BASE, "train": {"steps": steps}}
        (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
        (folder / "base.yaml").write_text(yaml.safe_dump(base, sort_keys=False))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        cache = {"DETCORE_CACHE": str(self.folder / "cache"), "MLFLOW_TRACKING_URI": self.uri}
        command = [sys.executable, "-m", "tests.benchmarks.chaos_cells", "sweep.yaml", "--yes"]
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [*command, "--address", self.cluster.address, *arguments],
                cwd=self.folder,
                env=os.environ | cache,
                stdout=log,
                stderr=log,
            )

    def run(self, *arguments: str) -> None:
        self.ends(self.start(*arguments))

    def ends(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for an orchestrator that ends by itself; some cells may have no result."""
        code = process.wait()
        assert code in (0, 1), f"exit code {code}\n{(self.folder / 'log.txt').read_text()[-3000:]}"

    def cells(self) -> list[Path]:
        """The folders of the cells that have begun."""
        return list((self.folder / "mlruns" / "cells").glob("?" * 12))

    def at_work(self) -> dict[str, str]:
        """The light cells that are well on their way, and the nodes they are on."""
        out = {}
        for folder in self.cells():
            there = where(folder)
            fresh = any(time.time() - f.stat().st_mtime < FRESH_S for f in folder.glob(".at-*-0"))
            if there and fresh and 3 <= there[0] < self.steps - 2 / STEP_S:
                out[folder.name] = there[1]
        return out

    def attempts(self) -> dict[str, list[Any]]:
        """The MLflow runs of every cell, oldest first."""
        from mlflow import MlflowClient

        client = MlflowClient(self.uri)
        found = client.search_experiments(filter_string="name = 'chaos'")
        out: dict[str, list[Any]] = {}
        runs: list[Any] = []
        token = None
        while found:
            query = "tags.`run.kind` = 'cell'"
            ids = [found[0].experiment_id]
            page = client.search_runs(ids, query, max_results=1000, page_token=token)
            runs, token = runs + list(page), page.token
            if not token:
                break
        for run in sorted(runs, key=lambda r: int(r.data.tags["cell.attempt"])):
            out.setdefault(run.data.tags["cell.id"], []).append(run)
        return out

    def points(self, id: str, run: Any) -> tuple[list[int], list[int]]:
        """The steps of a cell's curve, in its file and in MLflow."""
        from mlflow import MlflowClient

        file = self.folder / "mlruns" / "cells" / id / "metrics.jsonl"
        lines = [json.loads(s) for s in file.read_text().splitlines()] if file.exists() else []
        sent = [point["step"] for point in lines if "loss/total" in point["values"]]
        history = MlflowClient(self.uri).get_metric_history(run.info.run_id, "loss/total")
        return sent, sorted(m.step for m in history)


def outcome_of(run: Any) -> str:
    return str(run.data.tags["cell.outcome"])


def reason_of(run: Any) -> str:
    return str(run.data.tags.get("cell.reason", ""))


def row_of(
    place: Place,
    name: str,
    expected: str,
    wants: dict[str, list[str]],
    words: str,
    *,
    should: bool = True,
    or_more: bool = False,
    began: float,
    left: list[str],
) -> Row:
    """The line of the cells in `wants`, which says how the attempts at each shall end. A cell has
    as many faults as attempts that do not converge, and one if none has."""
    attempts, wrong = place.attempts(), []
    n = right = settled = sent = stored = 0
    for id, want in wants.items():
        runs = attempts.get(id, [])
        ends = [outcome_of(run) for run in runs]
        faults = max(sum(end != "converged" for end in want), 1)
        told = all(words in reason_of(r) for r in runs if outcome_of(r) == want[0])
        n += faults
        # a cell that was about to begin on a node that goes is lost as well
        more = or_more and ends[-1:] == want[-1:] and set(ends[:-1]) == {want[0]}
        if (ends == want or (more and len(ends) > len(want))) and told:
            right += faults
        else:
            said = [f"{outcome_of(r)}: {reason_of(r)}" for r in runs]
            wrong.append(f"{runs[0].data.tags['cell.label'] if runs else id}: {said}")
        settled += bool(ends) and ends[-1] in ("converged", "diverged", "stalled")
        if runs:
            in_file, in_store = place.points(id, runs[-1])
            sent, stored = sent + len(in_file), stored + len(in_store)
            if in_file != in_store:
                wrong.append(f"{id}: points {in_file} in its file, {in_store} in MLflow")
    cells = len(wants) if should else 0
    seconds = time.monotonic() - began
    return Row(name, expected, n, right, cells, settled, sent, stored, left, seconds, wrong)


# ---------------------------------------------------------------- the faults


def in_cells(cluster: Cluster, folder: Path, faults: Sequence[str], each: int) -> list[Row]:
    """Faults that a rank has by itself, all in one sweep."""
    heavy = bool(set(faults) & set(HEAVY))  # building a detector may take a while on a busy machine
    place = Place(cluster, folder, faults, each, hang_s=120 if heavy else 10)
    began = time.monotonic()
    place.run("--max-concurrent", "2" if heavy else "4")
    left, rows = cluster.left(), []
    by_fault: dict[str, list[str]] = {fault: [] for fault in faults}
    for id, runs in place.attempts().items():
        by_fault[runs[0].data.tags["axis.fault"]].append(id)
    for fault in faults:
        name, want, words = FAULTS[fault]
        should = want[-1] in ("converged", "diverged")
        wants = dict.fromkeys(by_fault[fault], want)
        row = row_of(place, name, want[0], wants, words, should=should, began=began, left=left)
        if len(wants) < each:
            row.wrong.append(f"{each - len(wants)} cells have no attempt")
        rows.append(row)
    return rows


def node_removed(cluster: Cluster, folder: Path, each: int) -> list[Row]:
    """Nodes are taken away with all that runs on them, and come back empty."""
    place = Place(cluster, folder, ["none"], each + 16, steps=160)
    began = time.monotonic()
    cluster.add()
    process = place.start("--max-concurrent", "8")
    struck: dict[str, int] = {}
    while sum(struck.values()) < each and process.poll() is None:
        most = until(lambda: _node_with_most(place), process)
        if not most:
            break
        node, cells = most
        cluster.remove(node)
        for id in cells:
            struck[id] = struck.get(id, 0) + 1
        cluster.add()
        time.sleep(15)  # what is lost is noticed, and the next attempts begin
    place.ends(process)
    wants = {id: ["lost"] * times + ["converged"] for id, times in struck.items()}
    left = cluster.left()
    name = "a node removed"
    return [row_of(place, name, "lost", wants, "", or_more=True, began=began, left=left)]


def _node_with_most(place: Place) -> tuple[str, list[str]] | None:
    by_node: dict[str, list[str]] = {}
    for id, node in place.at_work().items():
        by_node.setdefault(node, []).append(id)
    most = max(by_node.items(), key=lambda item: len(item[1]), default=None)
    return most if most and len(most[1]) >= 3 and most[0] in place.cluster.workers else None


def server_killed(cluster: Cluster, folder: Path, each: int) -> list[Row]:
    """MLflow's server is killed for 30 s while cells train, end and begin."""
    server = Server(folder)
    outages: list[tuple[float, float]] = []
    try:
        # the sweep outlives the outages: what it could not store at its end, a next start would
        place = Place(cluster, folder, ["none"], 2 * each + 16, steps=120, uri=server.uri)
        began = time.monotonic()
        process = place.start("--max-concurrent", "4")
        hit: list[str] = []
        while len(hit) < each:
            assert until(lambda: len(place.at_work()) >= 2, process), "the cells ended too early"
            server.kill()
            outages.append((time.time(), time.time() + OUTAGE_S))
            time.sleep(OUTAGE_S)
            server.start()
            hit = [f.name for f in place.cells() if _trained_in(f, outages)]
        place.ends(process)
        left = cluster.left()
        wants = {id: ["converged"] for id in hit}
        name = "MLflow server killed for 30 s"
        row = row_of(place, name, "converged", wants, "", began=began, left=left)
    finally:
        server.kill()
    return [row]


def _trained_in(folder: Path, spans: list[tuple[float, float]]) -> bool:
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return False
    times = [json.loads(line)["time"] for line in lines if line.endswith("}")]
    return any(begin < t < end for t in times for begin, end in spans)


def orchestrator_killed(cluster: Cluster, folder: Path, each: int) -> list[Row]:
    """The orchestrator is killed, again and again, with three or more cells on their way."""
    place = Place(cluster, folder, ["none"], each + 4, steps=160)
    began = time.monotonic()
    struck: dict[str, int] = {}
    left: list[str] = []
    while sum(struck.values()) < each:
        process = place.start("--max-concurrent", "4")
        cells = until(lambda: len(found := place.at_work()) >= 3 and found, process)
        if not cells:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        for id in cells:
            struck[id] = struck.get(id, 0) + 1
        left += cluster.left()
        time.sleep(FRESH_S)  # what the last one's cells wrote shall not pass for the next one's
    place.run("--max-concurrent", "4")
    left += cluster.left()
    wants = {id: ["lost"] * times + ["converged"] for id, times in struck.items()}
    name, words = "orchestrator killed", "orchestrator was killed"
    return [row_of(place, name, "lost", wants, words, began=began, left=left)]


def until(true: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """What `true()` returns when it is so; None when the process ends before."""
    give_up = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        if value := true():
            return value
        assert time.monotonic() < give_up, f"did not happen within {PATIENCE_S:.0f} s"
        time.sleep(0.1)
    return None


# ---------------------------------------------------------------- the matrix

OTHERS: dict[str, Callable[[Cluster, Path, int], list[Row]]] = {
    "node": node_removed,
    "server": server_killed,
    "orchestrator": orchestrator_killed,
}
NAMES = (*FAULTS, *OTHERS)


@contextmanager
def folder_of(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"chaos-{name}-", ignore_cleanup_errors=True) as place:
        yield Path(place)


def matrix(
    each: int, names: Sequence[str] = NAMES, done: Callable[[list[Row]], None] = lambda rows: None
) -> list[Row]:
    """`done` gets the rows of each part as they come."""
    light = [name for name in names if name in FAULTS and name not in HEAVY]
    heavy = [name for name in names if name in HEAVY]
    rows: list[Row] = []
    with ExitStack() as stack:
        cluster = Cluster()
        stack.callback(cluster.close)
        for faults in filter(None, (light, heavy)):
            rows += in_cells(cluster, stack.enter_context(folder_of("cells")), faults, each)
            print(to_text(rows), file=sys.stderr, flush=True)
            done(rows)
        for name in (name for name in names if name in OTHERS):
            rows += OTHERS[name](cluster, stack.enter_context(folder_of(name)), each)
            print(to_text(rows[-1:]), file=sys.stderr, flush=True)
            done(rows)
    return rows


def to_text(rows: Sequence[Row]) -> str:
    form = "{:32} {:>10} {:>4} {:>6} {:>9} {:>13} {:>5}"
    lines = [form.format("fault", "is called", "n", "right", "settled", "points", "left")]
    for r in rows:
        points = f"{r.stored} of {r.sent}"
        settled = f"{r.settled} of {r.should}"
        cells = (r.fault, r.expected, r.n, r.right, settled, points, len(r.left))
        lines.append(form.format(*map(str, cells)))
    faults, right = sum(r.n for r in rows), sum(r.right for r in rows)
    lines.append(f"{right} of {faults} named right ({right / max(faults, 1):.1%})")
    return "\n".join([*lines, *(text for r in rows for text in (*r.wrong, *r.left))])


def write(rows: Sequence[Row], command: str) -> None:
    about = {
        "command": command,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("ray", "torch", "mlflow")},
    }
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
    kept = before.pop("rows") if before.items() >= about.items() else []
    shown = {row["fault"]: row for row in kept}
    shown |= {row.fault: {**asdict(row), "seconds": round(row.seconds)} for row in rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**about, "rows": list(shown.values())}, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.chaos")
    parser.add_argument("--each", type=int, default=ENOUGH, help="faults of each kind (20)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    args = parser.parse_args(argv)
    began = time.monotonic()
    command = f"python -m tests.benchmarks.chaos --each {args.each}"
    keep = args.each >= ENOUGH
    rows = matrix(args.each, args.only, lambda rows: write(rows, command) if keep else None)
    print(to_text(rows))
    seconds = time.monotonic() - began
    print(f"{seconds:.0f} s on {os.cpu_count()} CPUs")
    if keep:
        print(f"written to {RESULTS}")
    return int(any(r.wrong or r.left for r in rows))


if __name__ == "__main__":
    raise SystemExit(main())
