"""The rule of `rounds` for a plan: which cells a run engine starts next, what a plan takes in, and
what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dashboards.inference import LEVEL, MISS
from dashboards.outcomes import FAULTS, SETTLED
from orchestrator.planning.rounds import Arm, Decision, End, Replay, Study, replay
from orchestrator.sweep.seeds import Seeds
from orchestrator.tracking.table import Scored, value_of

if TYPE_CHECKING:
    from orchestrator.planning.plan import Plan, Planned


class Replicates:
    """The rule as a run engine uses it: the cells of `plan`, then `next(results)` whenever a cell
    has ended.

    `plan` has its ids (nothing waits for tuning) and is whole. `say` gets each decision as a line.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None] = lambda line: None) -> None:
        self._study = study_of(plan)
        self._planned = {p.id: p for p in (*plan.cells, *plan.more)}
        self._say = say
        self._given = {p.id for p in plan.cells}
        self._replay = Replay(due=[p.id for p in plan.cells])
        self.ended = ""  # why no further round is begun although arms are open

    def next(
        self,
        results: Mapping[str, End],
        affords: Callable[[Sequence[Planned]], bool] = lambda cells: True,
    ) -> list[Planned]:
        """The cells to run that were not given before; empty while a round goes on, and at the end.

        `affords` says of the missing cells of a new round whether the budget has room for all of
        them: a part of a round decides nothing, so that none of it is run.
        """
        before = len(self._replay.decisions)
        found = replay(self._study, results)
        for decision in found.decisions[before:]:
            self._say(decision.line())
        self._replay = found
        fresh = [self._planned[id_] for id_ in found.due if id_ not in self._given]
        missing = [p for p in fresh if p.id not in results]
        if missing and not affords(missing):
            self.ended = f"the budget has no room for {len(missing)} further cells"
            self._say(f"no further seeds: {self.ended}")
            self._replay.due = [id_ for id_ in found.due if id_ in self._given]
            return []
        self.ended = ""
        self._given |= {p.id for p in fresh}
        return missing

    @property
    def decisions(self) -> list[Decision]:
        return list(self._replay.decisions)

    @property
    def cells(self) -> list[Planned]:
        """All that has been asked for: what a table of the sweep shows."""
        return [self._planned[id_] for id_ in self._replay.due]

    def to_json(self) -> dict[str, Any]:
        """The content of `decisions.json`, an artifact of the sweep's run."""
        study, levels = self._study, self._study.levels()
        return {
            "baseline": study.baseline.label,
            "goal": study.goal,
            "min_effect": study.min_effect,
            "seeds": list(study.seeds.listed),
            "further_seeds": list(study.seeds.more),
            "looks": [n for n in study.seeds.looks if n > 1],
            "level": LEVEL,
            "level_at_each_look": levels.level,
            "miss": MISS,
            "miss_at_each_look": levels.miss,
            "complete": self._replay.complete,
            "ended": self.ended,
            "decisions": [asdict(decision) for decision in self._replay.decisions],
        }


# ---------------------------------------------------------------- plans


def study_of(plan: Plan) -> Study:
    """The study of a whole plan whose sweep may extend its seeds."""
    sweep = plan.sweep
    assert sweep.replicates.more
    cells: dict[str, dict[int, str]] = {}
    listed: dict[str, set[int]] = {}
    baseline = ""
    for p in plan.whole().cells:
        if p.cell.seed in sweep.seeds:
            listed.setdefault(p.cell.arm_label, set()).add(p.cell.seed)
    for p in (*plan.whole().cells, *plan.more):
        cells.setdefault(p.cell.arm_label, {})[p.cell.seed] = p.id
        if p.cell.axes == sweep.baseline:
            baseline = p.cell.arm_label
    arms = {label: Arm(label, cells[label], frozenset(seeds)) for label, seeds in listed.items()}
    return Study(
        arms[baseline],
        tuple(arm for label, arm in arms.items() if label != baseline),
        sweep.replicates,
        sweep.metric.goal,
        sweep.metric.min_effect,
        sweep.metric.variances,
    )


def ends_of(cells: Mapping[str, Scored], metric: str) -> dict[str, End]:
    """From what a ledger or a table has of cells (by id), those that have ended."""
    return {
        id_: End(cell.outcome, value_of(cell, metric))
        for id_, cell in cells.items()
        if cell.outcome in (*SETTLED, *FAULTS)
    }


def replicates_of(plan: Plan, say: Callable[[str], None] = lambda line: None) -> Replicates | None:
    """The rule for `plan`. None where its seeds are not extended, where `only` leaves out a part (a
    part of a round decides nothing), and while arms wait for tuning."""
    part = len(plan.cells) != len(plan.whole().cells) or any(p.waits for p in plan.cells)
    return Replicates(plan, say) if plan.more and not part else None


def grown(plan: Plan) -> Plan:
    """`plan`, reconciled with a ledger, with the further cells that its results ask for."""
    rule = replicates_of(plan)
    if rule is None:
        return plan
    rule.next(ends_of(plan.known, plan.sweep.metric.name))
    return plan.extended(rule.cells)


def table_notes(plan: Plan, results: Mapping[str, End]) -> list[str]:
    """What a table says of the seeds that were added: how many cells, and where each arm stands."""
    study = study_of(plan)
    found = replay(study, results)
    last = {decision.arm: decision for decision in found.decisions}
    run = len(found.due) - sum(len(arm.listed) for arm in (study.baseline, *study.arms))
    open_ = "" if found.complete else "; this round has not ended"
    return [
        f"further seeds while a verdict is open: {run} of at most {len(plan.more)} cells{open_}; "
        f"intervals hold at {1 - LEVEL:.0%} for all arms and looks together",
        *(f"  {decision.line()}" for decision in last.values()),
    ]


def further_notes(seeds: Seeds, cells: int, min_effect: float | None) -> list[str]:
    """What a plan says of the seeds that arms may get; `cells` are the most that may come."""
    if not seeds.more:
        return []
    rounds = f"{seeds.by} a round" if seeds.by > 1 else "one a round"
    text = (
        f"while its verdict is open an arm gets further seeds, {rounds} and with the baseline, up "
        f"to {seeds.looks[-1]} seeds: at most {cells} more cells"
    )
    if min_effect is None:
        text += "; without metric.min_effect an arm that equals the baseline gets them all"
    return [text]


def further_json(seeds: Seeds, cells: Sequence[Planned]) -> dict[str, Any]:
    """For `--json`: the seeds, and the cells that may come, with the ids that they would have."""
    return {
        "seeds": list(seeds.more),
        "by": seeds.by,
        "cells": [
            {"id": None if p.waits else p.id, "label": p.cell.label, "seed": p.cell.seed}
            for p in cells
        ],
    }
