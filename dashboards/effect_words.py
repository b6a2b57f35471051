"""What levels do over all pairs of arms that differ in nothing else, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dashboards.inference import LEVEL
from dashboards.study import Study
from dashboards.wording import Certainty, Conclusion, Wording, cut, seed, seeds

if TYPE_CHECKING:
    from dashboards.effects import Effect
    from dashboards.interactions import Interaction


def effect_conclusions(
    study: Study, effects: Iterable[Effect], interactions: Iterable[Interaction]
) -> list[Conclusion]:
    """Of an axis with one pair of arms nothing is said: that pair is the arm against the baseline.
    Of interactions those are told that are established."""
    say = Wording(study)
    told = [_effect(say, e) for e in effects if e.basis == "fraction" or e.planned > 1]
    return told + [_interaction(say, i) for i in interactions if i.verdict == "depends"]


def _effect(say: Wording, e: Effect) -> Conclusion:
    level, other = f"{cut(e.axis)}={cut(e.level)}", f"{cut(e.axis)}={cut(e.against)}"
    certainty: Certainty = "open"
    if e.verdict == "did not converge":
        certainty = "failed"
        text = f"Neither {level} nor {other} converged in any of {_pairs(e.planned)}"
    elif e.verdict in ("better", "worse"):
        certainty = "established"
        less = f" by less than the {say.plain(say.study.target.min_effect)} that matters"
        text = f"{level} is {e.verdict} than {other}{less if e.small else ''} {_over(e, e.verdict)}"
    elif e.verdict == "not separable":
        certainty = "not separable"
        text = f"{level} cannot be told apart from {other} {_over(e)}"
    else:
        text = f"{level} against {other} is open {_over(e)}"
    text += _numbers(say, e)
    if e.verdict == "open":
        text += f"; about {seeds(e.more)} more would decide it" if e.more else ""
        text += f"; {e.why}" if e.why and not e.more else ""
    text += _failures(e, level, other)
    text += f"; {e.warning}" if e.warning else ""
    rows = dict.fromkeys(key for pair in e.rows for key in (pair.arm, pair.other))
    deltas = () if e.difference is None else (e.difference,)
    return Conclusion(f"{text}.", "effect", tuple(rows), e.metric, certainty, deltas)


def _interaction(say: Wording, i: Interaction) -> Conclusion:
    text = f"What {cut(i.axis)}={cut(i.level)} does depends on {cut(i.by_axis)}"
    (a, b), (c, d) = i.means
    if a is not None and b is not None and c is not None and d is not None:
        by = say.signed(c - a), say.signed(d - b)
        text += f": {i.metric} {by[0]} at {cut(i.by_against)} and {by[1]} at {cut(i.by_level)}"
    if i.difference is not None and i.low is not None and i.high is not None:
        interval = f"95 % interval {say.signed(i.low)} to {say.signed(i.high)}"
        text += f", {say.signed(i.difference)} apart ({interval}, {seeds(i.seeds)})"
    text += f"; {i.warning}" if i.warning else ""
    deltas = () if i.difference is None else (i.difference,)
    return Conclusion(f"{text}.", "effect", (), i.metric, "established", deltas)


def _over(e: Effect, way: str = "") -> str:
    """`in 5 of 6 pairs`, `over 6 pairs`, `over 8 runs of a fraction`"""
    if e.basis == "fraction":
        return f"over {e.planned} runs of a fraction"
    if way:
        return f"in {e.better if way == 'better' else e.worse} of {_pairs(e.pairs)}"
    return f"over {_pairs(e.pairs)}"


def _numbers(say: Wording, e: Effect) -> str:
    if e.difference is None:
        return ""
    text = f": {e.metric} {say.signed(e.difference)}"
    if e.low is None or e.high is None:
        return text
    level = f"{100 * (1 - LEVEL):.0f} %"
    interval = f"{level} interval {say.signed(e.low)} to {say.signed(e.high)}"
    return f"{text} ({interval}, {e.seeds} {seed(e.seeds)})"


def _failures(e: Effect, level: str, other: str) -> str:
    """Pairs of which an arm never converged, and seeds in which one of two cells did not."""
    out = ""
    if e.verdict == "did not converge":
        return out
    for count, who in ((e.only_level_failed, level), (e.only_other_failed, other)):
        out += f"; in {_more(count)} only {who} never converged" if count else ""
    out += f"; in {_more(e.both_failed)} neither ever converged" if e.both_failed else ""
    for count, who in ((e.level_failed, level), (e.other_failed, other)):
        out += f"; {seeds(count)} failed with {who} only" if count else ""
    return out


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _more(count: int) -> str:
    return "1 further pair" if count == 1 else f"{count} further pairs"
