"""Fractions against their own columns, and the table of generators against a search."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from orchestrator.sweep.fractional import GENERATORS, RESOLUTIONS, Fraction, Word, fraction, sign

ALL = [
    Fraction(k, tuple(frozenset("ABCDEFGHIJK".index(c) for c in w) for w in words.split()))
    for (k, _), words in GENERATORS.items()
]
IDS = [f"{f.factors}-{len(f.generators)}" for f in ALL]


def column(made: Fraction, word: Word) -> tuple[int, ...]:
    """An effect's column of +1 and -1, from the runs alone."""
    return tuple(math.prod(1 if run[i] else -1 for i in word) for run in made.runs())


def effects(factors: int, most: int) -> list[Word]:
    return [
        frozenset(some)
        for n in range(1, most + 1)
        for some in itertools.combinations(range(factors), n)
    ]


@pytest.mark.parametrize("made", ALL, ids=IDS)
def test_main_effects_are_balanced_and_apart(made: Fraction) -> None:
    runs = made.runs()
    assert len(set(runs)) == len(runs) == 2 ** (made.factors - len(made.generators))
    assert (False,) * made.factors in runs
    columns = [column(made, frozenset([i])) for i in range(made.factors)]
    assert all(sum(c) == 0 for c in columns)
    for one, other in itertools.combinations(columns, 2):
        assert sum(a * b for a, b in zip(one, other, strict=True)) == 0


@pytest.mark.parametrize("made", ALL, ids=IDS)
def test_the_alias_table_is_what_the_columns_say(made: Fraction) -> None:
    columns = {effect: column(made, effect) for effect in effects(made.factors, 2)}
    told: Counter[frozenset[Word]] = Counter()
    for effect, same in made.aliases():
        assert same
        for value, other in same:
            assert column(made, other) == tuple(value * x for x in columns[effect])
        told[frozenset([effect, *(w for _, w in same if len(w) <= 2)])] += 1
    by_column: dict[tuple[int, ...], set[Word]] = {}
    for effect, values in columns.items():
        by_column.setdefault(max(values, tuple(-x for x in values)), set()).add(effect)
    assert told == Counter(frozenset(group) for group in by_column.values())


@pytest.mark.parametrize("made", ALL, ids=IDS)
def test_the_defining_products_are_constant(made: Fraction) -> None:
    words = made.defining()
    assert len(set(words)) == len(words) == 2 ** len(made.generators) - 1
    for word in words:
        assert set(column(made, word)) == {sign(word)}


def pattern(words: list[int], most: int) -> list[int]:
    """How many products of the words have 1, 2, ... letters."""
    products = [0]
    for word in words:
        products += [product ^ word for product in products]
    lengths = Counter(product.bit_count() for product in products[1:])
    return [lengths[n] for n in range(1, most + 1)]


SEARCHED = [key for key in GENERATORS if key not in ((10, 3), (11, 4), (11, 6))]  # too many


@pytest.mark.parametrize(("factors", "generated"), SEARCHED)
def test_no_other_generators_confound_less(factors: int, generated: int) -> None:
    """Aberration: the numbers of words of length 1, 2, ... compared from the left."""
    made = next(f for f in ALL if (f.factors, len(f.generators)) == (factors, generated))
    base = made.base
    candidates = [c for c in range(1, 1 << base) if c.bit_count() > 1]
    best = min(
        pattern([c | 1 << base + i for i, c in enumerate(chosen)], factors)
        for chosen in itertools.combinations(candidates, generated)
    )
    mine = [sum(1 << i for i in word) | 1 << base + j for j, word in enumerate(made.generators)]
    assert pattern(mine, factors) == best


RUNS = {  # the smallest designs in the tables of Box, Hunter and Hunter
    3: {"III": 4},
    4: {"III": 8, "IV": 8},
    5: {"III": 8, "IV": 16, "V": 16},
    6: {"III": 8, "IV": 16, "V": 32},
    7: {"III": 8, "IV": 16, "V": 64},
    8: {"III": 16, "IV": 16, "V": 64},
    9: {"III": 16, "IV": 32, "V": 128},
    10: {"III": 16, "IV": 32, "V": 128},
    11: {"III": 16, "IV": 32, "V": 128},
}


@pytest.mark.parametrize("factors", [1, 2, *RUNS, 12])
def test_the_smallest_fraction_of_a_resolution(factors: int) -> None:
    found = {
        name: len(made.runs())
        for name, number in RESOLUTIONS.items()
        for made in [fraction(factors, number)]
        if made is not None
    }
    assert found == RUNS.get(factors, {})
