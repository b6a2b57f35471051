"""The key `design` of a sweep file: which arms there are, as blocks that are united."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detcore.config import nearest
from orchestrator.sweep.axes import Axis, Level, text_of
from orchestrator.sweep.conditions import Choice
from orchestrator.sweep.document import Document, KeyPath
from orchestrator.sweep.fractional import MOST, RESOLUTIONS, Fraction, fraction

MAX_CELLS = 100_000


@dataclass(frozen=True)
class Run:
    """One arm that a block asks for: the levels it names. All else is at the baseline."""

    levels: Mapping[str, Level]
    at: KeyPath
    name: str | None = None  # what the file calls this arm
    strict: bool = False  # a level of an axis that the arm does not have is a mistake


@dataclass(frozen=True)
class Screen:
    """What a fractional block varies: `low` and `high` of each factor."""

    fraction: Fraction
    levels: Mapping[str, tuple[Level, Level]]


@dataclass(frozen=True)
class Block:
    id: str
    kind: str
    at: KeyPath
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    screen: Screen | None = None
    extends: bool = True  # without seeds of its own: its arms may get further ones


@dataclass(frozen=True)
class Place:
    """What a reader of a block needs to know: where it stands, and in which sweep."""

    document: Document
    at: KeyPath
    axes: Mapping[str, Axis]
    baseline: Choice  # resolved: axes that the baseline arm does not have are absent

    def axis(self, name: object, at: KeyPath) -> Axis:
        if not isinstance(name, str) or name not in self.axes:
            hint = nearest(str(name), [*self.axes])
            raise self.document.error(at, f"unknown axis {name!r}; {hint}")
        return self.axes[name]

    def level(self, axis: Axis, label: object, at: KeyPath) -> Level:
        level = axis.level(label)
        if level is None:
            hint = nearest(str(label), axis.labels())
            raise self.document.error(at, f"unknown level {label!r}; {hint}")
        return level

    def chosen(self, given: Any, at: KeyPath) -> list[Axis]:
        if not isinstance(given, list) or not given:
            raise self.document.error(at, f"must be a list of axes, is {given!r}")
        for j, name in enumerate(given):
            self.axis(name, (*at, str(j)))
            if name in given[:j]:
                raise self.document.error((*at, str(j)), f"axis {name} is given twice")
        return [self.axes[name] for name in given]

    def levels(self, given: Any, at: KeyPath) -> dict[str, Level]:
        """`{axis: level}`."""
        if not isinstance(given, dict) or not given:
            raise self.document.error(at, f"must map axes to levels, is {given!r}")
        return {
            axis.name: self.level(axis, label, (*at, axis.name))
            for name, label in given.items()
            for axis in [self.axis(name, (*at, str(name)))]
        }


def read_design(
    document: Document, axes: Sequence[Axis], baseline: Choice, seeds: tuple[int, ...]
) -> tuple[Block, ...]:
    """The blocks of `design`; left out, every combination of levels. Raises SweepError."""
    given = document.data.get("design", [{"factorial": [axis.name for axis in axes]}])
    if not isinstance(given, list) or not given:
        raise document.error(("design",), f"must be a list of blocks, is {given!r}")
    by_name = {axis.name: axis for axis in axes}
    blocks: list[Block] = []
    for i, body in enumerate(given):
        place = Place(document, ("design", str(i)), by_name, baseline)
        blocks.append(_block(place, body, seeds, [block.id for block in blocks]))
    return tuple(blocks)


def _block(place: Place, body: Any, seeds: tuple[int, ...], taken: list[str]) -> Block:
    document, at = place.document, place.at
    if not isinstance(body, dict):
        raise document.error(at, f"must be a mapping such as {{factorial: [axes]}}, is {body!r}")
    choices = [*BLOCKS, "id", "seeds"]
    for key in body:
        if key not in choices:
            hint = nearest(str(key), choices)
            raise document.error((*at, str(key)), f"unknown key {key!r}; {hint}")
    kinds = [key for key in body if key in BLOCKS]
    if len(kinds) != 1:
        found = f"has {' and '.join(kinds)}" if kinds else "has none"
        raise document.error(at, f"a block is one of {', '.join(BLOCKS)}; this one {found}")
    kind = kinds[0]
    id_ = body.get("id", _free(kind, taken))
    if not isinstance(id_, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,49}", id_):
        problem = f"must be letters, digits, _ - and . (at most 50), is {id_!r}"
        raise document.error((*at, "id"), problem)
    if id_ in taken:
        raise document.error((*at, "id"), f"the id {id_!r} is taken by block {taken.index(id_)}")
    mine = _seeds(place, body["seeds"], seeds) if "seeds" in body else seeds
    screen, runs = BLOCKS[kind](place, body[kind], (*at, kind))
    if len(runs) * len(mine) > MAX_CELLS:
        raise _too_many(place, len(runs) * len(mine))
    return Block(id_, kind, at, mine, tuple(runs), screen, "seeds" not in body)


def _free(kind: str, taken: Sequence[str]) -> str:
    names = (kind if n == 1 else f"{kind}_{n}" for n in itertools.count(1))
    return next(name for name in names if name not in taken)


def _seeds(place: Place, given: Any, seeds: tuple[int, ...]) -> tuple[int, ...]:
    at = (*place.at, "seeds")
    if not isinstance(given, list) or not given:
        raise place.document.error(at, f"must be a list of seeds of the sweep, is {given!r}")
    for i, seed in enumerate(given):
        if isinstance(seed, bool) or seed not in seeds:
            have = ", ".join(map(str, seeds))
            raise place.document.error((*at, str(i)), f"unknown seed {seed!r}; choices: {have}")
        if seed in given[:i]:
            raise place.document.error((*at, str(i)), f"seed {seed} is given twice")
    return tuple(seed for seed in seeds if seed in given)


def _too_many(place: Place, count: int) -> Exception:
    return place.document.error(
        place.at if "design" in place.document.data else ("design",),
        f"{count} cells are too many, at most {MAX_CELLS}",
    )


# ---------------------------------------------------------------- the kinds of blocks

Reader = Callable[[Place, Any, KeyPath], tuple[Screen | None, list[Run]]]
"""From the value under the block's key, and its place, to the runs of the block."""


