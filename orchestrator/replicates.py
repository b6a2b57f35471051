"""Further seeds for the arms whose verdict is open: round after round, until it is clear.

Every arm runs with the seeds that are listed. Then its difference to the baseline is looked at
(`dashboards.inference`); while the verdict is open, the arm and the baseline run with the next
seed, together, so that seeds stay paired. An arm ends when it is decided, when it has `extend_to`
seeds, or when two of its seeds have not converged or two have faulted: an arm that fails twice has
its finding, and more seeds would only describe the survivors.

Looks are repeated, so each is made at a nominal level that keeps the error of all of them together
(`dashboards.inference.looks`). They are made at whole rounds only, when each cell of the round has
ended for good: what is decided follows from the results alone, not from which came first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dashboards.inference import (
    LEVEL,
    MISS,
    Comparison,
    Inference,
    Levels,
    Observation,
    compare,
    look_levels,
)
from orchestrator.runs import FAULTS, SETTLED
from orchestrator.seeds import Seeds
from orchestrator.table import Scored, value_of

if TYPE_CHECKING:
    from orchestrator.plan import Plan, Planned

FAILURES = 2  # seeds of an arm without a result, or without convergence, after which it ends


class End(NamedTuple):
    """How a cell has ended for good: its outcome, and its metric where it has one."""

    outcome: str
    value: float | None = None


@dataclass(frozen=True)
class Arm:
    label: str
    cells: Mapping[int, str]  # seed -> id, of listed and further seeds
    listed: frozenset[int]  # the seeds that it runs with in any case

    def extends(self, seeds: Iterable[int]) -> bool:
        """Whether it may get these."""
        return all(seed in self.cells for seed in seeds)


@dataclass(frozen=True)
class Study:
    """What the decisions depend on, beside the results."""

    baseline: Arm
    arms: tuple[Arm, ...]  # the others
    seeds: Seeds
    goal: Literal["max", "min"] = "max"
    min_effect: float | None = None

    def levels(self) -> Levels:
        return look_levels(len(self.arms), self.seeds.looks)


@dataclass(frozen=True)
class Decision:
    """One arm after one round. `round` is 0 for the listed seeds; numbers are those of the look."""

    round: int
    seeds: int  # how many the arm has been run with
    arm: str
    n: int  # of them with a value
    difference: float | None
    low: float | None
    high: float | None
    verdict: str
    action: str  # `runs seed 3`, `runs seeds 3, 4`, or `ends: ...`

    @property
    def ends(self) -> bool:
        return self.action.startswith("ends")

    def line(self) -> str:
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return f"{self.arm}: after {seeds} {difference_text(self)}{self.verdict}; {self.action}"


@dataclass
class Replay:
    """What the results come to. `due` are the ids of all cells that are to be run so far, and
    `complete` says that no decision can ask for more."""

    decisions: list[Decision] = field(default_factory=list)
    due: list[str] = field(default_factory=list)
    complete: bool = False


def replay(study: Study, results: Mapping[str, End]) -> Replay:
    """Decide round by round as far as `results` (of cells that have ended for good) go. A pure
    function: results that no round has asked for yet change nothing."""
    out = Replay()
    run = {arm.label: sorted(arm.listed) for arm in (study.baseline, *study.arms)}
    out.due = [id_ for _, _, id_ in _cells(study, run)]
    levels = study.levels()
    asked = list(study.arms)
    rounds = study.seeds.rounds()
    for number in range(len(rounds) + 1):
        if any(id_ not in results for id_ in out.due):
            return out
        more = rounds[number] if number < len(rounds) else ()
        look = _look(study, levels, run, results, spent=not more)
        known = _outcomes(study, run, results)
        reason = _why_none(known[study.baseline.label], "the baseline")
        made = [
            _decision(number, arm, look[arm.label], known[arm.label], more, reason) for arm in asked
        ]
        out.decisions += made
        asked = [arm for arm, decision in zip(asked, made, strict=True) if not decision.ends]
        if not asked:
            break
        for arm in (study.baseline, *asked):
            run[arm.label] += more
            out.due += [arm.cells[seed] for seed in more]
    out.complete = True
    return out


class Replicates:
    """The rule as a run engine uses it: `first()`, then `next(results)` whenever a cell has ended.

    `plan` has its ids (nothing waits for tuning) and is whole. `say` gets each decision as a line.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None] = lambda line: None) -> None:
        self._study = study_of(plan)
        self._planned = {p.id: p for p in (*plan.cells, *plan.more)}
        self._first = list(plan.cells)
        self._say = say
        self._given = {p.id for p in plan.cells}
        self._replay = Replay(due=[p.id for p in plan.cells])
        self.ended = ""  # why no further round is begun although arms are open

    def first(self) -> list[Planned]:
        """The cells of the listed seeds."""
        return list(self._first)

    def next(
        self,
        results: Mapping[str, End],
        affords: Callable[[Sequence[Planned]], bool] = lambda cells: True,
    ) -> list[Planned]:
        """The cells to run that were not given before; empty while a round goes on, and at the end.

        `affords` says of the missing cells of a new round whether the budget has room for all of
        them: a part of a round decides nothing, so that none of it is run.
        """
        before = len(self._replay.decisions)
        found = replay(self._study, results)
        for decision in found.decisions[before:]:
            self._say(decision.line())
        self._replay = found
        fresh = [self._planned[id_] for id_ in found.due if id_ not in self._given]
        missing = [p for p in fresh if p.id not in results]
        if missing and not affords(missing):
            self.ended = f"the budget has no room for {len(missing)} further cells"
            self._say(f"no further seeds: {self.ended}")
            self._replay.due = [id_ for id_ in found.due if id_ in self._given]
            return []
        self.ended = ""
        self._given |= {p.id for p in fresh}
        return missing

    @property
    def decisions(self) -> list[Decision]:
        return list(self._replay.decisions)

    @property
    def cells(self) -> list[Planned]:
        """All that has been asked for: what a table of the sweep shows."""
        return [self._planned[id_] for id_ in self._replay.due]

    def to_json(self) -> dict[str, Any]:
        """The content of `decisions.json`, an artifact of the sweep's run."""
        study, levels = self._study, self._study.levels()
        return {
            "baseline": study.baseline.label,
            "goal": study.goal,
            "min_effect": study.min_effect,
            "seeds": list(study.seeds.listed),
            "further_seeds": list(study.seeds.more),
            "looks": [n for n in study.seeds.looks if n > 1],
            "level": LEVEL,
            "level_at_each_look": levels.level,
            "miss": MISS,
            "miss_at_each_look": levels.miss,
            "complete": self._replay.complete,
            "ended": self.ended,
            "decisions": [asdict(decision) for decision in self._replay.decisions],
        }


