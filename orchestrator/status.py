"""How a sweep stands: what has settled, what runs, and the table so far. Starts nothing.

    python -m orchestrator.status SWEEP.yaml [--profile NAME] [--data DIR] [--set a.b=c]
                                             [--only EXPR] [--watch] [--json]

Give it the arguments of the start that is meant: they decide which cells are looked for.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from dashboards.outcomes import FAULTS, SETTLED
from dashboards.store import LedgerError
from orchestrator.answers import as_text, print_text
from orchestrator.cli import add_sweep_arguments, answered, plan_of
from orchestrator.planning.plan import Plan
from orchestrator.planning.plan_table import table_of
from orchestrator.running.again import LEFT
from orchestrator.running.progress import REPORT, SHOWN, duration
from orchestrator.running.standing import Orchestrator, Status, look, steps_done
from orchestrator.tracking.attempts import Attempt, open_records
from orchestrator.tracking.render import to_rich
from orchestrator.tracking.table import RUNNING, WAITING, Row

REFRESH = 3.0  # seconds between two looks


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    return answered(lambda: _status(args))


def _status(args: argparse.Namespace) -> None:
    plan = plan_of(args, need_data=False)
    first = look(plan, open_records())
    if args.watch:
        _watch(plan, first, args.json)
    elif args.json:
        print_text(json.dumps(first.to_json(), indent=1))
    else:
        print_text(as_text(shown(first)))


def _watch(plan: Plan, first: Status, as_json: bool) -> None:
    """Look again until all has settled: on a terminal the picture is drawn anew, elsewhere (a log,
    a pipe) there is a line when something has changed, and the picture at the end. With `as_json`
    each look is a line of JSON."""
    console = Console(highlight=False)
    if as_json:
        for status in _looks(plan, first, lambda text: None):
            print_text(json.dumps(status.to_json()))
        return
    last = first
    if console.is_terminal:
        try:
            with Live(console=console, auto_refresh=False, transient=True) as live:
                for last in _looks(plan, first, lambda text: live.console.print(Text(text))):
                    live.update(shown(last), refresh=True)
        except KeyboardInterrupt:
            pass  # the last picture stays on the screen
    else:
        said, at = "", 0.0
        for last in _looks(plan, first, print_text):
            counts = headline(last).partition(";")[0]
            if counts != said or last.time - at >= REPORT:
                said, at = counts, last.time
                print_text(headline(last))
    print_text(as_text(shown(last)))


def _looks(plan: Plan, first: Status, say: Callable[[str], None]) -> Iterator[Status]:
    """Look every few seconds, until all has settled. A store that does not answer for a while is
    said once and waited for."""
    status, silent = first, False
    while True:
        if not silent:
            yield status
        if status.all_settled:
            return
        time.sleep(REFRESH)
        try:
            status, silent = look(plan, open_records()), False
        except LedgerError as error:
            if not silent:
                say(str(error))
            silent = True


# ---------------------------------------------------------------- what is shown


def shown(status: Status) -> RenderableType:
    """The whole picture. Names are text, never markup."""
    parts: list[RenderableType] = [
        Text(headline(status), style="bold"),
        Text(_orchestrator(status.orchestrator)),
    ]
    if status.tuning and not status.tuning.all_settled:
        parts += [Text(), *_tuning(status.tuning)]
    if status.running:
        parts += [Text(), _running(status)]
        if status.left.seconds is None:
            parts.append(Text(f"time left: not known ({status.left.basis})", style="dim"))
    faults = [row for row in status.rows if row.outcome in FAULTS]
    if faults:
        parts += [Text(), Text(f"faulted (a start of the sweep runs these again{_left(faults)}):")]
        parts += [Text(f"  {_fault(status, row)}") for row in faults[:SHOWN]]
    if faults[SHOWN:]:
        parts.append(Text(f"  and {len(faults) - SHOWN} more"))
    if status.disk:
        how_many = "1 result is" if len(status.disk) == 1 else f"{len(status.disk)} results are"
        text = f"{how_many} on disk and not in MLflow; the next start of the sweep stores them"
        parts += [Text(), Text(text)]
    parts.append(to_rich(table_of(status.plan, status.rows)))
    return Group(*parts, *(Text(note) for note in status.plan.notes))


def _tuning(tuning: Status) -> list[RenderableType]:
    """How far the tuning is, while it is not done: what it chooses, the other cells wait for."""
    parts: list[RenderableType] = [Text(f"tuning: {headline(tuning).partition(': ')[2]}")]
    if tuning.running:
        parts.append(_running(tuning))
    faults = [row for row in tuning.rows if row.outcome in FAULTS]
    return parts + [Text(f"  {_fault(tuning, row)}") for row in faults[:SHOWN]]


def headline(status: Status) -> str:
    """`small: 3 of 8 settled (2 converged, 1 diverged), 1 faulted (1 oom), 2 running, 2 waiting;
    about 7:40 left (from 3 finished cells, 2 at once)`"""
    counts = Counter(row.outcome for row in status.rows)
    settled, results = _part(counts, SETTLED)
    faulted, faults = _part(counts, FAULTS)
    text = f"{status.plan.sweep.name}: {settled} of {len(status.rows)} settled{results}"
    if faulted:
        text += f", {faulted} faulted{faults}"
    text += f", {counts[RUNNING]} running, {counts[WAITING]} waiting"
    if status.left.seconds is not None:
        text += f"; about {duration(status.left.seconds)} left ({status.left.basis})"
    return text


def _orchestrator(at_it: Orchestrator) -> str:
    who = f"process {at_it.pid} on {at_it.host}"
    told = f"; ctl: {at_it.control}" if at_it.control else ""
    other = "" if at_it.ours else f", with other settings: {at_it.arguments}"
    return {
        "alive": f"an orchestrator is at it ({who}{other}){told}",
        "elsewhere": f"marked as run by {who}{other}; whether that lives cannot be told from here",
        "gone": f"its orchestrator ({who}) has died; the same run command goes on from here",
        "none": "no orchestrator is at it",
    }[at_it.state]


def _running(status: Status) -> RenderableType:
    grid = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column("running", overflow="fold")
    for name in ("attempt", "step", "heard of", "time"):
        grid.add_column(name, justify="right", no_wrap=True)
    for planned, attempt in status.running[:SHOWN]:
        done, steps = steps_done(attempt), planned.cell.config.train.steps
        grid.add_row(
            Text(planned.cell.label + _elsewhere(attempt, status.plan)),
            str(attempt.number),
            "starting" if done is None else f"{done}/{steps}",
            f"{duration(status.time - attempt.sign_of_life)} ago",
            duration(status.time - attempt.began),
        )
    if status.running[SHOWN:]:
        grid.add_row(Text(f"and {len(status.running) - SHOWN} more"))
    return grid


def _elsewhere(attempt: Attempt, plan: Plan) -> str:
    """Sweeps share cells, and nobody here can tell whether another host lives."""
    notes = [f"in sweep {attempt.sweep}"] if attempt.sweep != plan.sweep.name else []
    if attempt.owner == "elsewhere":
        notes.append(f"on host {attempt.tags.get('orchestrator.host', '?')}")
    return f" ({', '.join(notes)})" if notes else ""


def _left(faults: Sequence[Row]) -> str:
    """What a start does not run again."""
    left = [name for name in LEFT if any(row.outcome == name for row in faults)]
    return f", but {', '.join(left)} only with --retry-failed" if left else ""


def _fault(status: Status, row: Row) -> str:
    number, reason = status.attempts[row.id].number, row.reason.partition("\n")[0]
    return f"{row.label}: {row.outcome} (attempt {number}): {reason}"


def _part(counts: Counter[str], kinds: Sequence[str]) -> tuple[int, str]:
    there = [f"{counts[kind]} {kind}" for kind in kinds if counts[kind]]
    return sum(counts[kind] for kind in kinds), f" ({', '.join(there)})" if there else ""


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.status",
        description="How a sweep stands: what has settled, what runs, the table so far.",
        epilog="Exit codes: 0 told, 2 a mistake in the sweep file or the arguments, or MLflow does "
        "not answer.",
    )
    add_sweep_arguments(parser)
    parser.add_argument("--watch", action="store_true", help="look again until all has settled")
    parser.add_argument("--json", action="store_true", help="for programs; with --watch, by lines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
