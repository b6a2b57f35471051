"""The README's sweep, trained as it is and recorded on a real MLflow server; its report is written
in every format, and the page that the sweep left in MLflow is worked in a real browser there."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.server import Server

FILE = Path(__file__).parents[2] / "sweeps" / "norm_vs_batchsize.yaml"
ROWS = "#arms > tbody > tr:not(.detail)"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_main_job_from_the_command_to_a_click_in_mlflow(browser: Any, tmp_path: Path) -> None:
    server = Server(tmp_path)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.uri}

    def call(module: str, *arguments: str) -> str:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        assert "18 of 18" in call("orchestrator.run", str(FILE))
        for kind in ("html", "md", "tex", "csv", "json"):
            call("dashboards.report", "norm_vs_batchsize", "--out", f"report.{kind}")
        document = json.loads((tmp_path / "report.json").read_text())
        means = {a["key"]: a["values"]["mAP"]["mean"] for a in document["arms"]}
        assert len(means) == 9
        assert [c["outcome"] for c in document["cells"]] == ["converged"] * 18
        for mean in means.values():  # one table, whichever format it is read in
            for kind in ("md", "tex"):
                assert f"{mean:.3f}" in (tmp_path / f"report.{kind}").read_text()
        with (tmp_path / "report.csv").open(newline="") as text:
            assert len(list(csv.DictReader(text))) >= 9
        sweep = document["sweep"]
        place = f"#/experiments/{sweep['experiment_id']}/runs/{sweep['run_id']}"
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(f"{server.uri}/{place}/artifacts/report.html?workflowType=machine_learning")
        frame = page.frame_locator("iframe[sandbox]")
        frame.locator("html[data-ready]").wait_for(state="attached")
        work(page, frame, document, means)
        page.close()
    finally:
        server.kill()


def work(page: Any, frame: Any, document: dict[str, Any], means: dict[str, float]) -> None:
    """Sort, filter, toggle and hover; what must be seen follows from the JSON."""

    def keys() -> list[str]:
        ids = frame.locator(ROWS).evaluate_all("rows => rows.map((row) => row.id)")
        return [id.removeprefix("arms-") for id in ids]

    assert keys() == list(means)
    frame.locator("#arms-by-mean").click()
    assert [means[k] for k in keys()] == sorted(means.values(), reverse=True)
    levels = {a["key"]: a["levels"] for a in document["arms"]}
    lines = frame.locator("#curves path.curve[data-arm]")
    frame.locator("#curves").scroll_into_view_if_needed()
    frame.locator("#curve").select_option("mAP")
    assert lines.count() == 18
    frame.locator("#level-norm").select_option(label="evonorm_s0")
    of_norm = [k for k in means if levels[k]["norm"] == "evonorm_s0"]
    assert sorted(keys()) == sorted(of_norm)
    assert lines.count() == 6
    frame.locator("#seed-1").uncheck()
    assert lines.count() == 3
    hidden, other, shown = of_norm
    for key in (hidden, other):
        frame.locator(f"#arm-{key}").uncheck()
    assert lines.count() == 1
    assert lines.get_attribute("data-arm") == shown

    cell = next(c for c in document["cells"] if c["arm"] == shown and c["seed"] == 0)
    step, value = document["curves"][cell["id"]]["mAP"][-1]
    chart = frame.locator("#curves svg.chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    d = lines.get_attribute("d")
    x, y = map(float, d.removeprefix("M").split("L")[-1].split())
    page.mouse.move(box["x"] + x - 2, box["y"] + y + 2)
    said = frame.locator("#tip").inner_text()
    label = " ".join(f"{axis}={level}" for axis, level in levels[shown].items())
    assert said == f"{label} seed=0: {value:.4f} at step {step}"
    frame.locator("#clear").click()
    assert sorted(keys()) == sorted(means)
