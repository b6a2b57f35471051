"""How long it takes to read sweeps: the list of all, and the table of one of 200 arms.

    python -m tests.benchmarks.dashboards [--store postgres|sqlite] [--cells 5000]

The store holds 5,000 cells with 12 metrics, 27 tags and 8 params each: a sweep of 200 arms with 3
seeds, and others of 100 arms with 4. Two cells run, 20 ended in the last minutes. `postgres` is a
real MLflow server over a real PostgreSQL, `sqlite` a file that is read directly. Cells are written
by SQL as MLflow itself would write them, the sweeps' own runs through the ledger.

`first` is a new reader, which reads all cells, whatever it shows; `later` is one that has looked
before (each asks the store what is new, which the application does once a second at most). `MLflow`
is its own search for the same runs, a page of 1,000 at a time. The document is what pages and
exports are made of. Medians of interleaved rounds; results/dashboards.json has all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dashboards import results
from dashboards.document import document
from dashboards.metrics import COCO
from dashboards.results import Reader
from dashboards.store import find_store, read_client
from orchestrator.tracking.ledger import open_ledger
from tests.benchmarks.postgres import postgres
from tests.orchestrator.server import Server

OUT = Path(__file__).parent / "results" / "dashboards.json"
WIDE, ARMS, SEEDS = "wide", 200, 3
OTHER_ARMS, OTHER_SEEDS = 100, 4
ROUNDS = 5
HOUR = 3_600_000
Rows = dict[str, list[dict[str, Any]]]  # by table


@contextmanager
def stores(kind: str, root: Path) -> Iterator[str]:
    """Where the store is written by SQL; MLFLOW_TRACKING_URI says where it is read."""
    if kind == "sqlite":
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        yield find_store(root).uri
        return
    with postgres() as uri:
        server = Server(root, uri)
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        try:
            yield uri
        finally:
            server.kill()


def fill(root: Path, uri: str, cells: int) -> None:
    """`cells` cells in all."""
    now = int(time.time() * 1000)
    sweeps = [(WIDE, ARMS, SEEDS)]
    rest = (cells - ARMS * SEEDS) // (OTHER_ARMS * OTHER_SEEDS)
    sweeps += [(f"sweep_{i:02d}", OTHER_ARMS, OTHER_SEEDS) for i in range(rest)]
    rows: Rows = {}
    for number, (name, arms, seeds) in enumerate(sweeps):
        plan = plan_of(name, arms, seeds)
        ledger = open_ledger(name, root)
        run = ledger.start_sweep("", plan, "", plan["axes"], "default")
        is_last = number == len(sweeps) - 1
        for k, cell in enumerate(plan["cells"]):
            age = HOUR * (3 + number) if not is_last else 20_000 * (len(plan["cells"]) - k)
            is_open = is_last and k >= len(plan["cells"]) - 2
            add_cell(rows, cell, name, run, ledger.experiment_id, now - age, is_open)
        if not is_last:
            ledger.finish_sweep(run, {})
            ledger._live.set_terminated(run, "FINISHED", now - HOUR * (3 + number))
    insert(uri, rows)


def plan_of(name: str, arms: int, seeds: int) -> dict[str, Any]:
    axes = {"norm": [f"n{i}" for i in range(arms // 4)], "batch": [1, 2, 4, 8]}
    cells = [
        {
            "id": f"{uuid.uuid5(uuid.NAMESPACE_OID, f'{name} {norm} {batch} {seed}').hex[:12]}",
            "label": f"norm={norm} batch={batch} seed={seed}",
            "axes": {"norm": norm, "batch": batch},
            "seed": seed,
            "resources": {"workers": 2, "gpus_per_worker": 1},
            "differences": {"model.neck.norm_act": norm, "train.batch_per_gpu": str(batch)},
        }
        for norm in axes["norm"]
        for batch in axes["batch"]
        for seed in range(seeds)
    ]
    return {
        "sweep": name,
        "question": "Which norm is best?",
        "baseline": {"norm": "n0", "batch": 4},
        "axes": axes,
        "metric": {"name": "mAP", "goal": "max", "min_effect": 0.003},
        "cells": cells,
    }


def add_cell(
    rows: Rows,
    cell: dict[str, Any],
    sweep: str,
    sweep_run: str,
    where: str,
    end: int,
    is_open: bool,
) -> None:
    run = uuid.uuid4().hex
    draw = random.Random(cell["id"])
    outcome = "running" if is_open else draw.choices(("converged", "diverged"), (19, 1))[0]

    def add(table: str, **row: Any) -> None:
        rows.setdefault(table, []).append(row)

    add(
        "runs",
        run_uuid=run,
        name=cell["label"],
        source_type="UNKNOWN",
        source_name="",
        entry_point_name="",
        user_id="bench",
        status="RUNNING" if is_open else "FINISHED",
        start_time=end - HOUR // 6,
        end_time=None if is_open else end,
        source_version="",
        lifecycle_stage="active",
        artifact_uri=f"mlflow-artifacts:/{where}/{run}/artifacts",
        experiment_id=int(where),
    )
    tags = {
        "run.kind": "cell",
        "cell.id": cell["id"],
        "cell.label": cell["label"],
        "cell.outcome": outcome,
        "cell.seed": str(cell["seed"]),
        "cell.step": "90000",
        "cell.reason": "",
        "cell.attempt": "1",
        "cell.folder": f"/data/project/mlruns/cells/{cell['id']}",
        "sweep.name": sweep,
        "sweep.run_id": sweep_run,
        "data.fingerprint": "coco-2017-0123456789ab",
        "code.version": "1",
        "git.commit": "0" * 40,
        "git.dirty": "false",
        "gpu.names": "2 x NVIDIA H100 80GB HBM3",
        "orchestrator.host": "head",
        "mlflow.runName": cell["label"],
        "mlflow.runColor": "#0072b2",
        "ray.url": "http://127.0.0.1:8265/#/actors/0123456789abcdef",
        **{f"version.{name}": "1.2.3" for name in ("python", "torch", "ray", "mlflow", "numpy")},
        **{f"axis.{name}": str(level) for name, level in cell["axes"].items()},
    }
    for key, value in tags.items():
        add("tags", key=key, value=value, run_uuid=run)
    for n in range(8):
        add("params", key=f"optim.setting_{n}", value=str(n), run_uuid=run)
    for name in COCO:
        point = {
            "key": name,
            "value": draw.gauss(0.4, 0.002),
            "timestamp": end,
            "step": 90000,
            "is_nan": False,
            "run_uuid": run,
        }
        add("metrics", **point)
        add("latest_metrics", **point)


def insert(uri: str, rows: Rows) -> None:
    import sqlalchemy
    from mlflow.store.db.base_sql_model import Base

    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            for i in range(0, len(rows[table]), 5000):
                connection.execute(Base.metadata.tables[table].insert(), rows[table][i : i + 5000])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text("analyze"))  # as the database does by itself in time
    engine.dispose()


def measure(root: Path) -> dict[str, list[float]]:
    """Seconds of every round."""
    client = read_client(find_store(root))
    everywhere = [e.experiment_id for e in client.search_experiments()]
    experiment = client.get_experiment_by_name(WIDE)
    assert experiment is not None
    kept = Reader(root)
    kept.studies()
    times: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        out = work()
        times.setdefault(what, []).append(time.perf_counter() - began)
        return out

    for _ in range(ROUNDS):
        timed("first", Reader(root).studies)
        timed("list, later", kept.studies)
        timed("list, MLflow", partial(searched, client, everywhere))
        study = timed("table, later", partial(kept.study, WIDE))
        timed("table, MLflow", partial(searched, client, [experiment.experiment_id]))
        assert sum(cell.settled for cell in study.cells) == ARMS * SEEDS
        timed("its document", partial(document, study))
    return times


def searched(client: Any, experiments: list[str]) -> int:
    """How many cells MLflow's own search finds."""
    query, token, found = "tags.`run.kind` = 'cell'", None, 0
    while True:
        page = client.search_runs(experiments, query, max_results=1000, page_token=token)
        found, token = found + len(page), page.token
        if not token:
            return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds to read the list and a large table.")
    parser.add_argument("--store", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--cells", type=int, default=5000)
    args = parser.parse_args()
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "300"  # its search takes long on a busy machine
    results.FRESH_S = 0.0  # every load asks the store
    with tempfile.TemporaryDirectory() as name, stores(args.store, Path(name)) as uri:
        began = time.perf_counter()
        fill(Path(name), uri, args.cells)
        print(f"{args.store}: {args.cells} cells written in {time.perf_counter() - began:.0f} s")
        load = os.getloadavg()[1]
        times = measure(Path(name))
    for what, seconds in times.items():
        print(
            f"{what:15} {statistics.median(seconds):7.2f} s   {min(seconds):.2f}-{max(seconds):.2f}"
        )
    had = json.loads(OUT.read_text()) if OUT.exists() else {}
    had[args.store] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "python": platform.python_version(),
        "load_average": [load, os.getloadavg()[1]],
        "cells": args.cells,
        "medians_s": {what: statistics.median(seconds) for what, seconds in times.items()},
        "rounds_s": times,
    }
    OUT.write_text(json.dumps(had, indent=1) + "\n")


if __name__ == "__main__":
    main()
