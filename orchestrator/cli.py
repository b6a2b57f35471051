"""What the commands have in common: which sweep or cell is meant, and how a mistake ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from dashboards.store import LedgerError
from detcore.data.folder import DataError
from orchestrator.answers import EXIT_MISTAKE, EXIT_OK
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.sweep.spec import SweepError


class CellError(ValueError):
    """The cell that was asked for is not known, or not one; one line."""


MISTAKES = (SweepError, DataError, LedgerError, CellError)
"""What a person can mend."""


def answered(work: Callable[[], None]) -> int:
    """Do `work`; the exit code. A mistake is one line on standard error, Ctrl-C ends
    without a word, and any other error is a bug that shows its traceback."""
    try:
        work()
    except KeyboardInterrupt:
        return EXIT_OK
    except ValueError as error:
        if not isinstance(error, MISTAKES):
            raise
        print(error, file=sys.stderr)
        return EXIT_MISTAKE
    return EXIT_OK


def add_sweep_arguments(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """The arguments that say which sweep; `optional`: a command that also works without one."""
    add = parser.add_argument
    about = "the sweep file, for example sweeps/norm_vs_batchsize.yaml"
    add("sweep", type=Path, nargs="?" if optional else None, help=about)
    add("--profile", help="a profile of the sweep file, for example coco")
    add("--data", type=Path, metavar="DIR", help="train on this COCO-format folder instead")
    add("--set", action="append", default=[], metavar="a.b=c", help="change a setting; repeatable")
    add(
        "--only",
        metavar="EXPR",
        help="only these cells, e.g. \"norm == 'gn' and batch_per_gpu <= 2\"",
    )


def plan_of(args: argparse.Namespace, need_data: bool) -> Plan:
    """The plan that the arguments of `add_sweep_arguments` ask for."""
    return make_plan(
        args.sweep,
        profile=args.profile,
        data=args.data,
        overrides=args.set,
        only=args.only,
        need_data=need_data,
    )


def add_cell_arguments(parser: argparse.ArgumentParser) -> None:
    """Which cell; a label need not be quoted."""
    parser.add_argument(
        "cell",
        nargs="+",
        metavar="CELL",
        help="an id or the beginning of one, a label (norm=gn seed=0), or an MLflow run id",
    )
