"""Failures to converge as results: where they are, and of each cell how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.outcomes import FAILED, OPEN
from dashboards.study import ABSENT, Axis, Cell, Study


@dataclass(frozen=True)
class Ended:
    """`steps` of the cells with this outcome, as far as they are known, in order."""

    outcome: str
    count: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Spot:
    """All arms with one level of each of the two axes; `down` is empty where there is one axis.

    `converged`, `failed` (diverged or stalled), `faults` (out of memory, crashed, lost: no result)
    and `waiting` (or running) make up `planned`. `share` is converged of planned; None where
    nothing is planned. What waits has not failed: it is told beside.
    """

    down: str
    across: str
    planned: int
    settled: int
    converged: int
    failed: int
    faults: int
    waiting: int
    share: float | None
    ended: tuple[Ended, ...]  # outcomes other than converged, waiting and running


@dataclass(frozen=True)
class ConvergenceMap:
    """`spots` by rows. `down` is None for a sweep with one axis."""

    down: str | None
    across: str
    down_levels: tuple[str, ...]
    across_levels: tuple[str, ...]
    pooled: tuple[str, ...]  # the other axes
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class Failure:
    """A cell that ended otherwise than converged. `result`: it is one (diverged, stalled); else a
    fault, after which another attempt may follow."""

    arm: str
    label: str
    seed: int
    id: str
    outcome: str
    result: bool
    step: int | None
    reason: str
    attempts: int
    run_id: str


def convergence_map(
    study: Study, down: str | None = None, across: str | None = None
) -> ConvergenceMap | None:
    """Which share of seeds converged at each combination of two axes, over all others.

    By default columns are the levels of the last axis whose levels are all numbers, else of the
    last one, and rows those of the first other axis. None for a study without axes. Raises
    ValueError for an axis that there is not, and for one axis as both.
    """
    axes = {axis.name: axis for axis in study.axes}
    for name in (down, across):
        if name is not None and name not in axes:
            raise ValueError(f"unknown axis {name!r}; choices: {', '.join(axes) or 'none'}")
    if down is not None and down == across:
        raise ValueError(f"axis {down!r} can be rows or columns, not both")
    if not axes:
        return None
    across = across or _columns([axis for axis in study.axes if axis.name != down])
    if across is None:  # there is but one axis, and it was asked for as rows
        down, across = None, str(down)
    elif down is None:
        down = next((name for name in axes if name != across), None)
    rows = _levels(study, axes[down]) if down else ("",)
    columns = _levels(study, axes[across])
    spots = tuple(_spot(study, down, row, across, column) for row in rows for column in columns)
    pooled = tuple(name for name in axes if name not in (down, across))
    return ConvergenceMap(down, across, rows if down else (), columns, pooled, spots)


def failures(study: Study) -> list[Failure]:
    """Every cell that ended otherwise than converged, in the order of the arms; one that waits or
    runs has not ended."""
    return [
        Failure(
            arm.key,
            cell.label or f"{arm.label} seed={cell.seed}",
            cell.seed,
            cell.id,
            cell.outcome,
            cell.settled,
            cell.step,
            cell.reason,
            cell.attempts,
            cell.run_id,
        )
        for arm in study.arms
        for cell in arm.cells
        if cell.outcome not in ("converged", *OPEN)
    ]


def _columns(axes: Sequence[Axis]) -> str | None:
    numeric = [axis for axis in axes if all(_is_number(v) for v in axis.levels if v != ABSENT)]
    return next((axis.name for axis in [*reversed(numeric), *reversed(axes)]), None)


def _levels(study: Study, axis: Axis) -> tuple[str, ...]:
    """In the order of the sweep file, and what arms have beside those."""
    here = [arm.levels[axis.name] for arm in study.arms]
    return tuple(level for level in dict.fromkeys((*axis.levels, *here)) if level in here)


def _spot(study: Study, down: str | None, row: str, across: str, column: str) -> Spot:
    cells = [
        cell
        for arm in study.arms
        if arm.levels[across] == column and (down is None or arm.levels[down] == row)
        for cell in arm.cells
    ]
    converged = sum(cell.outcome == "converged" for cell in cells)
    failed = sum(cell.outcome in FAILED for cell in cells)
    waiting = sum(cell.outcome in OPEN for cell in cells)
    return Spot(
        row,
        column,
        len(cells),
        converged + failed,
        converged,
        failed,
        len(cells) - converged - failed - waiting,
        waiting,
        converged / len(cells) if cells else None,
        _ended(cells),
    )


def _ended(cells: Sequence[Cell]) -> tuple[Ended, ...]:
    steps: dict[str, list[int | None]] = {}
    for cell in cells:
        if cell.outcome not in ("converged", *OPEN):
            steps.setdefault(cell.outcome, []).append(cell.step)
    return tuple(
        Ended(outcome, len(of), tuple(sorted(step for step in of if step is not None)))
        for outcome, of in steps.items()
    )


def _is_number(level: str) -> bool:
    try:
        float(level)
    except ValueError:
        return False
    return True
