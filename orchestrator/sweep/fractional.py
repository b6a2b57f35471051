"""Regular two-level fractional factorial designs, and what their effects are confounded with.

A fraction 2^(k-p) varies its first k - p factors in full; each further factor is the product of
some of those, its generator. The generators are the standard ones of least aberration (Box, Hunter
and Hunter, Statistics for Experimenters; Montgomery, Design and Analysis of Experiments, appendix
of alias relationships): no other choice confounds fewer effects of low order. Of the 2^p fractions
with the same words, the one is taken that contains the run in which every factor is low, so that a
baseline made of the low levels is one of its runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Word = frozenset[int]
"""Factors by number; as an effect, their interaction."""

RESOLUTIONS = {"III": 3, "IV": 4, "V": 5}
ROMAN = {3: "III", 4: "IV", 5: "V", 6: "VI", 7: "VII", 8: "VIII", 9: "IX", 10: "X", 11: "XI"}

GENERATORS: dict[tuple[int, int], str] = {
    (3, 1): "AB",
    (4, 1): "ABC",
    (5, 1): "ABCD",
    (5, 2): "AB AC",
    (6, 1): "ABCDE",
    (6, 2): "ABC BCD",
    (6, 3): "AB AC BC",
    (7, 1): "ABCDEF",
    (7, 3): "ABC BCD ACD",
    (7, 4): "AB AC BC ABC",
    (8, 2): "ABCD ABEF",
    (8, 4): "BCD ACD ABC ABD",
    (9, 2): "ACDFG BCEFG",
    (9, 4): "BCDE ACDE ABDE ABCE",
    (9, 5): "ABC BCD ACD ABD ABCD",
    (10, 3): "ABCG BCDE ACDF",
    (10, 5): "ABCD ABCE ABDE ACDE BCDE",
    (10, 6): "ABC BCD ACD ABD ABCD AB",
    (11, 4): "ABCG BCDE ACDF ABCDEFG",
    (11, 6): "ABC BCD CDE ACD ADE BDE",
    (11, 7): "ABC BCD ACD ABD ABCD AB AC",
}
"""(factors, generated factors) -> a word for each generated factor; A is the first factor."""

MOST = max(factors for factors, _ in GENERATORS)


@dataclass(frozen=True)
class Fraction:
    """`generators[i]` is the product that factor `factors - len(generators) + i` equals."""

    factors: int
    generators: tuple[Word, ...]

    @property
    def base(self) -> int:
        """The factors that are varied in full."""
        return self.factors - len(self.generators)

    def runs(self) -> list[tuple[bool, ...]]:
        """Which factors are high, run by run; the first factor changes slowest."""
        return [
            (*run, *(sum(run[i] for i in word) % 2 == 1 for word in self.generators))
            for run in itertools.product((False, True), repeat=self.base)
        ]

    def defining(self) -> list[Word]:
        """The products of factors that are the same in all runs, shortest first."""
        words = [word | {self.base + i} for i, word in enumerate(self.generators)]
        out = []
        for size in range(1, len(words) + 1):
            for some in itertools.combinations(words, size):
                product: Word = frozenset()
                for word in some:
                    product ^= word
                out.append(product)
        return sorted(out, key=_order)

    @property
    def resolution(self) -> int:
        """An effect of order n is confounded with none of an order below resolution - n."""
        return min(len(word) for word in self.defining())

    def aliases(self) -> list[tuple[Word, list[tuple[int, Word]]]]:
        """For each main effect and two-factor interaction the effects it cannot be told from, with
        their signs: those of order one and two, or where there are none those of the lowest order.

        What is confounded with an effect above it in the list stands there only.
        """
        words = self.defining()
        factors = range(self.factors)
        effects = [frozenset(some) for n in (1, 2) for some in itertools.combinations(factors, n)]
        seen: set[Word] = set()
        out = []
        for effect in effects:
            if effect in seen:
                continue
            same = [(sign(word), word ^ effect) for word in words]
            lowest = max(2, min(len(other) for _, other in same))
            shown = sorted((s for s in same if len(s[1]) <= lowest), key=lambda s: _order(s[1]))
            seen |= {other for _, other in shown}
            out.append((effect, shown))
        return out


def sign(word: Word) -> int:
    """The value of a defining product, low counting as -1: that of the run with all factors low."""
    return 1 if len(word) % 2 == 0 else -1


def fraction(factors: int, resolution: int) -> Fraction | None:
    """The smallest fraction with at least this resolution; None: there is none that is smaller than
    the full factorial, or no standard one for so many factors."""
    fitting = [
        made
        for (k, _), words in GENERATORS.items()
        if k == factors
        for made in [Fraction(k, tuple(_word(word) for word in words.split()))]
        if made.resolution >= resolution
    ]
    return min(fitting, key=lambda made: made.base, default=None)


def named(word: Word, names: Sequence[str]) -> str:
    """`norm × neck`."""
    return " × ".join(names[i] for i in sorted(word))


def _word(letters: str) -> Word:
    return frozenset("ABCDEFGHIJK".index(letter) for letter in letters)


def _order(word: Word) -> tuple[int, list[int]]:
    return len(word), sorted(word)
