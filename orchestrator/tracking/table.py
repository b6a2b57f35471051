"""The ablation table: one entry per arm, with every planned seed accounted for. Pure functions.

A mean is never taken over survivors in silence: an entry with a failed seed names it, and its mean
is marked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Protocol

from dashboards import outcomes
from detcore.result import METRICS

WAITING, RUNNING = "waiting", "running"
FAILED = (*outcomes.FAILED, *outcomes.FAULTS)

REPORT = "report"
"""The head of the column with another report's numbers."""

SURVIVORS, NOT_YET, NOT_PLANNED, BASELINE = "~", "…", "·", "*"
_MANY = 8  # levels up to which an axis makes columns


@dataclass(frozen=True)
class Row:
    """One cell: `axes` are its levels, `outcome` how it ended, or `running` or `waiting`."""

    axes: Mapping[str, Any]
    seed: int
    outcome: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None
    reason: str = ""
    id: str = ""
    label: str = ""
    run_id: str = ""
    cpus: float = 0.0  # of the whole cell; for the sum of CPU hours


class Scored(Protocol):
    """What has ended: a row here, or a cell as the ledger has it."""

    @property
    def outcome(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def values(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Entry:
    text: str
    outcomes: frozenset[str] = frozenset()
    marks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    """`names` head the first columns (one per axis in the rows), `columns` the rest; each line is
    its levels and its entries. `notes` stand beneath: legend, caution, totals."""

    title: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    lines: tuple[tuple[tuple[str, ...], tuple[Entry, ...]], ...]
    notes: tuple[str, ...]


def make_table(
    rows: Sequence[Row],
    axes: Mapping[str, Sequence[Any]],
    metric: str = "mAP",
    baseline: Mapping[str, Any] | None = None,
    title: str = "",
    reference: Mapping[tuple[str, ...], str] | None = None,
    judged: bool = False,
) -> Table:
    """The table of `rows`. `axes`: levels in the order of the sweep file; `baseline`: its levels.
    `reference`: for an arm's levels what another report says of it, a column of its own where no
    axis makes columns. `judged`: the reader is told elsewhere which differences are established.

    Columns are the levels of the last axis whose levels are all numbers (else of the last axis,
    when it is not the only one and has few); the other axes make the rows.
    """
    across = column_axis(axes)
    down = [name for name in axes if name != across]
    arms: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        arms.setdefault(_arm(row.axes, axes), []).append(row)
    base = _arm(baseline, axes) if baseline is not None else None
    order = sorted(arms, key=_position(axes))
    names = list(axes)
    levels: dict[str, None] = {metric: None}
    if across:
        levels = dict.fromkeys(str(level) for level in axes[across])
        levels |= dict.fromkeys(arm[names.index(across)] for arm in order)
    if reference and not across:
        levels[REPORT] = None
    lines: dict[tuple[str, ...], dict[str, Entry]] = {}
    for arm in order:
        head = tuple(arm[names.index(name)] for name in down) or ("all",)
        column = arm[names.index(across)] if across else metric
        entry = entry_of(arms.get(arm, []), metric)
        if arm == base and arm in arms:
            entry = Entry(f"{entry.text}{BASELINE}", entry.outcomes, entry.marks | {BASELINE})
        lines.setdefault(head, {})[column] = entry
        if reference and not across:
            lines[head][REPORT] = Entry(reference.get(arm, ""))
    empty = Entry(NOT_PLANNED, marks=frozenset({NOT_PLANNED}))
    body = tuple(
        (head, tuple(entries.get(level, empty) for level in levels))
        for head, entries in lines.items()
        if any(entry.text != NOT_PLANNED for level, entry in entries.items() if level != REPORT)
    )
    return Table(
        title=title or f"{metric}: " + " × ".join(names),
        names=tuple(down) or ("arm",),
        columns=tuple(f"{across} {level}" if across else level for level in levels),
        lines=body,
        notes=tuple(_notes(rows, arms, body, metric, judged)),
    )


def column_axis(axes: Mapping[str, Sequence[Any]]) -> str | None:
    """The axis that makes the columns; None: one column of results."""
    if len(axes) < 2:
        return None
    numeric = [name for name, levels in axes.items() if all(_is_number(v) for v in levels)]
    short = [name for name in axes if len(axes[name]) <= _MANY]
    for choice in (numeric[-1:], short[-1:]):
        if choice and choice[0] in short:
            return choice[0]
    return None


def entry_of(cells: Sequence[Row], metric: str) -> Entry:
    """What one arm shows: `0.412 ±0.010 (2/2)`, `~0.310 (1/2: diverged @812)`, `diverged @120,
    133`, `running`, or `…`. (n/N): n seeds are in the mean of N planned; ± is their sample
    deviation."""
    if not cells:
        return Entry(NOT_PLANNED, marks=frozenset({NOT_PLANNED}))
    outcomes = frozenset(cell.outcome for cell in cells)
    values = [
        v for c in cells if c.outcome == "converged" and (v := value_of(c, metric)) is not None
    ]
    others = [c for c in cells if c.outcome != "converged"]
    unknown = len(cells) - len(values) - len(others)
    rest = [_failures(cells, outcome, metric) for outcome in FAILED if outcome in outcomes]
    if unknown:
        rest.append("undefined" if unknown == len(cells) else f"{unknown} undefined")
    failed = bool(rest)
    for state, text in ((RUNNING, RUNNING), (WAITING, NOT_YET)):
        n = sum(cell.outcome == state for cell in cells)
        if n and (values or len(outcomes) > 1):
            rest.append(f"{n} {state}")
        elif n:
            rest.append(text)
    marks = {NOT_YET} if rest == [NOT_YET] else set()
    if not values:
        return Entry("; ".join(rest), outcomes, frozenset(marks))
    text = f"{fmean(values):.3f}"
    if len(values) > 1:
        text += f" ±{stdev(values):.3f}"
        marks.add("±")
    if failed:
        text = SURVIVORS + text
        marks.add(SURVIVORS)
    marks.add("n/N")
    tail = f": {'; '.join(rest)}" if rest else ""
    return Entry(f"{text} ({len(values)}/{len(cells)}{tail})", outcomes, frozenset(marks))


def totals(rows: Sequence[Row]) -> str:
    """One line: cells by outcome, how many are settled, and what they cost."""
    counts = Counter(row.outcome for row in rows)
    order = ("converged", *FAILED, RUNNING, WAITING)
    parts = [f"{counts[name]} {name}" for name in order if counts[name]]
    settled = sum(counts[name] for name in outcomes.SETTLED)
    text = f"{len(rows)} cells: {', '.join(parts)}; {settled} of {len(rows)} settled"
    gpu = sum(row.values.get("gpu_hours", 0.0) for row in rows)
    cpu = sum(row.values.get("train_hours", 0.0) * row.cpus for row in rows)
    if gpu > 0:
        return f"{text}; {gpu:.2f} GPU hours"
    return f"{text}; {cpu:.2f} CPU hours" if cpu > 0 else text


# ---------------------------------------------------------------- inside


def _notes(
    rows: Sequence[Row],
    arms: Mapping[Any, Sequence[Row]],
    body: Iterable[tuple[Any, Iterable[Entry]]],
    metric: str,
    judged: bool,
) -> list[str]:
    marks = frozenset[str]().union(*(entry.marks for _, line in body for entry in line))
    notes = []
    if "n/N" in marks:
        text = f"mean {metric} (n/N): n converged seeds of N planned"
        notes.append(text + ("; ± their standard deviation" if "±" in marks else ""))
    if SURVIVORS in marks:
        notes.append(
            f"{SURVIVORS} mean over the seeds that converged only: not comparable as it is"
        )
    legend = ((BASELINE, "baseline"), (NOT_YET, "waiting"), (NOT_PLANNED, "not planned"))
    if used := [f"{mark} {meaning}" for mark, meaning in legend if mark in marks]:
        notes.append("; ".join(used))
    fewest = min((len(cells) for cells in arms.values()), default=0)
    if 0 < fewest < 3 and not judged:
        notes.append(
            "caution: with one seed per arm nothing can be claimed"
            if fewest == 1
            else f"caution: with {fewest} seeds per arm only large differences can be told from "
            "noise; python -m dashboards.report has the intervals"
        )
    notes.append(totals(rows))
    return notes


def _failures(cells: Sequence[Row], outcome: str, metric: str) -> str:
    """All cells of one failing outcome, each with what tells about it: its step, or its mAP."""
    failed = [cell for cell in cells if cell.outcome == outcome]
    details: list[str] = []
    if outcome == "diverged":
        details = [str(cell.step) for cell in failed if cell.step is not None]
    elif outcome == "stalled":
        found = [value_of(cell, metric) for cell in failed]
        details = [f"{value:.3f}" for value in found if value is not None]
    mixed = len(failed) < len(cells)
    count = f"{len(failed)} " if mixed and len(failed) > 1 else ""
    if len(details) == len(failed):
        return f"{count}{outcome} {'@' if outcome == 'diverged' else ''}{', '.join(details)}"
    if len(failed) == 1 or mixed:
        return f"{count}{outcome}"
    return f"{outcome} ×{len(failed)}"


def value_of(cell: Scored, metric: str) -> float | None:
    """None for a metric that is absent or undefined (pycocotools says -1 when there is no such
    box)."""
    value = cell.metrics.get(metric, cell.values.get(metric))
    if value is None or not math.isfinite(value) or (metric in METRICS and value < 0):
        return None
    return value


def _position(axes: Mapping[str, Sequence[Any]]) -> Callable[[tuple[str, ...]], Any]:
    """Orders arms as the levels of `axes` are; a level that `axes` does not list comes last."""
    places = [{str(v): i for i, v in enumerate(levels)} for levels in axes.values()]

    def position(arm: tuple[str, ...]) -> Any:
        found = [place.get(level, len(place)) for place, level in zip(places, arm, strict=True)]
        unlisted = any(level not in place for place, level in zip(places, arm, strict=True))
        return unlisted, found

    return position


def _arm(levels: Mapping[str, Any], axes: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(levels[name]) if name in levels else "-" for name in axes)


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(str(value)))
    except ValueError:
        return False
