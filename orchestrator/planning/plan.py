"""What a sweep comes to: its cells with their ids, and which of them have settled already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detcore.config import CODE_VERSION, Config, to_dict
from orchestrator.cluster.gang import TRAIN, Job
from orchestrator.planning.cautions import cautions
from orchestrator.planning.plan_text import headline, plan_text
from orchestrator.planning.protocol import protocol
from orchestrator.planning.replicates import further_json
from orchestrator.planning.summary import aliases_json, blocks_json, excluded_json
from orchestrator.planning.tuning import Choice, choose, chosen_of, tuning_axes, tuning_json
from orchestrator.planning.workload import workload_of
from orchestrator.sweep.differences import differences
from orchestrator.sweep.expand import Cell, expansion
from orchestrator.sweep.identity import Texts, arm_key, cell_id
from orchestrator.sweep.rules import Excluded
from orchestrator.sweep.spec import Sweep
from orchestrator.sweep.tune import Group, Tune

if TYPE_CHECKING:
    from orchestrator.tracking.runs import CellInfo, Settled


@dataclass(frozen=True)
class Planned:
    """A cell, its content hash, and the fingerprint of the data it is trained on."""

    id: str
    cell: Cell
    fingerprint: str
    waits: bool = False  # for a choice of `tune`; until that is made, `id` is a stand-in


@dataclass(frozen=True)
class Plan:
    sweep: Sweep
    cells: tuple[Planned, ...]
    folder: Path  # one folder for each cell's files, named by its id
    settled: Mapping[str, Settled] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    everything: tuple[Planned, ...] = ()  # the cells of the whole sweep, also those `only` left out
    variant: str = ""  # equal for starts with the same profile, data and settings
    excluded: tuple[Excluded, ...] = ()  # arms of the design that a rule leaves out
    more: tuple[Planned, ...] = ()  # what arms may get while their verdict is open: replicates.py
    tuning: Plan | None = None  # the cells that choose the values of `tune`: they are run first
    choices: tuple[Choice, ...] = ()  # what these have chosen, for each group of arms
    left: Mapping[str, Settled] = field(default_factory=dict)  # faulted cells not run again

    @property
    def ids(self) -> list[str]:
        return [planned.id for planned in self.cells]

    @property
    def is_tuning(self) -> bool:
        """Whether its cells choose the values of `tune` for another plan."""
        return self.cells[0].cell.role == "tune"

    @property
    def todo(self) -> list[Planned]:
        """The cells to train, in the order of the plan; those that wait for a choice are not."""
        known = self.known
        return [p for p in self.cells if p.id not in known and not p.waits]

    @property
    def known(self) -> Mapping[str, Settled]:
        """How the cells ended that are not run: results, and faults that are left."""
        return {**self.left, **self.settled} if self.left else self.settled

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The levels that occur, in the order of the sweep file; then what stands in for one."""
        if self.sweep.tune and self.is_tuning:
            return tuning_axes(self.sweep.tune, [p.cell for p in self.cells])
        there = {name: {p.cell.axes[name] for p in self.cells} for name in self.cells[0].cell.axes}
        return {
            axis.name: [
                level.label
                for level in (*axis.levels, axis.absent, axis.unset)
                if level.label in there[axis.name]
                and (level in axis.levels or axis.when is not None)
            ]
            for axis in self.sweep.axes
        }

    def whole(self) -> Plan:
        """The plan without `only`. A cell that is left out and whose data are absent has an id that
        is not that of a real run."""
        tuning = self.tuning.whole() if self.tuning else None
        return replace(self, cells=self.everything or self.cells, tuning=tuning)

    def extended(self, cells: Iterable[Planned]) -> Plan:
        """The plan with those of `more` among `cells`, as far as it does not have them yet."""
        have = {*self.ids, *(p.id for p in self.everything)}
        new = tuple(p for p in cells if p.id not in have)
        whole = self.everything or self.cells
        return replace(self, cells=self.cells + new, everything=whole + new)

    def reconciled(self, settled: Mapping[str, Settled]) -> Plan:
        return replace(self, settled=settled)

    def asked(self, ask: Callable[[Iterable[str]], Mapping[str, Settled]]) -> Plan:
        """The plan as far as a ledger has it, whose `settled` is `ask`: what tuning has chosen,
        then what has settled. Raises SweepError as `tuned`."""
        plan = self.tuned(ask(self.tuning.whole().ids)) if self.tuning else self
        plan = plan.reconciled(ask([*plan.whole().ids, *(p.id for p in plan.more)]))
        return with_further_seeds(plan)

    def tuned(self, settled: Mapping[str, Settled]) -> Plan:
        """The plan with the values that the tuning cells in `settled` choose. Arms whose choice is
        made have their ids from here on, the others wait. Raises SweepError where two arms have
        become the same run by it."""
        tune = self.sweep.tune
        if tune is None or self.tuning is None:
            return self
        choices = choose(tune, [(p.id, p.cell) for p in self.tuning.whole().cells], settled)
        made = chosen_of(choices)
        prints = {p.cell.config.data.source: p.fingerprint for p in self.everything}
        expanded = expansion(self.sweep, made)
        planned = tuple(named([*expanded.cells, *expanded.more], prints, tune, made))
        everything, more = planned[: len(expanded.cells)], planned[len(expanded.cells) :]
        ours = {p.cell.label for p in self.cells}
        return replace(
            self,
            cells=tuple(p for p in everything if p.cell.label in ours),
            everything=everything,
            more=more,
            tuning=self.tuning.reconciled(settled),
            choices=choices,
            settled={},
        )

    def job(self, planned: Planned) -> Job:
        """The cell as its gang gets it: plain data."""
        cell = planned.cell
        return {
            "id": planned.id,
            "label": cell.label,
            "config": to_dict(cell.config),
            "folder": str(self.folder / planned.id),
            "entry": TRAIN,
            "ranks": cell.resources.workers,
            "cpus_per_worker": cell.resources.cpus_per_worker,
            "gpus_per_worker": cell.resources.gpus_per_worker,
            "hang_timeout_s": self.sweep.failure.hang_timeout_s,
            "max_hours": self.sweep.failure.max_hours,
            "baseline": cell.axes == self.sweep.baseline,
        }

    def info(self, planned: Planned) -> CellInfo:
        """The cell as the ledger records it."""
        from orchestrator.tracking.runs import CellInfo

        cell = planned.cell
        return CellInfo(
            id=planned.id,
            label=cell.label,
            axes=cell.axes,
            seed=cell.seed,
            ref=cell.ref,
            config=to_dict(cell.config),
            base_config=to_dict(self.sweep.base),
            resources=vars(cell.resources),
            role=cell.role,
            tuned=cell.tuned,
            provenance={
                "data.fingerprint": planned.fingerprint,
                "code.version": CODE_VERSION,
                "cell.arm": arm_key(cell.config),
                "cell.workload": workload_of(cell).to_tag(),
            },
        )

    def status(self, planned: Planned) -> str:
        """The outcome of a cell that is not run, else `waiting`."""
        return self.known[planned.id].outcome if planned.id in self.known else "waiting"

    def to_json(self) -> dict[str, Any]:
        return {
            "sweep": self.sweep.name,
            "question": self.sweep.question,
            "baseline": self.sweep.baseline,
            "axes": self.axes,
            "metric": dict(vars(self.sweep.metric)),
            **({"tunes": True} if self.is_tuning else {}),
            "cells": [
                {
                    "id": None if p.waits else p.id,
                    "label": p.cell.label,
                    "ref": p.cell.ref,
                    "axes": p.cell.axes,
                    "seed": p.cell.seed,
                    "resources": vars(p.cell.resources),
                    "status": self.status(p),
                    "differences": self.differences(p.cell),
                    "reference": row.to_json() if row else None,
                    "protocol": protocol(p.cell.config),
                }
                for p in self.cells
                for row in [self.sweep.reference.of(list(p.cell.axes.values()))]
            ],
            "reference": self.sweep.reference.source,
            "reference_protocol": dict(self.sweep.reference.protocol),
            "blocks": blocks_json(self.sweep.design, [p.cell for p in self.cells]),
            "excluded": excluded_json(self.excluded),
            "aliases": aliases_json(self.sweep.design, self.excluded),
            **({"tune": tuning_json(self)} if self.tuning else {}),
            **({"further": further_json(self.sweep.replicates, self.more)} if self.more else {}),
            "cautions": cautions([p.cell for p in self.cells], self.sweep),
            "failure": self.sweep.failure.to_json(),
        }

    @cached_property
    def baseline(self) -> Config:
        """The config that arms are compared with: the baseline arm's, or the base without it."""
        cells = (p.cell for p in self.everything or self.cells)
        arm = self.sweep.baseline
        return next((c.config for c in cells if c.axes == arm), self.sweep.base)

    def differences(self, cell: Cell) -> dict[str, str]:
        """In what a cell's arm differs from the baseline."""
        return differences(self.baseline, cell.config)

    def headline(self) -> str:
        return headline(self)

    def to_text(self) -> str:
        return plan_text(self)


def named(
    cells: Iterable[Cell],
    prints: Mapping[Any, str],
    tune: Tune | None,
    made: Collection[Group] = (),
) -> Iterator[Planned]:
    """`cells` with their ids; `prints` are the fingerprints of their sources. A cell whose group of
    arms has no choice `made` yet has a stand-in."""
    texts = Texts()
    for number, cell in enumerate(cells):
        print_ = prints[cell.config.data.source]
        if tune and cell.role == "report" and tune.group(cell.axes) not in made:
            yield Planned(f"waits-{number}", cell, print_, waits=True)
        else:
            yield Planned(cell_id(cell.config, print_, texts), cell, print_)


def with_further_seeds(plan: Plan) -> Plan:
    """The plan with the cells that its results ask for while a verdict is open."""
    if not plan.more:
        return plan
    from orchestrator.planning.replicates import grown  # scipy takes a second to import

    return grown(plan)
