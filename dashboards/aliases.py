"""What a fractional design does not tell apart, as the plan of a sweep says (its `aliases`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.inference import Comparison
from dashboards.inference.contrasts import Contrast
from dashboards.pairs import Subject, against
from dashboards.study import Axis, Study

TIMES = " × "

Word = tuple[int, frozenset[str]]
"""A product of factors, with its sign. One factor: its main effect."""


@dataclass(frozen=True)
class Fraction:
    """A fractional block. `factors`: low and high of each; `defining`: products that are the same
    in all runs; `families`: effects that are estimated by one and the same sum over the runs."""

    block: str
    factors: Mapping[str, tuple[str, str]]
    runs: int  # that are planned
    left_out: int  # of them, by the sweep's rules
    defining: tuple[Word, ...]
    families: tuple[tuple[Word, ...], ...]

    def not_told_apart(self, effect: frozenset[str]) -> tuple[str, ...]:
        """`loss × neck`, `-norm`: what is confounded with an effect, with the sign it then has."""
        for family in self.families:
            for mine, word in family:
                if word == effect:
                    others = [(mine * sign, other) for sign, other in family if other != effect]
                    return tuple(self._named(sign, other) for sign, other in others)
        return ()

    def _named(self, sign: int, word: frozenset[str]) -> str:
        return ("" if sign > 0 else "-") + TIMES.join(f for f in self.factors if f in word)


def fractions(study: Study) -> list[Fraction]:
    """Of what is not in the form of a plan, none."""
    found = []
    for entry in study.aliases:
        try:
            found.append(_fraction(entry))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return found


def runs_of(study: Study, fraction: Fraction) -> dict[str, dict[str, int]]:
    """The arms (by key) that are the block's runs: for each factor -1 (low) or 1 (high). All else
    is at the baseline, which there must be."""
    rest = {axis.name: axis.baseline for axis in study.axes if axis.name not in fraction.factors}
    out = {}
    for arm in study.arms:
        signs = {
            name: {low: -1, high: 1}.get(arm.levels.get(name, ""), 0)
            for name, (low, high) in fraction.factors.items()
        }
        fits = all(signs.values()) and all(arm.levels.get(n) == level for n, level in rest.items())
        if fits and all(_product(signs, word) == sign for sign, word in fraction.defining):
            out[arm.key] = signs
    return out


def ends(axis: Axis, fraction: Fraction) -> tuple[str, str, int]:
    """The level of a factor, the one it is compared with, and the sign of the former."""
    low, high = fraction.factors[axis.name]
    return (low, high, -1) if against(axis) == high else (high, low, 1)


def over_runs(
    subject: Subject, fraction: Fraction, signs: Mapping[str, int], scale: float
) -> Contrast:
    """`scale` times the runs' sum with `signs`. No weights unless the fraction is whole: what is
    left of one confounds more than its plan says."""
    seeds = len(subject.seeds(*signs)) if signs else 0
    waits = subject.waits(*signs)
    if len(signs) < fraction.runs or not seeds:
        return Contrast("", {}, seeds, waits)
    return Contrast("", {arm: scale * sign for arm, sign in signs.items()}, seeds, waits)


def confounded(fraction: Fraction | None, *names: str) -> tuple[tuple[str, ...], str]:
    """What the effect (interaction) of `names` is not told apart from, and that in words."""
    aliased = fraction.not_told_apart(frozenset(names)) if fraction else ()
    return aliased, f"not told apart from {', '.join(aliased)}" if aliased else ""


def why_open(fraction: Fraction | None, contrast: Contrast, found: Comparison | None) -> str:
    if found is None or found.verdict != "open":
        return ""
    if contrast.weights or fraction is None:
        return found.why
    if fraction.left_out:
        return f"{fraction.left_out} of {fraction.runs} runs are left out of the fraction"
    return f"a fraction needs a value of each of its {fraction.runs} runs in some seed"


def _product(signs: Mapping[str, int], word: frozenset[str]) -> int:
    return -1 if sum(signs[name] < 0 for name in word) % 2 else 1


def _fraction(entry: Any) -> Fraction:
    factors = {
        str(name): (_text(low), _text(high)) for name, (low, high) in entry["factors"].items()
    }

    def word(text: str) -> Word:
        sign, names = (-1, text[1:]) if text.startswith("-") else (1, text)
        return sign, frozenset({name: factors[name] for name in names.split(TIMES)})

    return Fraction(
        str(entry["block"]),
        factors,
        int(entry["runs"]),
        int(entry["excluded"]),
        tuple(word(text) for text in entry["defining"]),
        tuple(
            tuple(word(text) for text in (family["effect"], *family["with"]))
            for family in entry["aliases"]
        ),
    )


def _text(level: object) -> str:
    return str(level).lower() if isinstance(level, bool) else str(level)
