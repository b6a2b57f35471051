"""The table of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.planning.plan import Plan
from orchestrator.planning.summary import excluded_text
from orchestrator.planning.tuning import tuning_notes
from orchestrator.tracking.table import REPORT, Row, Table, make_table, totals


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
        from orchestrator.planning.replicates import ends_of, table_notes

        notes += table_notes(plan, ends_of({row.id: row for row in rows}, metric))
    if scores:
        if REPORT not in table.columns:
            arms = (f"{' '.join(arm)} {score}" for arm, score in scores.items())
            notes.append(f"{REPORT}: {'; '.join(arms)}")
        notes.append(
            f"{REPORT} = {sweep.reference.source}; compare only where data and rules match"
        )
    return replace(table, notes=tuple(notes))
