"""The report of a sweep opened where it is kept: in the UI of a real MLflow server, which shows it
in a sandboxed frame without an origin, without storage and without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detcore.result import Point
from orchestrator.running.publish import publish
from tests.dashboards.ledgers import Start, plan_of
from tests.orchestrator.server import Server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Any) -> Iterator[Server]:
    found = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
    yield found
    found.kill()


def test_the_report_is_opened_and_worked_inside_mlflow(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path)
    start = Start(tmp_path, plan)
    curve = [Point(step, 1.7e9 + step, {"loss/total": 1 / step}) for step in range(1, 30)]
    scores: list[float | str] = [0.31, 0.28, 0.33, 0.30, "diverged", 0.25]
    for number, cell in enumerate(plan.cells):
        score = scores[number % 6]
        value = score if isinstance(score, str) else score + 0.004 * cell.cell.seed
        start.train(number, value, curve=curve)
    start.end()
    said: list[str] = []
    told = publish(start.ledger, start.run, tmp_path, said.append)
    assert said == []
    assert told

    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        place = f"#/experiments/{start.ledger.experiment_id}/runs/{start.run}"
        page.goto(f"{server.uri}/{place}/artifacts/report.html?workflowType=machine_learning")
        frame = page.frame_locator("iframe[sandbox]")
        frame.locator("html[data-ready]").wait_for(state="attached", timeout=60_000)
        sandbox = page.locator("iframe[sandbox]")
        assert sandbox.get_attribute("sandbox") == "allow-scripts"
        assert frame.locator("h1").inner_text().startswith("small")
        assert frame.locator("#conclusions li").count() == len(told)
        rows = frame.locator("#arms > tbody > tr")
        assert rows.count() == 6
        frame.locator("#arms-by-mean").click()
        shown = frame.locator("#arms td:nth-child(4)").all_inner_texts()
        values = [float(v.split()[0]) for v in shown if re.match(r"\d", v)]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        frame.locator("#level-norm").select_option(label="gn")
        assert rows.count() == 2
        lines = frame.locator("#curves path.curve[data-arm]")
        assert lines.count() == 4
        frame.locator("#seed-1").uncheck()
        assert lines.count() == 2
        frame.locator("#arms .open").first.click()
        assert frame.locator("text=python -m orchestrator.why").first.is_visible()
    finally:
        page.close()
