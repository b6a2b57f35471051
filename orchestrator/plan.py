"""What a sweep comes to: its cells with their ids, and which of them have settled already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detcore.config import CODE_VERSION, Config, to_dict
from detcore.data.folder import DataError
from orchestrator.absent import add_fingerprints, check_images
from orchestrator.cautions import cautions
from orchestrator.differences import differences
from orchestrator.expand import Cell, expansion, filter_cells
from orchestrator.gang import TRAIN, Job
from orchestrator.identity import Texts, arm_key, cell_id
from orchestrator.plan_text import headline, plan_text
from orchestrator.protocol import protocol
from orchestrator.rules import Excluded
from orchestrator.seeds import further_json, further_notes
from orchestrator.spec import Sweep, load_sweep
from orchestrator.summary import aliases_json, blocks_json, excluded_json, excluded_text
from orchestrator.table import REPORT, Row, Table, make_table, totals
from orchestrator.tune import Group, Tune
from orchestrator.tuning import Choice, choose, chosen_of, tuning_axes, tuning_json, tuning_notes
from orchestrator.workload import workload_of

if TYPE_CHECKING:
    from orchestrator.runs import CellInfo, Settled


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
        named = tuple(_named([*expanded.cells, *expanded.more], prints, tune, made))
        everything, more = named[: len(expanded.cells)], named[len(expanded.cells) :]
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
        from orchestrator.runs import CellInfo

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
    planned = {id(p.cell): p for p in _named(every, known, sweep.tune)}
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


def _named(
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
    from orchestrator.replicates import grown  # scipy takes a second to import

    return grown(plan)


def table_of(plan: Plan, rows: Sequence[Row]) -> Table:
    """The ablation table of a plan's cells; of tuning cells, the table of their scores."""
    sweep, metric = plan.sweep, plan.sweep.metric.name
    if sweep.tune and plan.is_tuning:
        scored = make_table(rows, plan.axes, sweep.tune.select_on, title=f"{sweep.name}: tuning")
        return replace(scored, notes=(totals(rows),))
    scores = sweep.reference.scores(metric)
    judged = bool(plan.more)
    table = make_table(rows, plan.axes, metric, sweep.baseline, sweep.name, scores, judged)
    notes = [*table.notes, *tuning_notes(plan), *excluded_text(plan.excluded, sweep.baseline)]
    if plan.more:
        from orchestrator.replicates import ends_of, table_notes

        notes += table_notes(plan, ends_of({row.id: row for row in rows}, metric))
    if scores:
        if REPORT not in table.columns:
            arms = (f"{' '.join(arm)} {score}" for arm, score in scores.items())
            notes.append(f"{REPORT}: {'; '.join(arms)}")
        notes.append(
            f"{REPORT} = {sweep.reference.source}; compare only where data and rules match"
        )
    return replace(table, notes=tuple(notes))


def _variant(profile: str | None, data: Path | None, overrides: Sequence[str]) -> str:
    content = [profile, str(data.resolve()) if data else None, list(overrides)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]
