"""A start of a sweep: the order of events once it is known what is to be trained.

Without `tune` there is one stage: the cells that are missing, and the further seeds that their
results ask for. With `tune` the cells that choose values come first; then the others have their
ids. Ray and the gangs stay up from the one to the other.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from rich.console import Console

from orchestrator.answers import print_text, speaker
from orchestrator.planning.confirm import confirm
from orchestrator.planning.outlook import ask_first
from orchestrator.planning.plan import Plan, with_further_seeds
from orchestrator.planning.preflight import check_effects
from orchestrator.running.again import again_of, choose, fresh_question, left_line, start_over
from orchestrator.running.control import Control
from orchestrator.running.ground import Ground
from orchestrator.running.lock import hold_cells
from orchestrator.running.publish import publish
from orchestrator.running.recorder import Recorder
from orchestrator.running.recovery import close_orphans, store_unrecorded
from orchestrator.running.training import Ended, train
from orchestrator.sweep.budget import Spending, budget_of
from orchestrator.sweep.notify import event_of, notifying
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.provenance import process_began

MOST = 6  # conclusions on the terminal; the report has them all
PATIENCE_S, EVERY_S = 600, 5  # with a ledger that is away between two stages


def start_sweep(args: argparse.Namespace, plan: Plan, ledger: Ledger, screen: Console) -> int:
    """Train what `plan` lacks and print the table; the exit code. Raises the MISTAKES of cli.py and
    ClusterError."""
    say = speaker(screen)
    spending = Spending(budget_of(args, plan.sweep.budget))
    plan = plan.asked(ledger.settled)
    _confirm_fresh(args, plan, ledger)
    with (
        Ground(args.address, screen) as ground,
        notifying(plan.sweep.notify, plan.sweep.name, say) as ending,
        Control(
            plan.folder.parent, plan.sweep.name, [], say=say, arguments=args.arguments
        ) as control,
    ):
        ending.link = ledger.ui_command()
        start = _Start(args, ledger, screen, ground, spending, control)
        ending.outcomes = start.outcomes  # from now on, also for a start that ends by an error
        if plan.tuning and choose(plan.tuning, plan.tuning.settled, ledger, start.again).plan.todo:
            ended = start.stage(plan.tuning, plan)
            ended.is_last = False
            if not ended.is_cut:
                print_text(ended.recorder.report())
                start.wait_for_ledger()
                plan = plan.asked(ledger.settled)
                ended = start.stage(plan, plan)
        else:
            ended = start.stage(plan, plan)
        ending.event = event_of(ended.is_whole, ended.stopped, ended.aborted)
        ending.reason = ended.aborted
    print_text(ended.recorder.report())
    if ended.aborted:
        say(ended.aborted)
    if ended.stopped == "drained" and not ended.is_whole:
        say("drained: what waits was not started; the same command goes on")
    if ended.stopped == "budget" and not ended.is_whole:
        say(spending.line())
    if ended.recorder.stored and ended.is_last:
        root = plan.folder.parents[1]
        found = publish(ledger, ended.recorder.sweep_run, root, say)
        for conclusion in found[:MOST]:
            print_text(f"- {conclusion}")
        if more := found[MOST:]:
            print_text(f"- {len(more)} more: python -m dashboards.report {ledger.name}")
    return ended.code


def _confirm_fresh(args: argparse.Namespace, plan: Plan, ledger: Ledger) -> None:
    again = again_of(args)
    if again.fresh:
        parts = [part for part in (plan.tuning, plan) if part]
        replaced = [p for part in parts for p in choose(part, part.settled, ledger, again).replaced]
        if question := fresh_question(replaced):
            confirm(question, args.yes)


class _Start:
    """What the stages of one start have in common."""

    def __init__(
        self,
        args: argparse.Namespace,
        ledger: Ledger,
        screen: Console,
        ground: Ground,
        spending: Spending,
        control: Control,
    ) -> None:
        self.control = control
        self.args, self.ledger, self.screen, self.ground = args, ledger, screen, ground
        self.spending, self.again = spending, again_of(args)
        self.say = speaker(screen)
        self._opened = False
        self._recorder: Recorder | None = None

    def outcomes(self) -> list[str]:
        """Of the cells of the stage that ran last."""
        return [row.outcome for row in self._recorder.rows] if self._recorder else []

    def stage(self, plan: Plan, whole: Plan) -> Ended:
        """Run what is missing in `plan`, which is `whole` or its tuning. The ledger has just been
        asked about `whole`."""
        ledger, further = self.ledger, [p for p in plan.more if not p.waits]
        ids = [*plan.whole().ids, *(p.id for p in further)]
        chosen = choose(plan, plan.settled, ledger, self.again)
        further = [p for p in further if p.id not in plan.settled]
        held = [*plan.todo, *chosen.plan.todo, *further]
        with hold_cells(plan.folder.parent, {p.id: p.cell.label for p in held}):
            recovered = close_orphans(ledger, plan, self.screen)
            # again: until the cells were ours, another sweep may have settled some
            missing = plan.reconciled(ledger.settled(ids))
            if store_unrecorded(ledger, missing, self.screen):
                missing = plan.reconciled(ledger.settled(ids))
            chosen = choose(plan, missing.settled, ledger, self.again)
            plan = with_further_seeds(chosen.plan)
            all_ahead = self._with_tuning(whole, plan) if plan.is_tuning else plan
            self._say_what_is_to_come(all_ahead)
            self.control.add(plan.todo)
            self._check(all_ahead)
            for planned in chosen.anew:
                start_over(plan.folder / planned.id)
            began = None if self._recorder else process_began()  # told of the first stage
            recorder = Recorder(
                ledger,
                plan,
                self.screen,
                self.args.arguments,
                recovered.elsewhere,
                began=began,
            )
            self._recorder = recorder
            with recorder:
                if not plan.todo:
                    return Ended(recorder)
                cluster, gangs = self.ground.ready(all_ahead)
                return train(plan, recorder, self.control, cluster, gangs, self.spending)

    def _with_tuning(self, whole: Plan, tuning: Plan) -> Plan:
        """What this start has to do in both stages."""
        chosen = choose(whole, whole.settled, self.ledger, self.again)
        return replace(chosen.plan, tuning=tuning)

    def wait_for_ledger(self) -> None:
        """Between two stages: a ledger that is away for a while does not end a sweep that is half
        trained, nor does it hide what tuning came to."""
        give_up, silent = time.monotonic() + PATIENCE_S, True
        while not self.ledger.flush() and time.monotonic() < give_up:
            if silent:
                self.say("the next cells wait for MLflow, which does not have all results yet")
            silent = False
            time.sleep(EVERY_S)

    def _say_what_is_to_come(self, plan: Plan) -> None:
        self.say(plan.headline())
        if left := left_line(plan):
            self.say(left)
        if not self._opened:
            self.spending.before = ask_first(plan, self.spending.budget, self.args.yes)

    def _check(self, plan: Plan) -> None:
        """Before anything is trained, every arm is seen to take effect."""
        if not self._opened and (checked := check_effects(plan)):
            self.say(checked)
        self._opened = True
