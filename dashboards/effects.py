"""What one level of an axis does, over all pairs of arms that differ in nothing else."""

from __future__ import annotations

from dashboards.study import Study


def axis_effects(study: Study) -> list[object]:
    return []


def interactions(study: Study) -> list[object]:
    return []
