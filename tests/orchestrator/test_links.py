"""Where a cell is looked up: links between Ray's dashboard, MLflow and the comparison pages."""

from __future__ import annotations

import pytest

from orchestrator.cluster.connect import Cluster
from orchestrator.running.links import cell_note, watch_tags

BEGUN = {"ray.job_id": "01", "ray.actor_ids": "supervisor,first,second"}


def test_the_first_rank_is_watched_in_the_dashboard_of_the_cluster() -> None:
    local = Cluster((), "http://127.0.0.1:8265", local=True, needs_token=True)
    assert watch_tags(local, BEGUN)["ray.url"] == "http://127.0.0.1:8265/#/actors/first"
    assert watch_tags(local, BEGUN)["ray.stays"] == "false"
    joined = Cluster((), "http://head:8265", local=False, needs_token=True)
    assert watch_tags(joined, BEGUN)["ray.stays"] == "true"
    assert watch_tags(Cluster((), "", True, True), BEGUN) == BEGUN
    assert watch_tags(local, {}) == {}  # an attempt that never began


def test_a_browser_may_find_the_dashboard_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATION_RAY_URL", "http://localhost:9000/")
    joined = Cluster((), "http://head:8265", local=False, needs_token=True)
    assert watch_tags(joined, BEGUN)["ray.url"] == "http://localhost:9000/#/actors/first"
    local = Cluster((), "http://127.0.0.1:8265", local=True, needs_token=True)
    assert watch_tags(local, BEGUN)["ray.url"] == "http://127.0.0.1:8265/#/actors/first"


def test_a_note_leads_from_mlflow_to_the_other_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    note = cell_note("norms & more/2", "7", "5e", "c0ffee", {})
    assert note.startswith("[The sweep](#/experiments/7/runs/5e)\n\n")
    monkeypatch.setenv("ABLATION_DASHBOARDS_URL", "http://localhost:8321")
    tags = {"ray.url": "http://localhost:8265/#/actors/first", "ray.stays": "true"}
    assert cell_note("norms & more/2", "7", "5e", "c0ffee", tags).startswith(
        "[Beside the other cells](http://localhost:8321/sweep/norms%20%26%20more%2F2?variant=5e#cell-c0ffee)"
        " · [The sweep](#/experiments/7/runs/5e)"
        " · [Ray's dashboard](http://localhost:8265/#/actors/first) (under Tasks History)\n"
    )
