"""A plan as a person reads it: first what it comes to and what to beware of, then arm by arm."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.planning.cautions import cautions
from orchestrator.planning.forecast import FEW_STEPS, SOURCES, Forecast
from orchestrator.planning.reconcile import Reconciled
from orchestrator.planning.summary import aliases_text, arms_text, blocks_text, excluded_text
from orchestrator.planning.tuning import LATER, tuning_headline, tuning_text
from orchestrator.sweep.budget import Budget
from orchestrator.sweep.expand import Cell
from orchestrator.wording import count

if TYPE_CHECKING:
    from orchestrator.planning.outlook import Outlook
    from orchestrator.planning.plan import Plan

WIDTH = 110
_SHOWN = 3


def headline(plan: Plan) -> str:
    arms = len({p.cell.arm_label for p in plan.cells})
    seeds = len({p.cell.seed for p in plan.cells})
    settled = sum(id in plan.settled for id in plan.ids)
    sizes = Counter(size_of(p.cell) for p in plan.cells)
    question = f"\n{plan.sweep.question}" if plan.sweep.question else ""
    to_run = sum(id not in plan.known for id in plan.ids)  # also what waits for tuning
    what, which = ("tuning cell", "candidate") if plan.is_tuning else ("cell", "arm")
    return (
        f"{plan.sweep.name}{question}\n{tuning_headline(plan)}{count(len(plan.cells), what)}"
        f"{' after' if plan.tuning else ''} ({count(arms, which)}, {count(seeds, 'seed')}): "
        f"{settled} settled before, {to_run} to run; "
        + ", ".join(f"{n} of {size}" for size, n in sizes.items())
    )


def plan_text(plan: Plan, outlook: Outlook | None = None) -> str:
    """With an outlook: also what is on record, what it will cost, and where it may fail."""
    sweep, cells = plan.sweep, [p.cell for p in plan.cells]
    warned = [f"caution: {line}" for line in cautions(cells, sweep)]
    ahead: list[str] = []
    if outlook:
        ahead = [*_on_record(outlook.reconciled), *_cost(outlook)]
        warned += [f"caution: {line}" for line in _may_fail(outlook)]
    arms = arms_text(
        cells,
        sweep.baseline,
        plan.differences,
        sweep.reference,
        sweep.metric.name,
        _cells_by_arm(plan, outlook),
    )
    sections = [
        [*headline(plan).splitlines(), *ahead],
        warned,
        list(plan.notes),
        blocks_text(sweep.design, cells) if "design" in sweep.document.data else [],
        excluded_text(plan.excluded, sweep.baseline),
        aliases_text(sweep.design, plan.excluded),
        tuning_text(plan),
        arms,
    ]
    return "\n\n".join("\n".join(section) for section in sections if section)


def size_of(cell: Cell) -> str:
    r = cell.resources
    what = f"{r.gpus_per_worker:g} GPU" if r.gpus_per_worker else f"{r.cpus_per_worker:g} CPU"
    return f"{r.workers} × {what}"


# ---------------------------------------------------------------- what is on record


def _on_record(reconciled: Reconciled) -> list[str]:
    parts = []
    for state, n in reconciled.counts().items():
        if n:
            reasons = reconciled.reasons(state)
            reasons.pop("", None)
            text = "; ".join(
                why if len(reasons) == 1 else f"{k} {why}" for why, k in reasons.items()
            )
            parts.append(f"{n} {_STATES[state]}{f' ({text})' if text else ''}")
    lines = _wrapped("on record:", ", ".join(parts))
    if reconciled.dropped:
        names = ", ".join(reconciled.dropped[:_SHOWN])
        more = ", ..." if reconciled.dropped[_SHOWN:] else ""
        kept = f"{count(len(reconciled.dropped), 'result')} ({names}{more}); MLflow keeps them"
        lines += _wrapped("no longer planned:", kept)
    return lines


_STATES = {
    "reused": "reused",
    "running": "running elsewhere",
    "left": "left as it faulted",
    "anew": "to train anew",
    "faulted": "faulted before",
    "stale": "stale",
    "new": "new",
    "waits": "waiting for tuning",
}


# ---------------------------------------------------------------- what it costs


def _cost(outlook: Outlook) -> list[str]:
    costs, budget = outlook.forecast, outlook.budget
    if not costs.costs:
        return []
    lines = _wrapped("cost:", hours_text(costs) + told_by(outlook))
    if outlook.wall.seconds is not None:
        least = "at least" if costs.unknown else "about"
        text = f"{least} {span(outlook.wall.seconds)} on {outlook.wall.where}"
        lines += _wrapped("wall time:", text)
    if text := _limits(budget, outlook):
        lines += _wrapped("budget:", text)
    return lines


def hours_text(costs: Forecast) -> str:
    if len(costs.unknown) == len(costs.costs):
        return "not known"
    least = "at least" if costs.unknown else "about"
    parts = [
        f"{hours:.3g} {what}"
        for hours, what in (
            (costs.gpu_hours, "GPU-hours"),
            (costs.core_hours, "CPU-core-hours"),
        )
        if hours
    ]
    return f"{least} {' and '.join(parts)}"


def told_by(outlook: Outlook) -> str:
    """From what the cost is known, and of which cells it is not."""
    costs = outlook.forecast
    told = [f"{count(n, 'cell')} from {SOURCES[source]}" for source, n in costs.sources.items()]
    if costs.rough:
        told.append(f"rough, as some were measured over fewer than {FEW_STEPS} steps")
    text = f" ({'; '.join(told)})" if told else ""
    if not costs.unknown:
        return text
    unknown = set(costs.unknown)
    arms = dict.fromkeys(p.cell.arm_label for p in outlook.cells if p.id in unknown)
    shown = ", ".join(list(arms)[:_SHOWN]) + (", ..." if len(arms) > _SHOWN else "")
    of = f"; not known of {count(len(unknown), 'cell')} ({shown})" if told else ""
    return f"{text}{of}: no past cell has their model, input, batch and gang; --probe measures it"


def _limits(budget: Budget, outlook: Outlook) -> str:
    parts = []
    if budget.gpu_hours is not None:
        parts.append(f"{outlook.spent:.3g} of {budget.gpu_hours:g} GPU-hours spent")
    if budget.max_gpus is not None:
        parts.append(f"at most {count(budget.max_gpus, 'GPU')} at once")
    if budget.max_concurrent is not None:
        parts.append(f"at most {count(budget.max_concurrent, 'cell')} at once")
    if outlook.asks:
        parts.append(f"a start asks first (above {budget.confirm_gpu_hours:g} GPU-hours)")
    return ", ".join(parts)


def _may_fail(outlook: Outlook) -> list[str]:
    lines = [f"{arm.arm} may run out of memory: {arm.evidence}" for arm in outlook.tight]
    left = outlook.budget.left(outlook.spent)
    if left is not None and outlook.forecast.gpu_hours > left:
        lines.append(
            f"{outlook.forecast.gpu_hours:.3g} GPU-hours are forecast and {left:.3g} are left of "
            "the budget: the last cells will not start"
        )
    return lines


# ---------------------------------------------------------------- arm by arm


def _cells_by_arm(plan: Plan, outlook: Outlook | None) -> dict[str, list[str]]:
    """Of each arm what one cell reserves and takes, and its cells by seed."""
    found: dict[str, dict[str, list[str]]] = {}
    for p in plan.cells:
        status = plan.status(p)
        if outlook and status == "waiting":
            status = outlook.reconciled.cells[p.id].state
        of_arm = found.setdefault(p.cell.arm_label, {})
        says = f"seed {p.cell.seed}" if p.waits else f"seed {p.cell.seed} {p.id}"
        of_arm.setdefault(LATER if p.waits else status, []).append(says)
    costs = outlook.forecast.costs if outlook else {}
    about: dict[str, str] = {}
    for p in plan.cells:
        cost = costs.get(p.id)
        takes = f", about {span(cost.seconds)} each" if cost and cost.seconds else ""
        if takes or p.cell.arm_label not in about:
            about[p.cell.arm_label] = size_of(p.cell) + takes
    return {
        arm: textwrap.wrap("; ".join([about[arm], *_by_status(cells)]), WIDTH)
        for arm, cells in found.items()
    }


def _by_status(cells: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{status}: {', '.join(of_status)}" for status, of_status in cells.items()]


def span(seconds: float) -> str:
    """A time that is not known to the second: `40 s`, `28 min`, `46.1 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(f"{head:<10} {text}", WIDTH, subsequent_indent=" " * 11)
