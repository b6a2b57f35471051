"""Which values of the nuisance parameters are chosen, and what a plan and a table say of it. Pure
functions: a choice follows from the results of the tuning cells alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.sweep.axes import Label, text_of
from orchestrator.sweep.expand import Cell
from orchestrator.sweep.tune import Group, Tune, Values

LATER = "after tuning"
"""Stands where a cell that waits for a choice will have its id."""

if TYPE_CHECKING:
    from orchestrator.planning.plan import Plan
    from orchestrator.tracking.runs import Settled


@dataclass(frozen=True)
class Candidate:
    """A tuning cell and what came of it; `score` is None where it did not converge."""

    id: str
    label: str
    values: Values
    outcome: str = ""  # empty: it has not settled
    score: float | None = None


@dataclass(frozen=True)
class Choice:
    """The values that a group of arms is compared with.

    `values` is None until all candidates have settled: a choice among those that happened to finish
    would not be one with an equal budget. `failed`: none converged, and `values` are the default.
    `edges` are the parameters whose best candidate is the first or the last of its list.
    """

    group: Group
    axes: Mapping[str, Label]  # the levels of `per`
    candidates: tuple[Candidate, ...]
    values: Values | None = None
    failed: bool = False
    edges: tuple[str, ...] = ()


def choose(
    tune: Tune, cells: Iterable[tuple[str, Cell]], settled: Mapping[str, Settled]
) -> tuple[Choice, ...]:
    """The choice of each group of tuning `cells` (with their ids).

    The best score decides. Equal scores go to the value nearest the default, counted in places of
    the list of candidates, and of two as near to the smaller.
    """
    groups: dict[Group, list[tuple[str, Cell]]] = {}
    for id_, cell in cells:
        groups.setdefault(tune.group(cell.axes), []).append((id_, cell))
    return tuple(_choice(tune, group, members, settled) for group, members in groups.items())


def _choice(
    tune: Tune, group: Group, members: Sequence[tuple[str, Cell]], settled: Mapping[str, Settled]
) -> Choice:
    tried = tuple(_candidate(tune, id_, cell, settled.get(id_)) for id_, cell in members)
    axes = {name: members[0][1].axes[name] for name in tune.per}
    if any(not candidate.outcome for candidate in tried):
        return Choice(group, axes, tried)
    scored = [(c.score, c.values) for c in tried if c.score is not None]
    if not scored:
        return Choice(group, axes, tried, tune.default, failed=True)
    sign = 1 if tune.goal == "max" else -1
    _, best = min(
        scored, key=lambda s: (-sign * s[0], _places_off(tune, s[1]), list(s[1].values()))
    )
    edges = [
        name for name, values in tune.nuisance.items() if best[name] in (values[0], values[-1])
    ]
    return Choice(group, axes, tried, best, edges=tuple(edges))


def _candidate(tune: Tune, id_: str, cell: Cell, result: Settled | None) -> Candidate:
    if result is None:
        return Candidate(id_, cell.label, cell.tuned)
    value = result.metrics.get(tune.select_on, -1.0)  # pycocotools says -1 where it is undefined
    counts = result.outcome == "converged" and math.isfinite(value) and value >= 0
    return Candidate(id_, cell.label, cell.tuned, result.outcome, value if counts else None)


def _places_off(tune: Tune, values: Values) -> int:
    return sum(
        abs(candidates.index(values[name]) - candidates.index(tune.default[name]))
        for name, candidates in tune.nuisance.items()
    )


def chosen_of(choices: Iterable[Choice]) -> dict[Group, Values]:
    return {choice.group: choice.values for choice in choices if choice.values is not None}


# ---------------------------------------------------------------- what is said of it


def tuning_axes(tune: Tune, cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """What a table of tuning `cells` has in its rows and columns: `per`, then the candidates."""
    levels = {name: list(dict.fromkeys(cell.axes[name] for cell in cells)) for name in tune.per}
    return levels | {name: list(values) for name, values in tune.nuisance.items()}


def tuning_json(plan: Plan) -> dict[str, Any]:
    """How each value is chosen: the tuning cells of `plan`, which has some, and their scores."""
    tune, tuning = plan.sweep.tune, plan.tuning
    assert tune is not None
    assert tuning is not None
    return {
        "nuisance": {name: list(values) for name, values in tune.nuisance.items()},
        "default": dict(tune.default),
        "per": list(tune.per),
        **({"steps": tune.steps} if tune.steps else {"share": tune.share}),
        "seed": tune.seed,
        "select_on": tune.select_on,
        "goal": tune.goal,
        "holdout": tune.holdout,
        "cells": [
            {"id": p.id, "label": p.cell.label, "status": tuning.status(p)} for p in tuning.cells
        ],
        "groups": [
            {
                "axes": dict(choice.axes),
                "values": dict(choice.values) if choice.values is not None else None,
                "failed": choice.failed,
                "edges": list(choice.edges),
                "candidates": [
                    {
                        "id": c.id,
                        "label": c.label,
                        "values": dict(c.values),
                        "outcome": c.outcome or None,
                        "score": c.score,
                    }
                    for c in choice.candidates
                ],
            }
            for choice in choices_of(plan)
        ],
    }


def choices_of(plan: Plan) -> list[Choice]:
    """Those of the arms that `plan` has."""
    tune = plan.sweep.tune
    groups = {tune.group(p.cell.axes) for p in plan.cells} if tune else set()
    return [choice for choice in plan.choices if choice.group in groups]


def tuning_headline(plan: Plan) -> str:
    """`48 tuning cells first (16 groups of arms): 0 settled before, 48 to run`; empty without."""
    if plan.tuning is None:
        return ""
    cells, todo = len(plan.tuning.cells), len(plan.tuning.todo)
    return (
        f"{cells} tuning cells first ({len(choices_of(plan))} groups of arms): "
        f"{cells - todo} settled before, {todo} to run\n"
    )


def tuning_text(plan: Plan) -> list[str]:
    """The tuning cells with their ids and how they stand, for a plan; nothing without tuning."""
    if plan.tuning is None:
        return []
    planned = {p.id: p for p in plan.tuning.cells}
    lines = ["Tuning cells, which are run first:"]
    for choice in choices_of(plan):
        arm = " ".join(f"{name}={text_of(level)}" for name, level in choice.axes.items())
        steps = planned[choice.candidates[0].id].cell.config.train.steps
        cells = (
            " ".join(f"{name}={value:.12g}" for name, value in c.values.items())
            + f" {c.id} {plan.tuning.status(planned[c.id])}"
            for c in choice.candidates
        )
        lines += [f"  {arm}", f"      {steps} steps; {', '.join(cells)}"]
    return [*lines, *tuning_notes(plan)]


def tuning_notes(plan: Plan) -> list[str]:
    """What stands under the table; nothing without tuning."""
    tune, choices = plan.sweep.tune, choices_of(plan)
    if tune is None or plan.tuning is None:
        return []
    names = ", ".join(tune.nuisance)
    count = len(tune.candidates())
    budget = f"{tune.steps} steps" if tune.steps else f"{_percent(tune.share)} of the steps"
    made = [c for c in choices if c.values is not None]
    listed = "; ".join(f"{_group(choice)} -> {_values(choice.values)}" for choice in made)
    notes = [
        f"{names} tuned over {count} values per {' × '.join(tune.per)}, each with {budget} under "
        f"seed {tune.seed}, by {tune.select_on} on held-out training images "
        f"({_percent(tune.holdout)}){': ' if made else ''}{listed}"
    ]
    if open_ := [choice for choice in choices if choice.values is None]:
        settled = sum(bool(c.outcome) for choice in open_ for c in choice.candidates)
        several = "" if len(open_) == 1 else "s"
        notes.append(
            f"{len(open_)} group{several} of arms wait{'s' * (not several)} for {names}: "
            f"{settled} of {len(open_) * count} tuning cells have settled"
        )
    for name in tune.nuisance:
        if edge := [f"{_group(c)} ({_values(c.values)})" for c in made if name in c.edges]:
            notes.append(
                f"caution: the best {name} is at the edge of its list for {', '.join(edge)}: widen "
                "the list"
            )
    if failed := [_group(choice) for choice in choices if choice.failed]:
        notes.append(
            f"caution: no value of {names} converged for {', '.join(failed)}: the default "
            f"{_values(tune.default)} stands there"
        )
    if apart := [
        name for name, levels in plan.axes.items() if name not in tune.per and len(levels) > 1
    ]:
        notes.append(
            f"caution: {names} was not tuned per {', '.join(apart)}: levels of these that want "
            "another value are at a disadvantage"
        )
    return notes


def _group(choice: Choice) -> str:
    return ",".join(choice.group)


def _values(values: Values | None) -> str:
    return "?" if values is None else ",".join(f"{value:.12g}" for value in values.values())


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
