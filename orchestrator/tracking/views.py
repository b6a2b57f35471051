"""Ready-made pages of MLflow's run list: the COCO table, the failures, the curves.

MLflow (3.17) keeps such views in experiment tags `mlflow.sharedViewState.<id>`; the format is its
own and may change, so callers write them best-effort.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from detcore.result import METRICS

if TYPE_CHECKING:
    from mlflow import MlflowClient

VIEWS = {"coco": "COCO table", "failures": "Convergence failures", "curves": "Curves"}
"""The id of a view (`&viewStateShareKey=<id>` in an address) and its name."""

_LIMIT = 20_000  # characters of an experiment tag
_CELLS = "tags.`run.kind` = 'cell' and tags.`cell.role` IS NULL"  # no tuning cells
_CURVES = (("loss/total", "log"), ("lr", "linear"), ("grad_norm", "log"), ("mAP", "linear"))


def save_views(client: MlflowClient, experiment_id: str, axes: Iterable[str]) -> None:
    """Write the three views; `axes` are the names of the sweep's axes."""
    for view, state in view_states(axes).items():
        value = _encode(VIEWS[view], state)
        if len(value) <= _LIMIT:
            client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{view}", value)


def view_states(axes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What each view shows: columns in order, filter, sorting, charts."""
    levels = [_column("params", axis) for axis in axes]
    end = [_column("tags", name) for name in ("cell.outcome", "cell.step", "cell.reason")]
    cost = [_column("metrics", n) for n in ("train_hours", "eval_s_per_img", "images_per_s")]
    coco = [*levels, _column("tags", "cell.seed"), end[0]]
    coco += [_column("metrics", name) for name in METRICS] + cost
    failures = [*levels, _column("tags", "cell.seed"), *end, _column("tags", "cell.attempt")]
    return {
        "coco": {
            "searchFilter": _CELLS,
            "orderByKey": _column("metrics", "mAP"),
            "selectedColumns": coco,
            "columnOrder": coco,
        },
        "failures": {
            "searchFilter": f"{_CELLS} and tags.`cell.outcome` != 'converged'",
            "orderByKey": levels[0] if levels else "attributes.start_time",
            "orderByAsc": True,
            "selectedColumns": failures,
            "columnOrder": failures,
        },
        "curves": {
            "searchFilter": _CELLS,
            "runsHiddenMode": "SHOW_ALL",  # by default the charts show ten runs
            "selectedColumns": coco[: len(levels) + 2],
            "columnOrder": coco[: len(levels) + 2],
            "compareRunCharts": [_line(key, scale) for key, scale in _CURVES],
            "compareRunSections": [
                {"uuid": "curves", "name": "Curves", "display": True, "isReordered": False}
            ],
        },
    }


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _line(metric: str, scale: str) -> dict[str, Any]:
    return {
        "uuid": f"curve-{metric.replace('/', '-')}",
        "type": "LINE",
        "metricSectionId": "curves",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "selectedXAxisMetricKey": "",
        "selectedYAxisMetricKey": metric,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": scale,
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "useGlobalXaxisKey": False,
        "runsCountToCompare": 100,
        "range": {},
        "deleted": False,
        "isGenerated": False,
    }


def _encode(name: str, state: dict[str, Any]) -> str:
    whole = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
    } | state
    now = int(time.time() * 1000)
    return json.dumps(
        {"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(whole)}
    )
