"""Studies that are written down by hand in a test."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.study import Arm, Axis, Cell, Study, Target

Seed = float | str | tuple[str, int] | None | Mapping[str, Any]


def study(
    arms: Mapping[tuple[str, ...], Sequence[Seed]],
    axes: Mapping[str, Sequence[str]],
    baseline: Sequence[str] | None = None,
    *,
    metric: str = "mAP",
    name: str = "made",
    min_effect: float | None = None,
    goal: str = "max",
    **more: Any,
) -> Study:
    """`arms`: for the levels of each arm, one entry a seed: the value of `metric` of a converged
    cell, an outcome, an outcome with the step it ended at, None for a cell that waits, or the
    keywords of a Cell."""
    made = []
    for number, (levels, seeds) in enumerate(arms.items()):
        label = " ".join(f"{axis}={level}" for axis, level in zip(axes, levels, strict=True))
        cells = tuple(_cell(s, seed, metric, f"{label} seed={s}") for s, seed in enumerate(seeds))
        named = dict(zip(axes, levels, strict=True))
        made.append(Arm(f"a{number}", label, named, cells))
    wanted = tuple(baseline) if baseline is not None else None
    base = next((arm for arm in made if tuple(arm.levels.values()) == wanted), None)
    lines = tuple(
        Axis(axis, tuple(levels), base.levels[axis] if base else None)
        for axis, levels in axes.items()
    )
    return Study(
        name,
        lines,
        tuple(made),
        Target(metric, goal, min_effect),
        base.key if base else None,
        **more,
    )


def _cell(seed: int, given: Seed, metric: str, label: str) -> Cell:
    plain: dict[str, Any] = {
        "seed": seed,
        "label": label,
        "id": f"{zlib.crc32(label.encode()):012x}"[:12],
    }
    if given is None:
        return Cell(**plain)
    if isinstance(given, Mapping):
        return Cell(**{**plain, **given})
    if isinstance(given, str):
        return Cell(**plain, outcome=given)
    if isinstance(given, tuple):
        return Cell(**plain, outcome=given[0], step=given[1])
    return Cell(**plain, outcome="converged", metrics={metric: given})
