"""What levels do over all pairs of arms that differ in nothing else, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dashboards.aliases import fractions, runs_of
from dashboards.inference import LEVEL
from dashboards.interactions import Interaction, simple_effects
from dashboards.outcomes import OPEN
from dashboards.pairs import Pair, fours_of
from dashboards.study import Study
from dashboards.wording import Certainty, Conclusion, Wording, count, cut, seed, seeds

if TYPE_CHECKING:
    from dashboards.effects import Effect


def effect_conclusions(
    study: Study, effects: Iterable[Effect], interactions: Iterable[Interaction]
) -> list[Conclusion]:
    """Of an axis whose one pair is an arm against the baseline nothing is said: the arm tells that.
    Of interactions those are told that are established."""
    say = Wording(study)
    told = [_effect(say, e) for e in effects if not _is_an_arm(study, e)]
    return told + [_interaction(say, i) for i in interactions if i.verdict == "depends"]


def _is_an_arm(study: Study, e: Effect) -> bool:
    return e.basis == "pairs" and e.planned == 1 and e.rows[0].other == study.baseline


def _effect(say: Wording, e: Effect) -> Conclusion:
    level, other = f"{cut(e.axis)}={cut(e.level)}", f"{cut(e.axis)}={cut(e.against)}"
    certainty: Certainty = "open"
    if e.verdict == "did not converge":
        certainty = "failed"
        if e.both_failed == e.planned:
            text = f"Neither {level} nor {other} converged in any of {count(e.planned, 'pair')}"
        else:
            text = f"{level} did not converge in any of {count(e.planned, 'pair')}"
    elif e.verdict in ("better", "worse"):
        certainty = "established"
        text = _claim(say, e, level, other)
    elif e.verdict == "not separable":
        certainty = "not separable"
        text = f"{level} cannot be told apart from {other} {_over(e)}"
    else:
        text = f"{level} against {other} is open {_over(e)}"
    text += _numbers(say, e)
    if e.verdict == "open":
        text += f"; about {seeds(e.more)} more would decide it" if e.more else ""
        text += f"; {e.why}" if e.why and not e.more else ""
    text += _failures(say.study, e, level, other)
    text += f"; {e.warning}" if e.warning else ""
    deltas = () if e.difference is None else (e.difference,)
    return Conclusion(f"{text}.", "effect", _rows(say.study, e), e.metric, certainty, deltas)


def _claim(say: Wording, e: Effect, level: str, other: str) -> str:
    """Where most pairs point the other way, both are said."""
    less = f" by less than the {say.matters} that matters" if e.small else ""
    text = f"{level} is {{}}{e.verdict} than {other}{less}"
    if e.basis == "fraction":
        return f"{text.format('')} {_over(e)}"
    agree, differ = (e.better, e.worse) if e.verdict == "better" else (e.worse, e.better)
    if differ < agree:
        return f"{text.format('')} in {agree} of {_told(e)}"
    opposite = "worse" if e.verdict == "better" else "better"
    return f"{text.format('on average ')}, though {opposite} in {differ} of {_told(e)}"


def _rows(study: Study, e: Effect) -> tuple[str, ...]:
    if e.basis == "fraction":
        return _runs(study, e.axis)
    return tuple(dict.fromkeys(key for pair in e.rows for key in (pair.arm, pair.other)))


def _runs(study: Study, *axes: str) -> tuple[str, ...]:
    """The runs of the fractions that vary all of `axes`."""
    of = [f for f in fractions(study) if all(axis in f.factors for axis in axes)]
    return tuple(dict.fromkeys(key for f in of for key in runs_of(study, f)))


def _interaction(say: Wording, i: Interaction) -> Conclusion:
    text = f"What {cut(i.axis)}={cut(i.level)} does depends on {cut(i.by_axis)}"
    digits, parts = say.places(i), []
    if (both := simple_effects(i.means, i.difference)) is not None:
        at, by = (say.signed(value, digits) for value in both)
        parts.append(f"{at} at {cut(i.by_against)} and {by} at {cut(i.by_level)}")
    if i.difference is not None and i.low is not None and i.high is not None:
        interval = f"95 % interval {say.signed(i.low, digits)} to {say.signed(i.high, digits)}"
        apart = f"{say.signed(i.difference, digits)} apart"
        parts.append(f"{apart} ({interval}, {seeds(i.seeds)})")
    text += f": {i.metric} {', '.join(parts)}" if parts else ""
    text += f"; {i.warning}" if i.warning else ""
    deltas = () if i.difference is None else (i.difference,)
    rows = _crossed_rows(say.study, i)
    return Conclusion(f"{text}.", "effect", rows, i.metric, "established", deltas)


def _crossed_rows(study: Study, i: Interaction) -> tuple[str, ...]:
    if i.basis == "fraction":
        return _runs(study, i.axis, i.by_axis)
    axes = {axis.name: axis for axis in study.axes}
    fours = fours_of(study, axes[i.axis], i.level, axes[i.by_axis], i.by_level)
    return tuple(dict.fromkeys(key for four in fours for key in four.keys))


def _over(e: Effect) -> str:
    """`over 6 pairs`, `over 2 pairs with a result (3 planned)`, `over 8 runs of a fraction`"""
    return f"over {e.planned} runs of a fraction" if e.basis == "fraction" else f"over {_told(e)}"


def _told(e: Effect) -> str:
    if e.pairs == e.planned:
        return count(e.pairs, "pair")
    return (
        f"{count(e.pairs, 'pair') if e.pairs else 'no pairs'} with a result ({e.planned} planned)"
    )


def _numbers(say: Wording, e: Effect) -> str:
    if e.difference is None:
        return ""
    digits = say.places(e)
    text = f": {e.metric} {say.signed(e.difference, digits)}"
    if e.low is None or e.high is None:
        return text
    level = f"{100 * (1 - LEVEL):.0f} %"
    interval = f"{level} interval {say.signed(e.low, digits)} to {say.signed(e.high, digits)}"
    return f"{text} ({interval}, {e.seeds} {seed(e.seeds)})"


def _failures(study: Study, e: Effect, level: str, other: str) -> str:
    """Every pair that is not among those with a result, and seeds in which one of two cells did not
    converge."""
    if e.both_failed == e.planned:  # said already
        return ""
    further = "further " if e.pairs else ""
    waits = sum(not pair.seeds and _waits(study, pair) for pair in e.rows)
    failed = e.only_level_failed + e.only_other_failed + e.both_failed
    ended = len(e.rows) - e.pairs - failed - waits if e.rows else 0
    pairs = (
        (e.only_level_failed, f"only {level} never converged"),
        (e.only_other_failed, f"only {other} never converged"),
        (e.both_failed, "neither ever converged"),
        (waits, "there is no result yet"),
        (ended, "all cells have ended and no seed has a value in both arms"),
    )
    out = "".join(f"; in {count(n, f'{further}pair')} {what}" for n, what in pairs if n)
    for n, who in ((e.level_failed, level), (e.other_failed, other)):
        out += f"; {seeds(n)} failed with {who} only" if n else ""
    return out


def _waits(study: Study, pair: Pair) -> bool:
    """Of a pair without a result: one is to come, unless an arm is known to have failed."""
    cells = [cell for arm in (pair.arm, pair.other) for cell in study.arm(arm).cells]
    return "failed" not in pair.standing and any(cell.outcome in OPEN for cell in cells)
