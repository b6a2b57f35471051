"""The key `tune` of a sweep file: nuisance parameters, such as a factor of the learning rate, that
are tuned with an equal budget in every arm before the arms are compared.

Without it an ablation compares how well arms bear the learning rate of one of them. What is chosen
here is chosen under a seed of its own and on training images that are held out, so the images and
the seeds that judge the arms have no part in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from detcore.config import nearest
from detcore.result import METRICS
from orchestrator.sweep.axes import Axis, Label, check_name, text_of
from orchestrator.sweep.derive import Line, behind
from orchestrator.sweep.document import EXPONENT, Document, KeyPath
from orchestrator.sweep.rules import Rule

KEYS = ("nuisance", "default", "per", "steps", "share", "seed", "select_on", "holdout")

Number = int | float
Values = Mapping[str, Number]
"""A value for each nuisance parameter."""

Group = tuple[str, ...]
"""The levels of the axes `per`, as tables show them: arms that share a tuning."""


@dataclass(frozen=True)
class Tune:
    nuisance: Mapping[str, tuple[Number, ...]]  # name in expressions -> candidates, rising
    default: Values  # where nothing is chosen
    per: tuple[str, ...]  # axes in the sweep's order; arms that agree in them share a tuning
    steps: int | None  # of a tuning cell; None: `share` of its arm's
    share: float
    seed: int
    select_on: str  # one of the 12 COCO metrics, on the images held out
    goal: Literal["max", "min"]
    holdout: float  # the share of the training images that is held out

    def candidates(self) -> list[Values]:
        """Every combination of the candidates: as many for each group of arms."""
        return [
            dict(zip(self.nuisance, values, strict=True))
            for values in itertools.product(*self.nuisance.values())
        ]

    def group(self, axes: Mapping[str, Label]) -> Group:
        """The group of the arm that has these levels."""
        return tuple(text_of(axes[name]) for name in self.per)


def read_tune(
    document: Document,
    axes: Sequence[Axis],
    seeds: Collection[int],
    metric: str,
    goal: Literal["max", "min"],
) -> Tune | None:
    """The section `tune`, None where there is none. `seeds` are those of the sweep, `metric` and
    `goal` what it compares. Raises SweepError."""
    if "tune" not in document.data:
        return None
    given = document.data["tune"]
    if not isinstance(given, dict):
        raise document.error(("tune",), f"must be a mapping; choices: {', '.join(KEYS)}")
    for key in given:
        if key not in KEYS:
            hint = nearest(str(key), list(KEYS))
            raise document.error(("tune", str(key)), f"unknown key {key!r}; {hint}")
    nuisance = _nuisance(document, axes, given.get("nuisance"))
    if "steps" in given and "share" in given:
        raise document.error(("tune", "share"), "give `steps` or `share`, not both")
    select_on = given.get("select_on", metric)
    if select_on not in METRICS:
        hint = nearest(str(select_on), list(METRICS))
        raise document.error(("tune", "select_on"), f"unknown metric {select_on!r}; {hint}")
    return Tune(
        nuisance=nuisance,
        default=_default(document, nuisance, given.get("default", {})),
        per=_per(document, axes, given.get("per")),
        steps=_whole(document, ("tune", "steps"), given["steps"], 1) if "steps" in given else None,
        share=_share(document, "share", given.get("share", 0.25), whole=True),
        seed=_seed(document, given.get("seed", 1000), seeds),
        select_on=select_on,
        goal=goal if select_on == metric else "max",
        holdout=_share(document, "holdout", given.get("holdout", 0.1), whole=False),
    )


def check_tune(
    document: Document,
    tune: Tune,
    lines: Sequence[Line],
    rules: Iterable[Rule],
    resources: Iterable[Line],
    read_by_set: Collection[str],
) -> None:
    """Raise SweepError for a nuisance parameter that no setting reads (`read_by_set` are the names
    in the expressions of `set`), and where one would decide which arms there are or what they
    reserve: both are known before anything is tuned."""
    names = set(tune.nuisance)
    asked = [((*rule.at, "if"), rule.expr.names, "which arms there are") for rule in rules]
    computed = [line for line in lines if line.name == "workers"]
    asked += [(r.at, r.expr.names, "what a cell reserves") for r in (*computed, *resources)]
    for at, read, what in asked:
        if found := sorted(names & behind(lines, read)):
            raise document.error(at, f"depends on {found[0]}, which is tuned; {what} must not")
    reached = behind(lines, read_by_set)
    for name in tune.nuisance:
        if name not in reached:
            raise document.error(
                ("tune", "nuisance", name),
                f"no setting of `set` depends on {name}; write for example "
                f"set: {{optim.lr: =0.01 * {name}}}",
            )


# ---------------------------------------------------------------- the parts


def _nuisance(
    document: Document, axes: Sequence[Axis], given: Any
) -> dict[str, tuple[Number, ...]]:
    at: KeyPath = ("tune", "nuisance")
    if not isinstance(given, dict) or not given:
        problem = f"must map names to values, for example {{lr_mult: [0.5, 1, 2]}}, is {given!r}"
        raise document.error(at, problem if given is not None else f"is missing; it {problem}")
    taken = {name: f"axis {axis.name}" for axis in axes for name in axis.levels[0].names}
    taken |= {axis.name: f"axis {axis.name}" for axis in axes}
    derive = document.data.get("derive", {})
    taken |= dict.fromkeys(derive if isinstance(derive, dict) else (), "a line of derive")
    for name in given:
        here = (*at, str(name))
        check_name(document, here, name)
        if name in taken:
            raise document.error(here, f"the name {name!r} is taken by {taken[name]}")
    return {name: _candidates(document, (*at, name), values) for name, values in given.items()}


def _candidates(document: Document, at: KeyPath, given: Any) -> tuple[Number, ...]:
    if not isinstance(given, list) or len(given) < 2:
        what = "one value tunes nothing, " if isinstance(given, list) and given else ""
        raise document.error(at, f"{what}must be a list of two values or more, is {given!r}")
    for i, value in enumerate(given):
        _number(document, (*at, str(i)), value)
        if value in given[:i]:
            raise document.error((*at, str(i)), f"the value {value} is given twice")
    return tuple(sorted(given))


def _number(document: Document, at: KeyPath, value: Any) -> None:
    if isinstance(value, str) and EXPONENT.fullmatch(value):
        problem = f"YAML reads {value} as text, write {float(value):.1e} without quotes"
        raise document.error(at, problem)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise document.error(at, f"must be a number, is {value!r}")


def _default(
    document: Document, nuisance: Mapping[str, tuple[Number, ...]], given: Any
) -> dict[str, Number]:
    at = ("tune", "default")
    if not isinstance(given, dict):
        names = ", ".join(f"{name}: {values[0]}" for name, values in nuisance.items())
        raise document.error(at, f"must map names to values, as {{{names}}}, is {given!r}")
    for name in given:
        if name not in nuisance:
            hint = nearest(str(name), list(nuisance))
            raise document.error((*at, str(name)), f"is not tuned; {hint}")
    out: dict[str, Number] = {}
    for name, values in nuisance.items():
        choices = ", ".join(map(str, values))
        if name not in given and 1 not in values:
            raise document.error(
                (*at, name),
                f"is missing: the value of {name} where none converges (1 is not in its list); "
                f"choices: {choices}",
            )
        value = given.get(name, 1)
        if isinstance(value, bool) or value not in values:
            raise document.error((*at, name), f"{value!r} is not in its list; choices: {choices}")
        out[name] = value
    return out


def _per(document: Document, axes: Sequence[Axis], given: Any) -> tuple[str, ...]:
    at = ("tune", "per")
    names = [axis.name for axis in axes]
    if not isinstance(given, list) or not given:
        problem = f"must be a list of axes, is {given!r}" if given is not None else "is missing"
        raise document.error(
            at, f"{problem}; arms that differ in these are tuned apart; choices: {', '.join(names)}"
        )
    for i, name in enumerate(given):
        if name not in names:
            hint = nearest(str(name), names)
            raise document.error((*at, str(i)), f"unknown axis {name!r}; {hint}")
        if name in given[:i]:
            raise document.error((*at, str(i)), f"axis {name} is given twice")
    return tuple(name for name in names if name in given)


def _seed(document: Document, given: Any, seeds: Collection[int]) -> int:
    seed = _whole(document, ("tune", "seed"), given, 0)
    if seed in seeds:
        raise document.error(
            ("tune", "seed"),
            f"{seed} is one of the sweep's seeds; what is tuned under a seed looks better under it",
        )
    return seed


def _whole(document: Document, at: KeyPath, given: Any, least: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise document.error(at, f"must be a whole number of at least {least}, is {given!r}")
    return given


def _share(document: Document, key: str, given: Any, *, whole: bool) -> float:
    """Above 0 and below 1; with `whole` also 1."""
    _number(document, ("tune", key), given)
    if not 0 < given < 1 and not (whole and given == 1):
        limits = "above 0 and at most 1" if whole else "above 0 and below 1"
        raise document.error(("tune", key), f"must be a share {limits}, is {given}")
    return float(given)
