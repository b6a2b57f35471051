"""What goes wrong with the report of a sweep costs no result."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.results import Reader
from orchestrator.running.publish import publish
from tests.dashboards.ledgers import Start, empty_store, plan_of


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = empty_store(tmp_path / "tables", tmp_path / "project")
    start = Start(root, plan_of(root, seeds=[0]))
    for number in range(len(start.plan.cells)):
        start.train(number, 0.2 + 0.01 * number)
    start.end()
    return start


def artifacts(start: Start) -> set[str]:
    return {file.path for file in start.ledger._live.list_artifacts(start.run)}


def test_the_report_is_an_artifact_of_the_sweeps_run(start: Start) -> None:
    said: list[str] = []
    conclusions = publish(start.ledger, start.run, start.root, said.append)
    assert said == []
    assert "report.html" in artifacts(start)
    assert any("nothing can be claimed" in text for text in conclusions)


def test_a_store_that_fails_is_one_line(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the disk is\nfull")

    monkeypatch.setattr(Reader, "study", fails)
    said: list[str] = []
    assert publish(start.ledger, start.run, start.root, said.append) == []
    assert "report.html" not in artifacts(start)
    (line,) = said
    assert line.startswith("report.html was not made: the disk is")
    assert "python -m dashboards.report small" in line
    assert "\n" not in line
