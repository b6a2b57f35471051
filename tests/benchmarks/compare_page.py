"""How long a browser waits for our pages, beside MLflow's own page that compares the same runs.

    python -m tests.benchmarks.compare_page [--cells 5000]

The store of `tests.benchmarks.dashboards`, on PostgreSQL behind a real MLflow server. Chromium
opens the list of sweeps, the table of the sweep with 200 arms (600 cells), and MLflow's page that
compares runs, with one cell of every arm (200 runs). Seconds from going to the address until the
last row is there; every page was opened once before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dashboards.store import find_store, read_client
from tests.benchmarks.dashboards import ARMS, OUT, ROUNDS, SEEDS, WIDE, fill, stores
from tests.browser.conftest import ARGUMENTS
from tests.dashboards.test_serve import served

PATIENCE_MS = 300_000


def addresses(ours: str, root: Path) -> dict[str, tuple[str, str]]:
    """By page: its address, and a selector of what is there when all of it is."""
    store = find_store(root)
    client = read_client(store)
    experiment = client.get_experiment_by_name(WIDE)
    assert experiment is not None
    query = "tags.`run.kind` = 'cell' and tags.`cell.seed` = '0'"
    runs = client.search_runs([experiment.experiment_id], query, max_results=1000)
    assert len(runs) == ARMS
    ids = json.dumps([run.info.run_id for run in runs])
    of = json.dumps([experiment.experiment_id])
    compare = f"{store.uri}/#/compare-runs?runs={quote(ids)}&experiments={quote(of)}"
    last = runs[-1].info.run_id
    return {
        "list": (ours, "#sweeps tbody tr >> nth=10"),
        "table": (f"{ours}sweep/{WIDE}", f"#arms > tbody > tr >> nth={ARMS - 1}"),
        "MLflow's compare page": (compare, f"a[href*='{last}'] >> nth=0"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds until a page is there, in Chromium.")
    parser.add_argument("--cells", type=int, default=5000)
    args = parser.parse_args()
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "300"
    with tempfile.TemporaryDirectory() as name, stores("postgres", Path(name)) as uri:
        fill(Path(name), uri, args.cells)
        server = os.environ["MLFLOW_TRACKING_URI"]
        with served(Path(name), "--refresh", "3600", MLFLOW_TRACKING_URI=server) as (ours, _):
            times = measure(addresses(ours, Path(name)))
    for what, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{what:22} {median:7.2f} s   {min(seconds):.2f}-{max(seconds):.2f}")
    had = json.loads(OUT.read_text()) if OUT.exists() else {}
    had["pages"] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "load_average": os.getloadavg()[1],
        "cells": args.cells,
        "of_the_table": {"arms": ARMS, "cells": ARMS * SEEDS},
        "medians_s": {what: statistics.median(seconds) for what, seconds in times.items()},
        "rounds_s": times,
    }
    OUT.write_text(json.dumps(had, indent=1) + "\n")


def measure(pages: dict[str, tuple[str, str]]) -> dict[str, list[float]]:
    from playwright.sync_api import sync_playwright

    times: dict[str, list[float]] = {what: [] for what in pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(ARGUMENTS)
        )
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        for number in range(ROUNDS + 1):
            for what, (address, there) in pages.items():
                seconds = opened(context, address, there)
                if number:  # the first load is not counted
                    times[what].append(seconds)
        browser.close()
    return times


def opened(context: Any, address: str, there: str) -> float:
    page = context.new_page()
    began = time.perf_counter()
    page.goto(address, timeout=PATIENCE_MS)
    page.locator(there).wait_for(state="attached", timeout=PATIENCE_MS)
    seconds = time.perf_counter() - began
    page.close()
    return seconds


if __name__ == "__main__":
    main()