def _factorial(place: Place, given: Any, at: KeyPath) -> tuple[Screen | None, list[Run]]:
    """Every combination of the levels of some axes."""
    chosen = {axis.name for axis in place.chosen(given, at)}
    axes = [axis for axis in place.axes.values() if axis.name in chosen]  # the first is slowest
    count = math.prod(len(axis.levels) for axis in axes)
    if count > MAX_CELLS:
        raise _too_many(place, count)
    names = [axis.name for axis in axes]
    arms = itertools.product(*(axis.levels for axis in axes))
    return None, [Run(dict(zip(names, arm, strict=True)), at) for arm in arms]


def _one_at_a_time(place: Place, given: Any, at: KeyPath) -> tuple[Screen | None, list[Run]]:
    """The baseline, and every arm that differs from it in one of some axes."""
    runs = [Run({}, at)]
    for j, axis in enumerate(place.chosen(given, at)):
        start = place.baseline[axis.name]
        if start is axis.absent:
            raise place.document.error(
                (*at, str(j)),
                f"the baseline has no axis {axis.name}: its `when` does not hold there",
            )
        runs += [Run({axis.name: level}, at) for level in axis.levels if level is not start]
    return None, runs


def _leave_one_out(place: Place, given: Any, at: KeyPath) -> tuple[Screen | None, list[Run]]:
    """One arm, and that arm less one thing at a time."""
    document = place.document
    if not isinstance(given, dict) or set(given) != {"full", "remove"}:
        problem = f"must be {{full: {{axis: level}}, remove: {{axis: level}}}}, is {given!r}"
        raise document.error(at, problem)
    full = place.levels(given["full"], (*at, "full"))
    runs = [Run(full, (*at, "full"), strict=True)]
    for name, level in place.levels(given["remove"], (*at, "remove")).items():
        here = (*at, "remove", name)
        if level is full.get(name, place.baseline[name]):
            raise document.error(here, f"removes nothing: `full` has {text_of(level.label)!r} too")
        runs.append(Run({**full, name: level}, here))
    return None, runs


def _fractional(place: Place, given: Any, at: KeyPath) -> tuple[Screen | None, list[Run]]:
    """A fraction of all combinations of two levels of each axis."""
    document = place.document
    if not isinstance(given, dict) or set(given) != {"resolution", "levels"}:
        problem = f"must be {{resolution: V, levels: {{axis: [low, high]}}}}, is {given!r}"
        raise document.error(at, problem)
    resolution = given["resolution"]
    if not isinstance(resolution, str) or resolution not in RESOLUTIONS:
        raise document.error(
            (*at, "resolution"),
            f"unknown resolution {resolution!r}; choices: {', '.join(RESOLUTIONS)}",
        )
    levels = _factors(place, given["levels"], (*at, "levels"))
    made = fraction(len(levels), RESOLUTIONS[resolution])
    if made is None:
        many = len(levels) > MOST
        raise document.error(
            (*at, "levels"),
            f"there is no standard fraction of resolution {resolution} for {len(levels)} axes; "
            + (f"at most {MOST} can be screened" if many else "write them as `factorial`"),
        )
    runs = [
        Run({n: pair[high] for (n, pair), high in zip(levels.items(), run, strict=True)}, at)
        for run in made.runs()
    ]
    return Screen(made, levels), runs


def _factors(place: Place, given: Any, at: KeyPath) -> dict[str, tuple[Level, Level]]:
    document = place.document
    if not isinstance(given, dict) or not given:
        raise document.error(at, f"must map axes to [low, high], is {given!r}")
    out = {}
    for name, pair in given.items():
        here = (*at, str(name))
        axis = place.axis(name, here)
        if axis.when is not None:
            raise document.error(
                here, f"axis {name} has a `when`; a factor must be there in every run"
            )
        if not isinstance(pair, list) or len(pair) != 2:
            raise document.error(here, f"must be two levels, [low, high], is {pair!r}")
        low, high = (place.level(axis, label, (*here, str(i))) for i, label in enumerate(pair))
        if low is high:
            raise document.error(here, f"low and high are both {text_of(low.label)!r}")
        out[axis.name] = (low, high)
    return dict(sorted(out.items()))  # which is generated must not depend on the order of keys


def _include(place: Place, given: Any, at: KeyPath) -> tuple[Screen | None, list[Run]]:
    """Arms one by one, each by the levels in which it differs from the baseline."""
    if not isinstance(given, list) or not given:
        raise place.document.error(at, f"must be a list of {{axis: level}}, is {given!r}")
    runs = []
    for i, entry in enumerate(given):
        here = (*at, str(i))
        name = None
        if isinstance(entry, dict) and "name" not in place.axes:
            entry = {key: value for key, value in entry.items() if key != "name"}
            name = given[i].get("name")
        if name is not None and (not isinstance(name, str) or not name.strip().isprintable()):
            raise place.document.error((*here, "name"), f"must be one line of text, is {name!r}")
        levels = place.levels(entry, here)
        runs.append(Run(levels, here, name.strip() if name else None, strict=True))
    return None, runs


BLOCKS: dict[str, Reader] = {
    "factorial": _factorial,
    "one_at_a_time": _one_at_a_time,
    "leave_one_out": _leave_one_out,
    "fractional": _fractional,
    "include": _include,
}