# ---------------------------------------------------------------- plans


def study_of(plan: Plan) -> Study:
    """The study of a whole plan whose sweep may extend its seeds."""
    sweep = plan.sweep
    assert sweep.replicates.more
    cells: dict[str, dict[int, str]] = {}
    listed: dict[str, set[int]] = {}
    baseline = ""
    for p in plan.whole().cells:
        if p.cell.seed in sweep.seeds:
            listed.setdefault(p.cell.arm_label, set()).add(p.cell.seed)
    for p in (*plan.whole().cells, *plan.more):
        cells.setdefault(p.cell.arm_label, {})[p.cell.seed] = p.id
        if p.cell.axes == sweep.baseline:
            baseline = p.cell.arm_label
    arms = {label: Arm(label, cells[label], frozenset(seeds)) for label, seeds in listed.items()}
    return Study(
        arms[baseline],
        tuple(arm for label, arm in arms.items() if label != baseline),
        sweep.replicates,
        sweep.metric.goal,
        sweep.metric.min_effect,
    )


def ends_of(cells: Mapping[str, Scored], metric: str) -> dict[str, End]:
    """From what a ledger or a table has of cells (by id), those that have ended."""
    return {
        id_: End(cell.outcome, value_of(cell, metric))
        for id_, cell in cells.items()
        if cell.outcome in (*SETTLED, *FAULTS)
    }


