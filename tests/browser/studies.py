"""A study that has everything a page shows, with curves."""

from __future__ import annotations

import math
import random
from typing import Any

from dashboards.document import document
from dashboards.study import Study
from tests.dashboards.made import study

NORMS = ("bn", "gn", "evonorm_s0", "frozen_bn")
BATCHES = ("1", "2", "4", "16")
STEPS = 2000
GAIN = {"bn": 0.0, "gn": 0.012, "evonorm_s0": 0.021, "frozen_bn": -0.02}


def norms_and_batches(**more: Any) -> Study:
    """4 norms x 4 batches x 3 seeds with every kind of outcome; the baseline is bn with 16."""
    noise = random.Random(1)
    arms: dict[tuple[str, ...], list[Any]] = {}
    for norm in NORMS:
        for i, batch in enumerate(BATCHES):
            score = 0.30 + 0.01 * i + GAIN[norm]
            arms[norm, batch] = [_converged(score + 0.004 * noise.gauss(0, 1)) for _ in range(3)]
    arms["bn", "1"] = [_ended("diverged", step, "loss is NaN") for step in (500, 1000, 1500)]
    arms["bn", "2"][1] = _ended("stalled", STEPS, "mAP 0.0003 at the end: never learned")
    arms["gn", "4"][2] = _ended("oom", 12, "CUDA out of memory")
    arms["frozen_bn", "16"][1:] = ["running", None]
    told: dict[str, Any] = {
        "name": "norm_vs_batchsize",
        "question": "Does BN converge at a small batch?",
        "state": "running",
        "min_effect": 0.005,
        "cautions": ("one learning rate for several batches",),
        "links": {"mlflow": "http://127.0.0.1:5000/#/experiments/1/runs/abc"},
    }
    return study(arms, {"norm": NORMS, "batch": BATCHES}, ("bn", "16"), **{**told, **more})


def whole(made: Study) -> dict[str, Any]:
    """Its document with the curves of every cell that was begun."""
    return document(made, {c.id: _curves(c) for c in made.cells if c.outcome != "waiting"})


def _converged(score: float) -> dict[str, Any]:
    metrics = {
        "mAP": score,
        "AP50": score * 1.7,
        "AR_large": -1.0,
        "AP: circle": score / 2,
        "gpu_hours": 4 * score,
    }
    links = {"mlflow": "http://127.0.0.1:5000/#/experiments/1/runs/abc"}
    return {
        "outcome": "converged",
        "metrics": metrics,
        "step": STEPS,
        "attempts": 1,
        "run_id": "abc",
        "folder": "/data/cells/abc",
        "links": links,
    }


def _ended(outcome: str, step: int, reason: str) -> dict[str, Any]:
    return {"outcome": outcome, "step": step, "reason": reason, "attempts": 2, "run_id": "def"}


def _curves(cell: Any) -> dict[str, Any]:
    died = cell.step if cell.outcome in ("diverged", "oom") else STEPS
    steps = [s for s in range(50, STEPS + 1, 50) if s <= died]
    return {
        "loss/total": [[s, 4 * math.exp(-s / 600) + 0.3 + cell.seed / 50] for s in steps],
        "mAP": [[s, cell.metrics.get("mAP", 0.0) * s / STEPS] for s in steps[3::4]],
    }
