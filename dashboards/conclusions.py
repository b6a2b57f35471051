"""Conclusions in words, made of verdicts and counts only: what is established first, then what did
not converge, what cannot be told apart, and what is open.

Sentences are plain text with the user's own words in them: who shows them escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dashboards.arms import on_target
from dashboards.effect_words import effect_conclusions
from dashboards.inference import Comparison, Inference
from dashboards.outcomes import FAILED, FAULTS
from dashboards.study import Arm, Study
from dashboards.wording import (
    MANY,
    ORDER,
    Certainty,
    Conclusion,
    Wording,
    count,
    did,
    ends,
    seed,
    seeds,
    share,
)

if TYPE_CHECKING:
    from dashboards.effects import Effect
    from dashboards.interactions import Interaction

__all__ = ["ORDER", "Certainty", "Conclusion", "conclusions"]


def conclusions(
    study: Study,
    inference: Inference | None = None,
    effects: Iterable[Effect] = (),
    interactions: Iterable[Interaction] = (),
) -> list[Conclusion]:
    """What the study says on its target metric. `inference`: every arm against the baseline, where
    that is made already; `effects` and `interactions` on that metric are told with it."""
    say = Wording(study)
    found = [_failed(say, arm) for arm in study.arms if any(c.outcome in FAILED for c in arm.cells)]
    found += [_without_result(say, arm) for arm in study.arms if _is_fault(arm)]
    if study.baseline is not None and study.arm(study.baseline).cells:
        inference = inference or on_target(study)
        assert inference is not None
        found += _verdicts(say, inference)
    found += effect_conclusions(study, effects, interactions)
    return sorted(found, key=_importance)


def _importance(conclusion: Conclusion) -> tuple[int, bool, float]:
    """The certain ones first, of these axes before arms, and the largest difference; a stable sort
    keeps the rest in the order of the arms."""
    size = max(map(abs, conclusion.deltas), default=0.0)
    established = conclusion.certainty == "established"
    place = ORDER.index(conclusion.certainty)
    return place, conclusion.kind != "effect", -size if established else 0.0


# ---------------------------------------------------------------- counts


def _failed(say: Wording, arm: Arm) -> Conclusion:
    """Its failures, of the seeds that have a result, beside the baseline's."""
    text = f"{say.name(arm.key)} did not converge in {share(arm)}: {ends(arm)}"
    base = say.study.baseline
    if base is not None and base != arm.key and say.study.arm(base).cells:
        text += f"; the baseline {did(say.study.arm(base))}"
    return Conclusion(f"{text}.", "arm", (arm.key,), say.metric, "failed")


def _without_result(say: Wording, arm: Arm) -> Conclusion:
    how = ", ".join(f"{n} {name}" for name, n in arm.outcomes().items())
    text = f"{say.name(arm.key)} has no result in {seeds(len(arm.cells))}: {how}."
    return Conclusion(text, "arm", (arm.key,), say.metric, "open")


def _is_fault(arm: Arm) -> bool:
    """Whether it has no result, and none is to come."""
    return bool(arm.cells) and all(cell.outcome in FAULTS for cell in arm.cells)


# ---------------------------------------------------------------- verdicts


def _verdicts(say: Wording, inference: Inference) -> list[Conclusion]:
    """What did not converge at all is told by the counts."""
    faults = {arm.key for arm in say.study.arms if _is_fault(arm)}
    arms = [c for c in inference.comparisons if c.verdict is not None and c.arm not in faults]
    out = [_claim(say, c, inference) for c in arms if c.verdict in ("better", "worse")]

    same = [c for c in arms if c.verdict == "not separable"]
    possible = [max(-c.low, c.high) for c in same if c.low is not None and c.high is not None]
    unsure = inference.min_effect is None and possible
    out += _each(same, lambda c: _same(say, c, inference)) or _together(
        say,
        same,
        "not separable",
        "cannot be told apart from the baseline",
        f"; differences of up to {say.plain(max(possible))} stay possible" if unsure else "",
    )
    waits = [c for c in arms if c.verdict == "open"]
    undecided = [c for c in waits if c.more is not None]
    out += _each(undecided, lambda c: _undecided(say, c, inference)) or _all_undecided(
        say, undecided
    )
    out += _one_run(say, [c for c in waits if c.more is None and c.pairs == 1], inference)
    groups: dict[str, list[Comparison]] = {}
    for c in waits:
        if c.more is None and c.pairs != 1:
            groups.setdefault(c.why, []).append(c)
    for why, alike in groups.items():
        out += _each(alike, lambda c: _for_a_reason(say, c)) or _together(
            say, alike, "open", f"are open, as {why}"
        )
    return out