def replicates_of(plan: Plan, say: Callable[[str], None] = lambda line: None) -> Replicates | None:
    """The rule for `plan`. None where its seeds are not extended, where `only` leaves out a part (a
    part of a round decides nothing), and while arms wait for tuning."""
    part = len(plan.cells) != len(plan.whole().cells) or any(p.waits for p in plan.cells)
    return Replicates(plan, say) if plan.more and not part else None


def grown(plan: Plan) -> Plan:
    """`plan`, reconciled with a ledger, with the further cells that its results ask for."""
    rule = replicates_of(plan)
    if rule is None:
        return plan
    rule.next(ends_of(plan.known, plan.sweep.metric.name))
    return plan.extended(rule.cells)


def table_notes(plan: Plan, results: Mapping[str, End]) -> list[str]:
    """What a table says of the seeds that were added: how many cells, and where each arm stands."""
    study = study_of(plan)
    found = replay(study, results)
    last = {decision.arm: decision for decision in found.decisions}
    run = len(found.due) - sum(len(arm.listed) for arm in (study.baseline, *study.arms))
    open_ = "" if found.complete else "; this round has not ended"
    return [
        f"further seeds while a verdict is open: {run} of at most {len(plan.more)} cells{open_}; "
        f"intervals hold at {1 - LEVEL:.0%} for all arms and looks together",
        *(f"  {decision.line()}" for decision in last.values()),
    ]


# ---------------------------------------------------------------- inside


def _cells(study: Study, run: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, int, str]]:
    """(arm, seed, id) of the seeds that each arm is run with."""
    for arm in (study.baseline, *study.arms):
        for seed in run[arm.label]:
            yield arm.label, seed, arm.cells[seed]


def _outcomes(
    study: Study, run: Mapping[str, Sequence[int]], results: Mapping[str, End]
) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {arm.label: [] for arm in (study.baseline, *study.arms)}
    for label, _, id_ in _cells(study, run):
        out[label].append(results[id_].outcome)
    return out


def _look(
    study: Study,
    levels: Levels,
    run: Mapping[str, Sequence[int]],
    results: Mapping[str, End],
    spent: bool,
) -> Inference:
    return compare(
        (Observation(label, seed, *results[id_]) for label, seed, id_ in _cells(study, run)),
        study.baseline.label,
        goal=study.goal,
        min_effect=study.min_effect,
        level=levels.level,
        miss=levels.miss,
        spent=spent,
    )


def _decision(
    number: int,
    arm: Arm,
    seen: Comparison,
    outcomes: Sequence[str],
    more: Sequence[int],
    baseline: str,
) -> Decision:
    if seen.verdict in ("better", "worse", "not separable"):
        action = "ends: decided"
    elif why := _why_none(outcomes, "it") or baseline:
        action = f"ends: {why}"
    elif not more:
        action = "ends: it has all its seeds"
    elif not arm.extends(more):
        action = "ends: its block has seeds of its own"
    else:
        action = f"runs seed{'s' if len(more) > 1 else ''} {', '.join(map(str, more))}"
    return Decision(
        number,
        len(outcomes),
        arm.label,
        seen.n,
        seen.difference,
        seen.low,
        seen.high,
        seen.words,
        action,
    )


def _why_none(outcomes: Sequence[str], who: str) -> str:
    """Why an arm gets no further seed whatever its verdict; empty where nothing speaks against."""
    failed = sum(outcome in ("diverged", "stalled") for outcome in outcomes)
    faulted = sum(outcome in FAULTS for outcome in outcomes)
    if failed >= FAILURES:
        return f"{who} did not converge with {failed} seeds"
    if faulted >= FAILURES:
        return f"{who} faulted with {faulted} seeds"
    return ""


def difference_text(decision: Decision) -> str:
    """`+0.0041 [+0.0012, +0.0070] ` with as many parts as there are."""
    if decision.difference is None:
        return ""
    text = f"{decision.difference:+.4f} "
    if decision.low is not None and decision.high is not None:
        text += f"[{decision.low:+.4f}, {decision.high:+.4f}] "
    return text
