"""A study in JSON: the one source of every table, page and export. dashboards/README.md describes
it key by key.

Numbers that are not known are null; nothing in it is NaN or infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from dashboards.conclusions import conclusions
from dashboards.cost import pareto
from dashboards.effects import axis_effects, interactions
from dashboards.inference import Comparison, Inference, compare
from dashboards.metrics import CLASS, METRICS, Metric, describe, present
from dashboards.reference import beside
from dashboards.study import Arm, Axis, Cell, Study

SCHEMA = 1
"""Goes up when a key changes its meaning or goes away; a new key does not raise it."""


def document(study: Study, curves: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that is shown of a study. `curves`: for a cell's id its points by metric, [[step, value],
    ...]."""
    metrics = shown_metrics(study)
    return {
        "schema": SCHEMA,
        "sweep": _sweep(study),
        "target": asdict(study.target),
        "seeds": sorted({cell.seed for cell in study.cells}),
        "axes": [_axis(axis) for axis in study.axes],
        "metrics": [asdict(metric) for metric in metrics],
        "baseline": study.baseline,
        "arms": [_arm(arm, metrics) for arm in study.arms],
        "cells": [_cell(arm, cell) for arm in study.arms for cell in arm.cells],
        "comparisons": {m.name: _inference(inferred(study, m)) for m in metrics}
        if study.baseline
        else {},
        "effects": [asdict(e) for e in axis_effects(study)],
        "interactions": [asdict(i) for i in interactions(study)],
        "pareto": pareto(study),
        "reference": beside(study),
        "conclusions": [asdict(c) for c in conclusions(study)],
        "excluded": [dict(e) for e in study.excluded],
        "aliases": list(study.aliases),
        "cautions": list(study.cautions),
        "totals": _totals(study),
        "provenance": provenance(study),
        "curves": dict(curves or {}),
    }


def shown_metrics(study: Study) -> list[Metric]:
    """The columns there are numbers for: the target first, then the 12, classes, cost, size; of
    classes at most those of the data."""
    names = {name for cell in study.cells for name in cell.metrics}
    known = [m for m in present({*names, study.target.name}) if m.name != study.target.name]
    coco = [m for m in known if m.group == "COCO"]
    rest = [m for m in known if m.group != "COCO"]
    classes = [describe(name) for name in sorted(n for n in names if n.startswith(CLASS))]
    first = describe(study.target.name)
    if first.name not in METRICS:  # the sweep's own word on which way is better
        first = Metric(first.name, first.title, first.group, _goal(study))
    return [first, *coco, *classes, *rest]


def inferred(study: Study, metric: Metric) -> Inference | None:
    """Every arm against the baseline on one metric; None for a study without a baseline."""
    if study.baseline is None:
        return None
    is_target = metric.name == study.target.name
    return compare(
        study.observations(metric.name),
        study.baseline,
        goal=_goal(study) if is_target else metric.goal,
        min_effect=study.target.min_effect if is_target else None,
    )


def provenance(study: Study) -> dict[str, Any]:
    """Where the numbers come from: for each kind of tag the values that the cells have."""
    kinds = {
        "git.commit": "commits",
        "data.fingerprint": "data",
        "code.version": "code_versions",
        "gpu.names": "gpus",
    }
    found: dict[str, Any] = {}
    for tag, name in kinds.items():
        found[name] = sorted({c.tags[tag] for c in study.cells if c.tags.get(tag)})
    found["uncommitted_changes"] = any(c.tags.get("git.dirty") == "true" for c in study.cells)
    found["sweep_sha256"] = study.tags.get("sweep.sha256", "")
    found["gpu_hours"] = math.fsum(c.metrics.get("gpu_hours", 0.0) for c in study.cells)
    found["sweeps"] = sorted({c.sweep for c in study.cells if c.sweep})
    return found


# ---------------------------------------------------------------- the parts


def _goal(study: Study) -> Any:
    return study.target.goal


def _sweep(study: Study) -> dict[str, Any]:
    names = ("name", "question", "state", "variant", "arguments", "began", "updated")
    ids = {"run_id": study.run_id, "experiment_id": study.experiment_id}
    return {n: getattr(study, n) for n in names} | ids | {"links": dict(study.links)}


def _axis(axis: Axis) -> dict[str, Any]:
    return {"name": axis.name, "levels": list(axis.levels), "baseline": axis.baseline}


def _arm(arm: Arm, metrics: Iterable[Metric]) -> dict[str, Any]:
    return {
        "key": arm.key,
        "label": arm.label,
        "levels": dict(arm.levels),
        "planned": len(arm.cells),
        "settled": sum(cell.settled for cell in arm.cells),
        "outcomes": arm.outcomes(),
        "differences": dict(arm.differences),
        "values": {m.name: _mean_of(arm.values(m.name)) for m in metrics},
        "reference": asdict(arm.reference) if arm.reference else None,
    }


def _mean_of(values: list[float]) -> dict[str, float | int | None]:
    """n, mean and sample standard deviation (of two and more)."""
    n = len(values)
    mean = math.fsum(values) / n if n else None
    sd = None
    if mean is not None and n > 1:
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return {"n": n, "mean": mean, "sd": sd}


def _cell(arm: Arm, cell: Cell) -> dict[str, Any]:
    numbers = {k: v for k, v in cell.metrics.items() if math.isfinite(v)}
    return {
        "id": cell.id,
        "arm": arm.key,
        "label": cell.label,
        "seed": cell.seed,
        "outcome": cell.outcome,
        "reason": cell.reason,
        "step": cell.step,
        "attempts": cell.attempts,
        "metrics": numbers,
        "run_id": cell.run_id,
        "experiment_id": cell.experiment_id,
        "sweep": cell.sweep,
        "began": cell.began,
        "ended": cell.ended,
        "folder": cell.folder,
        "gpus": cell.gpus,
        "links": dict(cell.links),
    }


def _inference(found: Inference | None) -> dict[str, Any] | None:
    if found is None:
        return None
    names = ("variances", "level", "miss", "min_effect", "noise", "df", "homogeneity")
    about = {name: getattr(found, name) for name in names}
    return about | {"arms": {c.arm: _comparison(c) for c in found.comparisons}}


def _comparison(found: Comparison) -> dict[str, Any]:
    return {k: v for k, v in asdict(found).items() if k != "arm"} | {"words": found.words}


def _totals(study: Study) -> dict[str, Any]:
    cells = list(study.cells)
    outcomes = Arm("", "", {}, tuple(cells)).outcomes()
    hours = ("gpu_hours", "train_hours")
    sums = {name: math.fsum(c.metrics.get(name, 0.0) for c in cells) for name in hours}
    settled = sum(cell.settled for cell in cells)
    return {"cells": len(cells), "settled": settled, "outcomes": outcomes, **sums}
