"""`--probe`: a short cell of every workload that no past cell tells the cost of, as a sweep of its
own in the same store; then the plan, which is told from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from orchestrator.answers import EXIT_FAULTS, EXIT_OK, print_text, speaker
from orchestrator.planning.outlook import look_ahead
from orchestrator.planning.plan import Plan, Planned
from orchestrator.planning.preflight import check_effects
from orchestrator.planning.shortened import shortened
from orchestrator.planning.workload import workload_of
from orchestrator.running.control import Control
from orchestrator.running.lock import alone, hold_cells
from orchestrator.running.recorder import Recorder
from orchestrator.sweep.budget import Budget
from orchestrator.sweep.identity import Texts, cell_id

STEPS = 50
"""At most so many: enough for the slow first ones to matter little."""

Train = Callable[[Plan, Recorder, Control, Console], object]


def probe(plan: Plan, budget: Budget, screen: Console, train: Train) -> int:
    """Measure what `plan`, reconciled with the ledger, is not known to cost, and print it; the exit
    code, 1 if a cell faulted. `train` trains what is missing in a plan."""
    from orchestrator.tracking.ledger import open_ledger

    say = speaker(screen)
    ahead = look_ahead(plan, budget)
    unknown = set(ahead.forecast.unknown)
    short = probe_plan(plan, [p for p in ahead.cells if p.id in unknown])
    place, all_settled = plan.folder.parent, True
    if short.cells:
        with alone(place, short.sweep.name):
            ledger = open_ledger(short.sweep.name)
            ledger.say = say
            short = short.reconciled(ledger.settled(short.ids))
            labels = {p.id: p.cell.label for p in short.todo}
            say(short.headline())
            if checked := check_effects(plan):
                say(checked)
            with (
                hold_cells(place, labels),
                Control(place, short.sweep.name, short.todo, say=say) as control,
                Recorder(ledger, short, screen) as recorder,
            ):
                train(short, recorder, control, screen)
            all_settled = recorder.all_settled
    print_text(look_ahead(plan, budget).to_text())
    return EXIT_OK if all_settled else EXIT_FAULTS


def probe_plan(plan: Plan, unknown: list[Planned]) -> Plan:
    """One short cell of every workload of `unknown`: the same training and one evaluation on the
    whole of its data, with fewer steps."""
    texts = Texts()
    firsts: dict[object, Planned] = {}
    for planned in unknown:
        firsts.setdefault(workload_of(planned.cell, texts), planned)
    cells = tuple(_short(planned) for planned in firsts.values())
    sweep = replace(plan.sweep, name=f"{plan.sweep.name}-probe", notify=None)
    return replace(
        plan,
        sweep=sweep,
        cells=cells,
        everything=cells,
        settled={},
        left={},
        tuning=None,
        more=(),
        choices=(),
    )


def _short(planned: Planned) -> Planned:
    cell = planned.cell
    config = shortened(cell.config, min(cell.config.train.steps, STEPS))
    label = f"probe {cell.label}"
    cell = replace(cell, config=config, label=label, arm_label=f"probe {cell.arm_label}")
    return Planned(cell_id(config, planned.fingerprint), cell, planned.fingerprint)
