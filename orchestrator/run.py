"""Run a sweep: expand it, see what has settled, train the rest, print the ablation table.

    python -m orchestrator.run SWEEP.yaml [--profile NAME] [--data DIR] [--set a.b=c]
                                          [--only EXPR] [--dry-run [--json]]
                                          [--retry-failed[=OUTCOMES]] [--fresh] [--smoke]

The same command again goes on where it stopped: what MLflow has as settled is not trained again.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from orchestrator.answers import EXIT_INTERRUPTED, EXIT_MISTAKE, EXIT_OK, print_text, speaker
from orchestrator.cli import MISTAKES, add_sweep_arguments, plan_of
from orchestrator.cluster.connect import ClusterError
from orchestrator.planning.outlook import dry_run
from orchestrator.planning.plan import Plan
from orchestrator.running.again import add_again_arguments, again_of, choose
from orchestrator.running.lock import alone
from orchestrator.sweep.budget import add_budget_arguments, budget_of

UI = "http://127.0.0.1:5000"  # where `mlflow ui` shows its pages


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    args.arguments = shlex.join(sys.argv[1:] if argv is None else argv)
    screen = Console(file=sys.stderr, highlight=False)
    handler = _Interrupt()
    previous = {number: signal.signal(number, handler) for number in _STOPPING}
    try:
        return _run(args, screen)
    except KeyboardInterrupt:
        screen.print(_interrupted(args.fresh))
        return EXIT_INTERRUPTED
    except ValueError as error:
        if not isinstance(error, (*MISTAKES, ClusterError)):
            raise
        print(error, file=sys.stderr)
        return EXIT_MISTAKE
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def _run(args: argparse.Namespace, screen: Console) -> int:
    plan = plan_of(args, need_data=not args.dry_run)
    # MLflow takes seconds to import: mistakes in the sweep come first
    from orchestrator.running.start import start_sweep
    from orchestrator.running.training import train_alone
    from orchestrator.tracking.ledger import open_ledger

    if args.dry_run or args.probe:
        ledger = open_ledger(plan.sweep.name, create=False)
        plan = plan.asked(ledger.settled)
        plan = choose(plan, plan.settled, ledger, again_of(args)).plan
        budget = budget_of(args, plan.sweep.budget)
        if args.probe:
            from orchestrator.running.probe import probe

            return probe(plan, budget, screen, partial(train_alone, args))
        print_text(dry_run(plan, budget, args.address, args.json))
        return EXIT_OK
    if args.smoke:
        from orchestrator.running.smoke import smoke

        return smoke(plan, screen, partial(train_alone, args))
    with alone(plan.folder.parent, plan.sweep.name):
        ledger = open_ledger(plan.sweep.name)
        say = ledger.say = speaker(screen)
        code = start_sweep(args, plan, ledger, screen)
        say(_next_commands(plan, ledger.ui_command(), ledger.experiment_id))
        return code


def _interrupted(fresh: bool) -> str:
    if fresh:  # the same command would train anew what this one has just trained
        return "Interrupted. What has settled is kept; the same command begins everything anew."
    return "Interrupted. What has settled is kept; the same command goes on from here."


def _next_commands(plan: Plan, browse: str, experiment: str) -> str:
    link = browse.startswith("http")  # else a command, which is copied as a whole line
    page = f"{UI}/#/experiments/{experiment}?workflowType=machine_learning"
    look = f"  open     {browse}" if link else f"  {browse}\n  then open {page}"
    return (
        "\nThe report (intervals, curves, failures), as a file, or live in a browser:\n"
        f"  python -m dashboards.report {shlex.quote(plan.sweep.name)} --out report.html\n"
        "  python -m dashboards.serve\n"
        f"Details of every cell in MLflow:\n{look}\n"
        f"Files of the cells (detections, logs, checkpoints):\n  {plan.folder}\n"
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.run",
        description="Run a sweep and print its ablation table. What has settled is not run again.",
        epilog="Exit codes: 0 every cell settled (a diverged cell is a result), 1 some cells "
        "faulted or MLflow could not store a result, 2 a mistake in the sweep file or the "
        "arguments, 3 drained (the same command goes on), 130 interrupted or cancelled.",
    )
    add = parser.add_argument
    add_sweep_arguments(parser)
    add(
        "--dry-run",
        action="store_true",
        help="show the cells and what is left to do; start nothing",
    )
    add("--json", action="store_true", help="with --dry-run: JSON on standard output, nothing else")
    add(
        "--smoke",
        action="store_true",
        help="two steps of every arm, one seed, in a store of their own; says which arms work",
    )
    add(
        "--probe",
        action="store_true",
        help="train a short cell of every kind whose cost is not known, then show the plan",
    )
    add_again_arguments(parser)
    add("--yes", "-y", action="store_true", help="do not ask before a start that costs or replaces")
    add_budget_arguments(parser)
    add(
        "--address",
        metavar="HOST:PORT",
        help="a running Ray cluster (default: RAY_ADDRESS, else this machine)",
    )
    args = parser.parse_args(argv)
    if args.json and not args.dry_run:
        parser.error("--json goes with --dry-run")
    if args.smoke and (args.dry_run or args.fresh or args.retry_failed):
        parser.error("--smoke goes without --dry-run, --fresh and --retry-failed")
    if args.probe and (args.dry_run or args.smoke):
        parser.error("--probe goes without --smoke and --dry-run; it ends with what that shows")
    return args


_STOPPING = (signal.SIGINT, signal.SIGTERM)


class _Interrupt:
    """The first Ctrl-C or SIGTERM stops the sweep. Impatient further ones must not break the
    clean-up that it starts; only when that takes long do they count again."""

    PATIENCE_S = 20.0

    def __init__(self) -> None:
        self.last = -self.PATIENCE_S

    def __call__(self, signum: int, frame: object) -> None:
        now = time.monotonic()
        if now - self.last >= self.PATIENCE_S:
            self.last = now
            raise KeyboardInterrupt


if __name__ == "__main__":
    code = main()
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)  # all is said and done; only Python's goodbye is left
    raise SystemExit(code)
