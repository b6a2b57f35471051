"""Which cells a start runs: those without a result, less the faults that would only come again, and
those that the user asks for anew (`--retry-failed`, `--fresh`)."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dashboards.outcomes import FAULTS, SETTLED
from orchestrator.planning.plan import Plan, Planned
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.runs import Settled
from orchestrator.wording import count

LEFT = ("oom",)
"""Faults that are not run again unasked: the same batch runs out of the same memory."""

BEFORE = "before"
"""The folder in a cell's folder with the files of the result before this one."""


@dataclass(frozen=True)
class Again:
    """What is run again although it was run before. `outcomes`: those that `--retry-failed` names,
    faults as well as results; `fresh`: everything that was chosen."""

    outcomes: frozenset[str] = frozenset()
    fresh: bool = False


@dataclass(frozen=True)
class Choice:
    """`plan`, whose `todo` is what this start runs, and of it the cells that begin at step 0
    whatever lies in their folders: they had a result (`replaced`), or `--fresh` says so."""

    plan: Plan
    anew: tuple[Planned, ...]
    replaced: tuple[Planned, ...]


def choose(plan: Plan, settled: Mapping[str, Settled], ledger: Ledger, again: Again) -> Choice:
    """What of `plan` is run, by what is on record. `settled` is what `ledger` has just told of the
    whole sweep's cells."""
    faults = ledger.newest_faults(plan.ids)
    mine = [p for p in plan.cells if p.id in settled]
    replaced = [p for p in mine if again.fresh or settled[p.id].outcome in again.outcomes]
    gone = {p.id for p in replaced}
    left = {
        id: fault
        for id, fault in faults.items()
        if id not in settled
        and fault.outcome in LEFT
        and not (again.fresh or fault.outcome in again.outcomes)
    }
    kept = {id: result for id, result in settled.items() if id not in gone}
    plan = replace(plan, settled=kept, left=left)
    return Choice(plan, tuple(plan.todo if again.fresh else replaced), tuple(replaced))


def left_line(plan: Plan) -> str:
    """One line on the cells that are left as they ended; empty when there are none."""
    cells = [p.cell.label for p in plan.cells if p.id in plan.left]
    if not cells:
        return ""
    names = f"{', '.join(cells[:3])}{', ...' if cells[3:] else ''}"
    return (
        f"{count(len(cells), 'cell')} ran out of memory before and would again ({names}); "
        "--retry-failed=oom runs what is left"
    )


def start_over(folder: Path) -> None:
    """Make the next attempt at the cell of `folder` begin at step 0: what lies there goes into
    `before/`, where it takes the place of what the start over before left."""
    if not folder.is_dir():
        return
    files = [file for file in folder.iterdir() if file.name != BEFORE]
    if not files:
        return
    before = folder / BEFORE
    if before.exists():
        shutil.rmtree(before)
    before.mkdir()
    # the checkpoint first: without it, a start that is cut off here has begun anew
    for file in sorted(files, key=lambda file: file.name != "checkpoint.pt"):
        file.replace(before / file.name)


# ---------------------------------------------------------------- the arguments


def add_again_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--retry-failed",
        nargs="?",
        const=frozenset(FAULTS),
        default=frozenset(),
        type=_outcomes,
        metavar="OUTCOMES",
        help="run these again too: by default every fault, also oom, which is otherwise left; "
        "--retry-failed=diverged,stalled trains such results anew",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="reuse nothing: train every chosen cell anew, from step 0 (the newest result counts)",
    )


def again_of(args: argparse.Namespace) -> Again:
    return Again(args.retry_failed, args.fresh)


def fresh_question(replaced: Sequence[Planned]) -> str:
    """What `--fresh` asks; empty when it takes nothing away."""
    if not replaced:
        return ""
    if len(replaced) == 1:
        return "1 cell has a result, and --fresh trains it anew"
    return f"{len(replaced)} cells have results, and --fresh trains them anew"


def _outcomes(text: str) -> frozenset[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in (*FAULTS, *SETTLED):
            raise argparse.ArgumentTypeError(
                f"unknown outcome {name!r}; choices: {', '.join((*FAULTS, *SETTLED))} "
                "(several: --retry-failed=oom,diverged)"
            )
    return frozenset(names)
