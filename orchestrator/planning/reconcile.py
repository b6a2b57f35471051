"""What is on record of a plan's cells before it starts: reused, new, stale, faulted. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dashboards.outcomes import FAULTS
from detcore.config import CODE_VERSION
from orchestrator.planning.history import History, Past, by_cell
from orchestrator.sweep.absent import ABSENT
from orchestrator.tracking.table import RUNNING

if TYPE_CHECKING:
    from orchestrator.planning.plan import Plan, Planned

STATES = ("reused", "running", "left", "anew", "faulted", "stale", "new", "waits")
"""`reused`: it has a result. `running`: another orchestrator is at it. `left`: it faulted, and is
not tried again unasked. The rest is to be run: `anew`: although it has a result, as was asked for;
`faulted`: its last attempt was a fault; `stale`: the same arm and seed has a result, but under
another code version, on other data or with other settings; `new`: nothing is on record; `waits`:
what it will be is chosen by tuning."""


class Before(NamedTuple):
    """`why` is the outcome, or what has changed since; empty for `new`."""

    state: str
    why: str = ""


@dataclass(frozen=True)
class Reconciled:
    """`cells` by id. `dropped` are the labels of results of this sweep whose arm or seed is no
    longer in it."""

    cells: Mapping[str, Before]
    dropped: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        found = Counter(before.state for before in self.cells.values())
        return {state: found[state] for state in STATES}

    def reasons(self, state: str) -> dict[str, int]:
        """How many cells are in `state` for which reason, the commonest first."""
        return dict(Counter(b.why for b in self.cells.values() if b.state == state).most_common())


def reconcile(plan: Plan, history: History) -> Reconciled:
    """`plan` has been reconciled with the same ledger: what it counts as settled is reused."""
    attempts = by_cell(history.pasts)
    everything = plan.whole()
    wanted = [*everything.cells, *(everything.tuning.cells if everything.tuning else ())]
    whole = {p.id for p in wanted}
    older = {
        _arm(past.axes, past.seed): past
        for past in reversed(history.pasts)  # the newest one stays
        if past.settled and past.cell not in whole and _of_this_sweep(past, plan, history)
    }
    cells = {p.id: _before(p, plan, attempts.get(p.id, []), older) for p in plan.cells}
    planned = {_arm_of(p) for p in wanted}
    dropped = [past.label for arm, past in older.items() if arm not in planned and past.start]
    return Reconciled(cells, tuple(reversed(dropped)))


def _before(
    planned: Planned,
    plan: Plan,
    attempts: list[Past],
    older: Mapping[tuple[object, str], Past],
) -> Before:
    if planned.waits:
        return Before("waits")
    if planned.id in plan.settled:
        return Before("reused", plan.settled[planned.id].outcome)
    if planned.id in plan.left:
        return Before("left", plan.left[planned.id].outcome)
    if attempts and attempts[0].outcome == RUNNING:
        return Before("running")
    if result := next((past for past in attempts if past.settled), None):
        return Before("anew", result.outcome)
    if attempts and attempts[0].outcome in FAULTS:
        return Before("faulted", attempts[0].outcome)
    # without the data its id is not that of a real run, and nothing can be said
    if planned.fingerprint != ABSENT and (past := older.get(_arm_of(planned))):
        return Before("stale", ", ".join(_changes(past, planned)) or "other settings")
    return Before("new")


def _changes(past: Past, planned: Planned) -> Iterator[str]:
    if past.code != CODE_VERSION:
        yield f"code version {past.code or '?'}, now {CODE_VERSION}"
    if past.data != planned.fingerprint:
        yield "other data"


def _of_this_sweep(past: Past, plan: Plan, history: History) -> bool:
    """Its levels mean the same as in `plan`: the labels of another profile may not. A result that
    was stored from its files belongs to no start, and counts by the sweep's name."""
    return past.sweep == plan.sweep.name and (not past.start or past.start in history.starts)


def _arm(axes: Mapping[str, str], seed: str) -> tuple[object, str]:
    return frozenset(axes.items()), seed


def _arm_of(planned: Planned) -> tuple[object, str]:
    axes = {name: str(label) for name, label in planned.cell.axes.items()}  # as in its tags
    return _arm(axes, str(planned.cell.seed))
