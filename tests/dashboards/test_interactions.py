"""On what effects depend, by hand; and what a fractional design estimates and confounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from dashboards.effects import axis_effects
from dashboards.interactions import Interaction, interactions
from dashboards.study import Axis, Study
from orchestrator.planning.summary import aliases_json
from orchestrator.sweep.axes import Level
from orchestrator.sweep.design import Block, Run, Screen
from orchestrator.sweep.fractional import fraction
from orchestrator.sweep.rules import Excluded
from tests.dashboards.made import Seed, study
from tests.dashboards.test_effects import AXES, BASE, factorial, limit


def two_by_two(more: float, d: float) -> Study:
    """loss: +0.01 at batch 2 and +0.01 + more at batch 8; residuals of size d as in `factorial`."""
    axes = {"loss": ["l1", "giou"], "batch": ["2", "8"]}
    means = {("l1", "2"): 0.3, ("l1", "8"): 0.32, ("giou", "2"): 0.31, ("giou", "8"): 0.33 + more}
    signs = (1, -1, -1, 1)
    arms: dict[tuple[str, ...], list[Seed]] = {
        levels: [mean + sign * d, mean + 0.01 - sign * d]
        for (levels, mean), sign in zip(means.items(), signs, strict=True)
    }
    return study(arms, axes, ("l1", "2"), min_effect=0.004)


def test_the_effect_depends_on_the_batch() -> None:
    """Residuals +-0.001 in 8 cells, 3 degrees of freedom: variance 8 d^2 / 3. A difference of
    differences of four arms with two seeds: four halves of it, error d sqrt(16 / 3) = 0.0023094;
    one interaction: t(0.975; 3) = 3.1824."""
    (found,) = interactions(two_by_two(0.02, 0.001))
    half = 3.1824 * 0.0023094
    assert found.difference == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half), rel=1e-4)
    assert found.verdict == "depends"
    (a, b), (c, d) = found.means
    assert (a, b, c, d) == pytest.approx((0.305, 0.325, 0.315, 0.355))
    assert found.words == (
        "the effect of loss=giou depends on batch: +0.010 at 2, +0.030 at 8, "
        "a difference of +0.020 ± 0.007"
    )
    assert (found.planned, found.contexts, found.seeds, found.aliased) == (1, 1, 2, ())
    (open_,) = interactions(two_by_two(0.005, 0.001))
    assert open_.verdict == "open"
    # claim: 0.0073495 / 0.005 = 1.46990 squared x 2 = 4.3 seeds: 3 more
    assert open_.more == 3
    assert open_.words.endswith("a difference of +0.005 ± 0.007; needs about 3 more seeds")
    # t(0.90; 3) = 1.6377: 0.0001 + 1.6377 x 0.00023094 < 0.004
    (none,) = interactions(two_by_two(0.0001, 0.0001))
    assert none.verdict == "not separable"
    assert none.words.startswith("the effect of loss=giou is not seen to depend on batch: ")


def test_an_interaction_is_over_all_contexts_with_four_arms() -> None:
    arms = factorial(0.0033)
    for levels in arms:
        if levels[0] == "gn" and levels[1] == "8":
            arms[levels] = [v + 0.03 for v in arms[levels] if isinstance(v, float)]
    arms["evo", "8", "giou"] = ["diverged", "diverged"]
    found = interactions(study(arms, AXES, BASE))
    by = {(i.level, i.by_level): i for i in found}
    assert list(by) == [
        ("gn", "8"),
        ("evo", "8"),
        ("gn", "giou"),
        ("evo", "giou"),
        ("8", "giou"),
    ]
    assert (by["gn", "8"].planned, by["gn", "8"].contexts) == (2, 2)
    assert (by["evo", "8"].planned, by["evo", "8"].contexts) == (2, 1)
    assert by["gn", "8"].difference == pytest.approx(0.03)
    assert (by["gn", "8"].verdict, by["gn", "giou"].verdict) == ("depends", "not separable")


def test_what_can_never_be_estimated_costs_the_others_nothing() -> None:
    """Where gn never converges at batch 8, whether gn depends on batch is never known: the family
    is that of evo alone, with Student's t. 5 arms x 3 seeds: t(0.975; 8) = 2.3060."""
    axes = {"norm": ["bn", "gn", "evo"], "batch": ["2", "8"]}
    wobble = [(1, -1, 0), (-1, 0, 1), (0, 1, -1), (1, 0, -1), (-1, 1, 0)]
    names = [(n, b) for n in axes["norm"] for b in axes["batch"] if (n, b) != ("gn", "8")]
    arms: dict[tuple[str, ...], list[Seed]] = {
        levels: [0.3 + 0.001 * w for w in of] for levels, of in zip(names, wobble, strict=True)
    }
    arms["gn", "8"] = ["diverged", "diverged", "stalled"]
    gn, evo = interactions(study(arms, axes, ("bn", "2")))
    assert (gn.verdict, gn.difference, gn.contexts) == ("open", None, 0)
    assert gn.why == "cannot be estimated: norm=gn batch=8 never converged"
    assert gn.words.endswith("is open; cannot be estimated: norm=gn batch=8 never converged")
    # the seeds' means are 0, 0.2 and -0.2 d: of the squares, 10 d^2, 5 x 0.08 d^2 are the seeds'
    error = 0.001 * math.sqrt((10 - 0.4) / 8 * 4 / 3)
    assert evo.half == pytest.approx(2.3060 * error, rel=1e-4)


