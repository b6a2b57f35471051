"""Training what a plan lacks, once there are gangs for it; and how that ended."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

from rich.console import Console

from orchestrator.answers import EXIT_DRAINED, EXIT_FAULTS, EXIT_INTERRUPTED, EXIT_OK
from orchestrator.cluster.connect import Cluster
from orchestrator.cluster.gang import Job
from orchestrator.cluster.gangs import Gangs
from orchestrator.cluster.queue import Limits
from orchestrator.planning.plan import Plan
from orchestrator.running.campaign import Campaign
from orchestrator.running.control import Control
from orchestrator.running.gauges import Gauges
from orchestrator.running.ground import Ground
from orchestrator.running.recorder import Recorder
from orchestrator.running.tune_loop import run_cells
from orchestrator.sweep.budget import Spending, budget_of
from orchestrator.sweep.failure import Policy


@dataclass
class Ended:
    """How a stage ended. `stopped`: `drained` or `cancelled` by ctl, or `budget`; `aborted`: the
    message with which the policy for failures ended it."""

    recorder: Recorder
    stopped: str = ""
    aborted: str = ""
    is_last: bool = True

    @property
    def is_whole(self) -> bool:
        return self.is_last and self.recorder.all_settled and self.recorder.stored

    @property
    def is_cut(self) -> bool:
        """Whether the next stage is not begun."""
        return bool(self.aborted) or self.stopped in ("drained", "cancelled")

    @property
    def code(self) -> int:
        if self.is_whole:
            return EXIT_OK
        if self.aborted:
            return EXIT_FAULTS
        codes = {"drained": EXIT_DRAINED, "budget": EXIT_DRAINED, "cancelled": EXIT_INTERRUPTED}
        return codes.get(self.stopped, EXIT_FAULTS)


def train_alone(
    args: argparse.Namespace, plan: Plan, recorder: Recorder, control: Control, screen: Console
) -> None:
    """Train what is missing in a plan that is no sweep (`--smoke`, `--probe`), whatever it
    costs."""
    budget = replace(budget_of(args, plan.sweep.budget), gpu_hours=None)
    with Ground(args.address, screen) as ground:
        cluster, gangs = ground.ready(plan)
        train(plan, recorder, control, cluster, gangs, Spending(budget))


def train(
    plan: Plan,
    recorder: Recorder,
    control: Control,
    cluster: Cluster,
    gangs: Gangs,
    spending: Spending,
) -> Ended:
    """Train what is missing in `plan`, and the further seeds that its results ask for."""
    recorder.watching(cluster)
    budget = spending.budget
    earlier, spending.now = spending.before, recorder.gpu_hours
    campaign = Campaign(
        [plan.job(planned) for planned in plan.todo],
        recorder,
        gangs,
        Policy(plan.sweep.failure),
        control=control,
        limits=Limits(budget.max_concurrent, budget.max_gpus),
        more=_further(plan, recorder, control, spending),
        spent=lambda: spending.is_over,
    )
    recorder.every_tick(_telling(Gauges(plan.sweep.name), recorder, campaign))
    try:
        run_cells(campaign, plan.sweep.name)
    finally:
        recorder.every_tick(lambda: None)
        for gang in [gang for gang in gangs if gang.job]:
            gangs.drop(gang)  # before its cell is closed and free for others
        spending.before, spending.now = earlier + recorder.gpu_hours(), float
    stopped = control.stopped or ("budget" if campaign.out_of_budget else "")
    return Ended(recorder, stopped, campaign.policy.aborted or "")


def _telling(gauges: Gauges, recorder: Recorder, campaign: Campaign) -> Callable[[], None]:
    def tell() -> None:
        if not gauges.is_due():
            return
        try:
            gauges.tell(recorder.rows, len(campaign.queue), campaign.gangs)
        except Exception as error:  # a panel that lacks numbers ends no sweep
            recorder.message(f"no further metrics for Prometheus: {error}")
            recorder.every_tick(lambda: None)

    return tell


def _further(
    plan: Plan, recorder: Recorder, control: Control, spending: Spending
) -> Callable[[], list[Job]]:
    """What a campaign asks for further cells when it has none left."""
    if not plan.more:
        return list
    from orchestrator.planning.replicates import (  # scipy takes a second to import
        ends_of,
        replicates_of,
    )

    rule = replicates_of(plan, recorder.message)
    if rule is None:
        return list
    recorder.decided = rule.to_json

    def ask() -> list[Job]:
        ends = ends_of({row.id: row for row in recorder.rows}, plan.sweep.metric.name)
        cells = rule.next(ends, lambda more: spending.affords(recorder.costs(more)))
        recorder.add(rule.cells)
        control.add(cells)
        return [plan.job(planned) for planned in cells]

    return ask
