"""A study in JSON: the one source of every table, page and export. dashboards/README.md describes
it key by key.

Numbers that are not known are null; nothing in it is NaN or infinite.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from dashboards.arms import against_baseline, on_target, told_otherwise
from dashboards.average import mean, spread
from dashboards.conclusions import conclusions
from dashboards.cost import at_equal_images, pareto
from dashboards.effects import axis_effects
from dashboards.failures import convergence_map, failures
from dashboards.images import OverImages, image_conclusions
from dashboards.inference import Comparison, Inference
from dashboards.interactions import interactions
from dashboards.metrics import CLASS, Metric, describe, present, undefined
from dashboards.reference import beside
from dashboards.study import Arm, Axis, Cell, Study

SCHEMA = 1
"""Goes up when a key changes its meaning or goes away; a new key does not raise it."""


def document(
    study: Study,
    curves: Mapping[str, Any] | None = None,
    compared: Collection[str] | None = None,
    images: Sequence[OverImages] = (),
) -> dict[str, Any]:
    """All that is shown of a study. `curves`: for a cell's id its points by metric, [[step, value],
    ...]. `compared`: the metrics that arms are compared on (None: all), for who needs the answer
    for one of them soon: each takes a while where arms are many. `images`: what
    `dashboards.images.over_images` found."""
    metrics = shown_metrics(study)
    comparisons = {m.name: inferred(study, m) for m in metrics if _in(compared, m.name)}
    # what is concluded is of the target, whatever was asked for
    decides = comparisons.get(study.target.name) or on_target(study)
    effects, crossed = axis_effects(study), interactions(study)
    whole = {
        "schema": SCHEMA,
        "sweep": _sweep(study),
        "target": asdict(study.target),
        "seeds": sorted({cell.seed for cell in study.cells}),
        "looks": list(study.looks),
        "axes": [_axis(axis) for axis in study.axes],
        "metrics": [asdict(metric) for metric in metrics],
        "baseline": study.baseline,
        "arms": [_arm(arm, metrics) for arm in study.arms],
        "cells": [_cell(arm, cell) for arm in study.arms for cell in arm.cells],
        "comparisons": {name: _inference(found) for name, found in comparisons.items() if found},
        "effects": [asdict(e) for e in effects],
        "interactions": [asdict(i) for i in crossed],
        "convergence": asdict(convergence) if (convergence := convergence_map(study)) else None,
        "failures": [asdict(f) for f in failures(study)],
        "pareto": asdict(pareto(study)),
        "equal_images": asdict(at_equal_images(study, curves)) if curves else None,
        "reference": beside(study),
        "images": [asdict(one) for one in images],
        "conclusions": [
            asdict(c)
            for c in (
                *conclusions(study, decides, effects, crossed),
                *image_conclusions(study, images),
            )
        ],
        "excluded": [dict(e) for e in study.excluded],
        "aliases": list(study.aliases),
        "cautions": [*study.cautions, *(told_otherwise(study, decides) if decides else ())],
        "totals": _totals(study),
        "provenance": provenance(study),
        "curves": dict(curves or {}),
    }
    return {key: _plain(value) for key, value in whole.items()}


def shown_metrics(study: Study) -> list[Metric]:
    """The columns there are numbers for: the target first, then the 12, classes, cost, size; of
    classes at most those of the data."""
    names = {name for cell in study.cells for name in cell.metrics}
    names.discard(study.target.name)
    known = present(names)
    coco = [m for m in known if m.group == "COCO"]
    rest = [m for m in known if m.group != "COCO"]
    classes = [describe(name) for name in sorted(n for n in names if n.startswith(CLASS))]
    # the sweep has its own word on which way is better
    first = replace(describe(study.target.name), goal=study.target.goal)
    return [first, *coco, *classes, *rest]


def inferred(study: Study, metric: Metric) -> Inference | None:
    """Every arm against the baseline on one metric: see `dashboards.arms`. The target has the goal
    that the sweep gives it, and alone has a smallest difference that matters."""
    if metric.name == study.target.name:
        return on_target(study)
    return against_baseline(study, metric.name, metric.goal, None)


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
    found["gpu_hours"] = _hours(study.cells, "gpu_hours")
    found["sweeps"] = sorted({c.sweep for c in study.cells if c.sweep})
    return found


# ---------------------------------------------------------------- the parts


def _plain(value: Any) -> Any:
    """As JSON has it: lists, mappings of texts, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _in(names: Collection[str] | None, name: str) -> bool:
    return names is None or name in names


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
    return {"n": len(values), "mean": mean(values), "sd": spread(values)}


def _cell(arm: Arm, cell: Cell) -> dict[str, Any]:
    numbers = {k: v for k, v in cell.metrics.items() if not undefined(k, v)}
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


def _inference(found: Inference) -> dict[str, Any]:
    names = ("variances", "level", "miss", "min_effect", "noise", "df", "homogeneity")
    about = {name: getattr(found, name) for name in names}
    return about | {"arms": {c.arm: _comparison(c) for c in found.comparisons}}


def _comparison(found: Comparison) -> dict[str, Any]:
    return {k: v for k, v in asdict(found).items() if k != "arm"} | {"words": found.words}


def _totals(study: Study) -> dict[str, Any]:
    cells = list(study.cells)
    outcomes = Arm("", "", {}, tuple(cells)).outcomes()
    hours = ("gpu_hours", "train_hours")
    sums = {name: _hours(cells, name) for name in hours}
    settled = sum(cell.settled for cell in cells)
    return {"cells": len(cells), "settled": settled, "outcomes": outcomes, **sums}


def _hours(cells: Iterable[Cell], name: str) -> float:
    """Of all cells, however they ended, as far as they are known."""
    known = (cell.metrics.get(name, math.nan) for cell in cells)
    return math.fsum(hours for hours in known if not undefined(name, hours))
