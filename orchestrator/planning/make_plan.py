"""From a sweep file and the arguments beside it to a plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detcore.data.folder import DataError
from orchestrator.planning.plan import Plan, named
from orchestrator.planning.replicates import further_notes
from orchestrator.planning.tuning import choose
from orchestrator.sweep.absent import add_fingerprints, check_images
from orchestrator.sweep.expand import Cell, expansion, filter_cells
from orchestrator.sweep.spec import load_sweep
from orchestrator.sweep.tune import Tune


def make_plan(
    file: Path,
    *,
    profile: str | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    only: str | None = None,
    need_data: bool = True,
    root: Path | None = None,
) -> Plan:
    """Read the sweep and hash its cells. Files of cells go below `root` (default: the working
    folder).

    Raises SweepError for mistakes in the file or the arguments and DataError when the data are not
    there; with `need_data=False` absent data are noted in the plan instead, and the ids are then
    not those of the real run.
    """
    sweep = load_sweep(file, profile=profile, overrides=overrides, data=data)
    expanded = expansion(sweep)
    everything = expanded.cells
    chosen = everything if only is None else filter_cells(everything, only)
    first = _first(sweep.tune, expanded.tuning, chosen)
    known: dict[Any, str] = {}
    by_hand = data is not None  # then it must be there, also for a dry run
    try:
        notes = add_fingerprints([*first, *chosen], need_data or by_hand, known)
    except DataError as error:
        raise DataError(f"{error}{'' if by_hand else '; name yours with --data DIR'}") from None
    notes += check_images([*first, *chosen], need_data, known)
    notes += further_notes(sweep.replicates, len(expanded.more), sweep.metric.min_effect)
    every = [*everything, *expanded.more, *expanded.tuning]
    add_fingerprints(every, False, known)
    planned = {id(p.cell): p for p in named(every, known, sweep.tune)}
    plan = Plan(
        sweep,
        tuple(planned[id(c)] for c in chosen),
        (root or Path.cwd()).resolve() / "mlruns" / "cells",
        notes=tuple(notes),
        everything=tuple(planned[id(c)] for c in everything),
        variant=_variant(profile, data, overrides),
        excluded=tuple(expanded.excluded),
        more=tuple(planned[id(c)] for c in expanded.more),
    )
    if sweep.tune is None:
        return plan
    cells, whole = (tuple(planned[id(c)] for c in part) for part in (first, expanded.tuning))
    tuning = replace(plan, cells=cells, everything=whole, excluded=(), more=())
    choices = choose(sweep.tune, [(p.id, p.cell) for p in whole], {})
    return replace(plan, tuning=tuning, choices=choices)


def _first(tune: Tune | None, tuning: Iterable[Cell], chosen: Iterable[Cell]) -> list[Cell]:
    """The cells that tune the arms of `chosen`."""
    if tune is None:
        return []
    groups = {tune.group(cell.axes) for cell in chosen}
    return [cell for cell in tuning if tune.group(cell.axes) in groups]


def _variant(profile: str | None, data: Path | None, overrides: Sequence[str]) -> str:
    content = [profile, str(data.resolve()) if data else None, list(overrides)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]
