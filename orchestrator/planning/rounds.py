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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dashboards.inference import (
    Comparison,
    Inference,
    Levels,
    Observation,
    Variances,
    compare,
    look_levels,
)
from dashboards.outcomes import FAILED, FAULTS
from orchestrator.sweep.seeds import Seeds
from orchestrator.wording import count

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
    variances: Variances = "auto"

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
        found = f"{difference_text(self)}{self.verdict}; {self.action}"
        return f"{self.arm}: after {count(self.seeds, 'seed')} {found}"


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
        variances=study.variances,
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
    failed = sum(outcome in FAILED for outcome in outcomes)
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