def _claim(say: Wording, c: Comparison, inference: Inference) -> Conclusion:
    text = f"{say.name(c.arm)} is {c.verdict} than t{say.name(inference.baseline)[1:]}"
    if c.small:
        text += f" by less than the {say.matters} that matters"
    if c.failed:
        text += f" where it converged ({c.n} of {seeds(c.n + c.failed)})"
    return _made(say, f"{text}: {say.evidence(c, inference)}{say.unpaired(c)}.", "established", c)


def _same(say: Wording, c: Comparison, inference: Inference) -> Conclusion:
    text = f"{say.name(c.arm)} cannot be told apart from the baseline{_where(c)}"
    text += f": {say.evidence(c, inference)}{say.unpaired(c)}"
    if inference.min_effect is not None:
        sure = f"{100 * (1 - inference.miss):.0f} % of cases"
        text += f"; {say.matters} or more would have shown in {sure}"
    elif c.low is not None and c.high is not None:
        text += f"; a difference of {say.plain(max(-c.low, c.high))} stays possible"
    return _made(say, f"{text}.", "not separable", c)


def _undecided(say: Wording, c: Comparison, inference: Inference) -> Conclusion:
    more = c.more or 0
    text = f"{say.name(c.arm)} against the baseline is open{_where(c)}: "
    text += f"{say.evidence(c, inference)}{say.unpaired(c)}"
    text += f"; about {more} more {seed(more)} would decide it"
    return _made(say, f"{text}.", "open", c)


def _for_a_reason(say: Wording, c: Comparison) -> Conclusion:
    seen = "" if c.difference is None else f" ({say.metric} {say.signed(c.difference)} so far)"
    text = f"{say.name(c.arm)} against the baseline is open{seen}: {c.why}."
    return _made(say, text, "open", c)


def _one_run(say: Wording, cs: list[Comparison], inference: Inference) -> list[Conclusion]:
    """Arms of which one seed can be compared: nothing can be claimed of them."""
    known = [(c.difference, c) for c in cs if c.difference is not None]
    if not known:
        return []
    size, c = max(known, key=lambda pair: abs(pair[0]))
    if all(other.planned <= 1 for other in inference.comparisons):
        text = "One run each: nothing can be claimed"
    else:
        arms = count(len(cs), "arm")
        text = f"Only one seed of {arms} can be compared: nothing can be claimed"
    largest = "the difference" if len(cs) == 1 else "the largest difference"
    text += f"; {largest} seen is {say.metric} {say.signed(size)} ({say.name(c.arm)})."
    keys, deltas = tuple(c.arm for c in cs), tuple(d for d, _ in known)
    return [Conclusion(text, "arms", keys, say.metric, "single run", deltas)]


# ---------------------------------------------------------------- many arms alike


def _each(cs: list[Comparison], of: Callable[[Comparison], Conclusion]) -> list[Conclusion]:
    """A sentence an arm; none where there are too many."""
    return [of(c) for c in cs] if len(cs) <= MANY else []


def _together(
    say: Wording, cs: list[Comparison], certainty: Certainty, what: str, more: str = ""
) -> list[Conclusion]:
    if not cs:
        return []
    text = f"{len(cs)} arms {what}{say.range(cs)}: {say.names(c.arm for c in cs)}{more}."
    return [_made(say, text, certainty, *cs)]


def _all_undecided(say: Wording, cs: list[Comparison]) -> list[Conclusion]:
    if not cs:
        return []
    more = sorted(c.more for c in cs if c.more is not None)
    least = f"{more[0]} more {seed(more[0])}"
    text = f"{len(cs)} arms are open{say.range(cs)}: {say.names(c.arm for c in cs)}. "
    text += f"The nearest to a decision needs about {least}, the farthest about {more[-1]}."
    return [_made(say, text, "open", *cs)]


def _made(say: Wording, text: str, certainty: Certainty, *cs: Comparison) -> Conclusion:
    deltas = tuple(c.difference for c in cs if c.difference is not None)
    kind = "arm" if len(cs) == 1 else "arms"
    return Conclusion(text, kind, tuple(c.arm for c in cs), say.metric, certainty, deltas)


def _where(c: Comparison) -> str:
    return f" where it converged ({c.n} of {seeds(c.n + c.failed)})" if c.failed else ""
