"""What the columns of a table are: names as in MLflow, titles, units, and which way is better."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

CLASS = "AP: "  # begins the name of a column with one class's AP


@dataclass(frozen=True)
class Metric:
    name: str
    title: str
    group: Literal["COCO", "class", "speed", "cost", "size", "other"]
    goal: Literal["max", "min"] = "max"
    unit: str = ""
    digits: int = 3


_COCO = {
    "mAP": "AP, mean over IoU 0.50 to 0.95",
    "AP50": "AP at IoU 0.50",
    "AP75": "AP at IoU 0.75",
    "AP_small": "AP of small objects",
    "AP_medium": "AP of medium objects",
    "AP_large": "AP of large objects",
    "AR1": "AR with 1 detection per image",
    "AR10": "AR with 10 detections per image",
    "AR100": "AR with 100 detections per image",
    "AR_small": "AR of small objects",
    "AR_medium": "AR of medium objects",
    "AR_large": "AR of large objects",
}
COCO = tuple(_COCO)
"""The 12 COCO metrics in pycocotools' order, fractions of 1; -1 where undefined."""

METRICS = {
    metric.name: metric
    for metric in (
        *(Metric(name, title, "COCO") for name, title in _COCO.items()),
        Metric("images_per_s", "images a second in training", "speed", unit="1/s", digits=1),
        Metric("data_wait", "share of a step spent waiting for data", "speed", "min"),
        Metric("eval_s_per_img", "evaluation, seconds an image", "speed", "min", "s", 4),
        Metric("train_hours", "hours of training", "cost", "min", "h"),
        Metric("gpu_hours", "GPU-hours", "cost", "min", "h"),
        Metric("peak_mem_gb", "peak memory of a GPU", "size", "min", "GB", 2),
        Metric("params_m", "parameters", "size", "min", "million", 2),
    )
}


def describe(name: str) -> Metric:
    """A metric by its name; one that is not known (a class's AP, another number of a sweep) is
    taken as it is called."""
    if name in METRICS:
        return METRICS[name]
    if name.startswith(CLASS):
        return Metric(name, f"AP of {name.removeprefix(CLASS)}", "class")
    return Metric(name, name, "other")


def undefined(name: str, value: float) -> bool:
    """Whether a number says nothing: not finite, or pycocotools' -1 for nothing to be found. MLflow
    keeps infinity as the largest float."""
    fraction = name in _COCO or name.startswith(CLASS)
    return not abs(value) < sys.float_info.max or (fraction and value < 0)


def present(names: Iterable[str]) -> list[Metric]:
    """The metrics of `METRICS` that are among `names`, in its order."""
    have = set(names)
    return [metric for name, metric in METRICS.items() if name in have]