# ---------------------------------------------------------------- fractions


def level(label: str | bool | int) -> Level:
    return Level(label, (), {}, ())


def screen(resolution: int, excluded: bool = False) -> tuple[dict[str, list[str]], list[object]]:
    """The plan's words on a fraction of four two-level axes; `d` has its baseline at the high
    level."""
    names = {"a": (1, 2), "b": (False, True), "c": ("x", "y"), "d": ("p", "q")}
    made = fraction(4, resolution)
    assert made is not None
    levels = {
        n: (Level(low, (), {}, ()), Level(high, (), {}, ())) for n, (low, high) in names.items()
    }
    runs = tuple(Run({}, ()) for _ in made.runs())
    block = Block("screen", "fractional", (), (0, 1), runs, Screen(made, levels))
    left = [Excluded("", {}, ("screen",), "no")] if excluded else []
    axes = {n: [str(v).lower() for v in pair] for n, pair in names.items()}
    return axes, list(aliases_json([block], left))


def screened(values: Mapping[tuple[bool, ...], float], **more: bool) -> Study:
    axes, aliases = screen(4, **more)
    arms: dict[tuple[str, ...], list[Seed]] = {}
    for n, (run, value) in enumerate(values.items()):
        levels = tuple(pair[high] for pair, high in zip(axes.values(), run, strict=True))
        wobble = 0.001 * (-1) ** bin(n).count("1")
        arms[levels] = [value + wobble, value + 0.01 - wobble]
    return study(arms, axes, ("1", "false", "x", "p"), aliases=tuple(aliases))


def planted() -> dict[tuple[bool, ...], float]:
    """The half fraction d = abc: a +0.02, b -0.01, and a × b: +0.03 when both are high."""
    made = fraction(4, 4)
    assert made is not None
    return {r: 0.3 + 0.02 * r[0] - 0.01 * r[1] + 0.03 * (r[0] and r[1]) for r in made.runs()}


