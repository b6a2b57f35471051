"""What the commands have in common: which sweep or cell is meant, how they answer, and how a
mistake ends."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from dashboards.store import LedgerError
from detcore.data.folder import DataError
from orchestrator.make_plan import make_plan
from orchestrator.plan import Plan
from orchestrator.spec import SweepError

EXIT_OK, EXIT_FAULTS, EXIT_MISTAKE, EXIT_DRAINED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


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


def print_text(text: str) -> None:
    """To standard output, at once; who read it (head, less) may have gone."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Python would try again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def speaker(screen: Console) -> Callable[[str], None]:
    """What shows a text on `screen` as it is: its brackets are no markup, its lines not folded."""
    return partial(screen.print, markup=False, soft_wrap=True)


def as_text(shown: RenderableType) -> str:
    """What rich would show, as plain text as wide as the screen."""
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get().rstrip()


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which sweep."""
    add = parser.add_argument
    add("sweep", type=Path, help="the sweep file, for example sweeps/norm_vs_batchsize.yaml")
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


def to_json(data: Any) -> str:
    """Standard JSON: what is no number there (NaN, infinity) is its name, a text."""
    return json.dumps(_plain(data), indent=1)


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    return data