def test_a_fraction_estimates_effects_and_says_what_they_are_confounded_with() -> None:
    of = screened(planted())
    assert len(of.arms) == 8
    found = {e.axis: e for e in axis_effects(of)}
    # half of the runs with b low and half with it high: a is +0.02 and half of 0.03
    expected = {"a": 0.035, "b": 0.005, "c": 0.0, "d": 0.0}
    assert {n: e.difference for n, e in found.items()} == pytest.approx(expected, abs=1e-12)
    assert {(e.basis, e.planned, e.pairs, e.rows) for e in found.values()} == {
        ("fraction", 8, 8, ())
    }
    assert found["a"].aliased == ("b × c × d",)
    assert found["a"].words == (
        f"2: better, +0.035 ± {found['a'].half:.3f} over 8 runs; not told apart from b × c × d"
    )
    # residuals +-0.001 in 16 cells, df 7: variance 16 d^2 / 7; eight arms weigh 1/4: a quarter
    error = 0.001 * math.sqrt(16 / 7 / 4)
    assert found["a"].half == pytest.approx(limit(7, 1, 1, 1, 1) * error, rel=1e-4)
    crossed = {(i.axis, i.by_axis): i for i in interactions(of)}
    assert len(crossed) == 6
    assert crossed["a", "b"].difference == pytest.approx(0.03)
    assert crossed["c", "d"].difference == pytest.approx(0.03)  # nobody can tell which it is
    assert crossed["a", "c"].difference == pytest.approx(0.0, abs=1e-12)
    assert crossed["a", "b"].aliased == ("c × d",)
    assert crossed["c", "d"].aliased == ("a × b",)
    assert crossed["a", "b"].words.endswith("; not told apart from c × d")
    (low, _), (high, both) = crossed["a", "b"].means
    # a = b = low: 0.3; the seeds' 0.01 is in half
    assert (low, high, both) == pytest.approx((0.305, 0.325, 0.345))
    # of six interactions three are the others again: a family of three
    twice = limit(7, 1, 1, 1) * 2 * error
    assert crossed["a", "c"].half == pytest.approx(twice, rel=1e-4)


def test_an_alias_with_its_sign_turned_and_a_baseline_at_the_high_level() -> None:
    """Three axes in four runs of resolution III: c = -ab, so that a stands for -(b × c)."""
    made = fraction(3, 3)
    assert made is not None
    names = {"a": ("1", "2"), "b": ("1", "2"), "c": ("1", "2")}
    levels = {
        n: (Level(low, (), {}, ()), Level(high, (), {}, ())) for n, (low, high) in names.items()
    }
    runs = tuple(Run({}, ()) for _ in made.runs())
    aliases = aliases_json([Block("s", "fractional", (), (0,), runs, Screen(made, levels))], [])
    arms: dict[tuple[str, ...], list[Seed]] = {
        tuple("12"[h] for h in run): [0.3 + 0.02 * run[0], 0.312 + 0.02 * run[0]]
        for run in made.runs()
    }
    of = study(arms, {n: list(pair) for n, pair in names.items()}, None, aliases=tuple(aliases))
    axes = tuple(Axis(n, pair, "2" if n == "a" else "1") for n, pair in names.items())
    a, b, _ = axis_effects(replace(of, axes=axes))
    assert (a.level, a.against, a.difference) == ("1", "2", pytest.approx(-0.02))
    assert a.aliased == ("-b × c",)
    assert b.aliased == ("-a × c",)


def test_a_fraction_with_runs_missing_tells_nothing() -> None:
    values = planted()
    of = screened(values)
    last = of.arms[-1]
    gone = replace(last, cells=tuple(replace(c, outcome="diverged") for c in last.cells))
    for e in axis_effects(replace(of, arms=(*of.arms[:-1], gone))):
        assert (e.verdict, e.difference, e.pairs) == ("open", None, 7)
        assert e.why == "a fraction needs a value of each of its 8 runs in some seed"
    values.pop(next(iter(values)))
    for e in axis_effects(screened(values, excluded=True)):
        assert e.why == "1 of 8 runs are left out of the fraction"


def test_a_plan_in_another_form_is_passed_over() -> None:
    _, aliases = screen(4)
    good = aliases[0]
    assert isinstance(good, dict)
    broken: list[object] = [
        3,
        {},
        {**good, "factors": {"a": [1]}},
        {**good, "defining": ["a × nothing"]},
        {**good, "aliases": [{"effect": "a"}]},
    ]
    of = replace(screened(planted()), aliases=tuple(broken))
    assert axis_effects(of) == interactions(of) == []
    assert isinstance(interactions(replace(of, aliases=(good,)))[0], Interaction)
