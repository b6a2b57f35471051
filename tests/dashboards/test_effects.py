"""Effects and interactions: worked examples, least squares by brute force, critical values by
integration, and families without any effect."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from dashboards.arms import on_target
from dashboards.effects import Effect, axis_effects
from dashboards.inference import compare, look_levels
from dashboards.inference.contrasts import Contrast, contrasts
from dashboards.inference.fit import fit
from dashboards.inference.variances import spread
from dashboards.interactions import interactions
from dashboards.study import Decided, Study
from tests.dashboards.hostile import NAMES
from tests.dashboards.made import Seed, study

AXES = {"norm": ["bn", "gn", "evo"], "batch": ["2", "8"], "loss": ["l1", "giou"]}
BASE = ("bn", "2", "l1")
EFFECTS = {"gn": 0.013, "evo": -0.002, "8": 0.02, "giou": 0.041}


def factorial(d: float, seeds: int = 2) -> dict[tuple[str, ...], list[Seed]]:
    """All 12 arms, effects that add up, seeds that differ by 0.01, and noise of +d in seed 0 and -d
    in seed 1 of every other arm, the opposite in the rest: residuals of size d, whose signs are in
    balance over the levels of `batch` (and of norm), so that no effect is moved."""
    arms: dict[tuple[str, ...], list[Seed]] = {}
    for n, levels in enumerate(itertools.product(*AXES.values())):
        mean = 0.3 + sum(EFFECTS.get(level, 0.0) for level in levels)
        sign = 1 if n % 2 else -1
        arms[levels] = [mean + 0.01 * s + sign * d * (1 if s % 2 else -1) for s in range(seeds)]
    return arms


def limit(df: int, *blocks: int, level: float = 0.05) -> float:
    """What the largest |t| exceeds with probability `level`, for comparisons in blocks of one or
    two: correlated by 1/2 within a block, not at all between them. By scipy's quadrature."""

    def both_within(h: float) -> float:  # X and Y given X, of two with correlation 1/2
        x = np.linspace(-h, h, 801)
        rest = math.sqrt(0.75)
        inside = stats.norm.cdf((h - x / 2) / rest) - stats.norm.cdf((-h - x / 2) / rest)
        return float(np.trapezoid(stats.norm.pdf(x) * inside, x))

    def inside(c: float) -> float:
        def given(s: float) -> float:
            one, two = 2 * stats.norm.cdf(c * s) - 1, both_within(c * s)
            density = stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df)
            return float(math.prod(two if n == 2 else one for n in blocks) * density)

        return float(integrate.quad(given, 0, 6, epsabs=1e-9, limit=200)[0])

    return float(optimize.brentq(lambda c: inside(c) - 1 + level, 1.0, 20.0, xtol=1e-6))


def effect(found: Sequence[Effect], level: str) -> Effect:
    return next(e for e in found if e.level == level)


# ---------------------------------------------------------------- worked examples


def test_better_in_6_of_6_pairs() -> None:
    """Residuals are +-0.0033 in 24 cells, with 11 degrees of freedom: variance 24 d^2 / 11. `loss`
    is the mean over six pairs of arms with two seeds: 12 arms weigh 1/6, each mean has half the
    variance: 12 / 36 / 2 = 1/6 of it, so that the error is d sqrt(24 / 66) = 0.0019900. Four
    effects, of which the two of `norm` share the arms of bn."""
    found = axis_effects(study(factorial(0.0033), AXES, BASE, min_effect=0.003))
    giou = effect(found, "giou")
    half = limit(11, 2, 1, 1) * 0.0033 * math.sqrt(24 / 66)
    assert giou.words == "giou: better in 6 of 6 pairs, +0.041 ± 0.006"
    assert giou.difference == pytest.approx(0.041)
    assert giou.half == pytest.approx(half, rel=1e-4)
    assert (giou.low, giou.high) == pytest.approx((0.041 - half, 0.041 + half), rel=1e-4)
    assert (giou.verdict, giou.small, giou.seeds, giou.p) == ("better", False, 2, giou.p)
    assert giou.p is not None
    assert giou.p < 1e-6
    assert (giou.planned, giou.pairs, giou.better, giou.worse, giou.equal) == (6, 6, 6, 0, 0)
    assert (giou.axis, giou.against, giou.basis, giou.warning) == ("loss", "l1", "pairs", "")
    assert [e.level for e in found] == ["gn", "evo", "8", "giou"]
    for e in found:  # noise is in balance: what was put in comes out
        assert e.difference == pytest.approx(EFFECTS[e.level])
    # four pairs of two levels of `norm`: 8 arms weigh 1/4: error d sqrt(24 / 11 / 4)
    wide = limit(11, 2, 1, 1) * 0.0033 * math.sqrt(24 / 44)
    assert effect(found, "gn").half == pytest.approx(wide, rel=1e-4)
    assert effect(found, "evo").verdict == "open"
    assert effect(found, "evo").words.startswith("evo: worse in 4 of 4 pairs, -0.002 ± 0.007; open")


def test_the_oracle_is_that_of_printed_tables() -> None:
    """The studentized maximum modulus of 2: 3.96 with 3 degrees of freedom, 3.09 with 5 (Stoline
    and Ury 1979, Technometrics 21). Dunnett's for two arms, 5 degrees of freedom: 3.03. Student's
    t with 3: 3.1824."""
    assert limit(3, 1, 1) == pytest.approx(3.960, abs=1e-3)
    assert limit(5, 1, 1) == pytest.approx(3.091, abs=1e-3)
    assert limit(5, 2) == pytest.approx(3.03, abs=5e-3)
    assert limit(3, 1) == pytest.approx(3.1824, abs=1e-4)


def test_correlations_that_no_one_factor_has_are_covered() -> None:
    """Two axes of three levels: two blocks of two. Four comparisons without any correlation have a
    larger critical value, by one in a hundred."""
    axes = {"norm": ["bn", "gn", "evo"], "neck": ["fpn", "pan", "none"]}
    rng = np.random.default_rng(0)
    arms: dict[tuple[str, ...], list[Seed]] = {
        levels: [float(v) for v in rng.normal(0.3, 0.01, 3)]
        for levels in itertools.product(*axes.values())
    }
    of = study(arms, axes, ("bn", "fpn"))
    values = np.array([list(seeds) for seeds in arms.values()])
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    error = math.sqrt(float((rest**2).sum()) / 16 * 2 / 9)  # two means of nine cells
    exact, wide = limit(16, 2, 2), limit(16, 1, 1, 1, 1)
    assert exact < wide < 1.02 * exact
    for e in axis_effects(of):
        assert e.half == pytest.approx(wide * error, rel=1e-4)


def test_the_pairs_behind_an_effect() -> None:
    """One pair: two arms of two seeds, so the error is sqrt(24 d^2 / 11) and the interval, which is
    for that pair alone, 2.2010 (t of 11 degrees of freedom) times that."""
    giou = effect(axis_effects(study(factorial(0.0033), AXES, BASE)), "giou")
    assert len(giou.rows) == 6
    assert {tuple(row.context.items()) for row in giou.rows} == {
        (("norm", n), ("batch", b)) for n in AXES["norm"] for b in AXES["batch"]
    }
    first = giou.rows[0]
    assert (first.arm, first.other, first.seeds, first.standing) == ("a1", "a0", 2, "better")
    assert first.difference == pytest.approx(0.041)
    assert first.half == pytest.approx(2.2010 * 0.0033 * math.sqrt(24 / 11), rel=1e-4)


def test_which_way_is_better_is_the_metric_s() -> None:
    arms = factorial(0.0033)
    down = effect(axis_effects(study(arms, AXES, BASE, goal="min")), "giou")
    assert (down.verdict, down.better, down.worse) == ("worse", 0, 6)
    assert down.words == "giou: worse in 6 of 6 pairs, +0.041 ± 0.006"
    other: dict[tuple[str, ...], list[Seed]] = {
        levels: [
            {"outcome": "converged", "metrics": {"mAP": 0.3, "gpu_hours": v}}  # type: ignore[dict-item]
            for v in seeds
        ]
        for levels, seeds in arms.items()
    }
    of = study(other, AXES, BASE)
    hours = effect(axis_effects(of, "gpu_hours"), "giou")  # fewer are better
    assert (hours.metric, hours.verdict, hours.difference) == (
        "gpu_hours",
        "worse",
        pytest.approx(0.041),
    )
    equal = effect(axis_effects(of), "giou")  # 0.3 everywhere
    assert (equal.equal, equal.verdict) == (6, "open")
    assert equal.words == (
        "giou: better in 0 of 6 pairs, +0.000; "
        "open (its seeds do not vary: nothing tells the noise)"
    )
    with pytest.raises(ValueError, match=r"unknown metric 'mPA'; choices: gpu_hours, mAP"):
        axis_effects(of, "mPA")


def test_with_one_seed_nothing_is_claimed() -> None:
    arms = {levels: seeds[:1] for levels, seeds in factorial(0.0).items()}
    for e in axis_effects(study(arms, AXES, BASE, min_effect=0.001)):
        assert (e.verdict, e.low, e.high, e.half, e.p) == ("open", None, None, None, None)
        assert e.words.endswith("; open (with one seed nothing can be claimed)")
    giou = effect(axis_effects(study(arms, AXES, BASE)), "giou")
    assert giou.words.startswith("giou: better in 6 of 6 pairs, +0.041; open")
    crossed = interactions(study(arms, AXES, BASE))
    assert {i.verdict for i in crossed} == {"open"}
    assert all(i.half is None and i.difference is not None for i in crossed)


def test_one_axis_is_the_table_of_arms() -> None:
    """Levels of one axis are arms against the baseline: the same numbers as the table has, with
    cells missing as well."""
    axes = {"norm": ["bn", "gn", "evo", "in"]}
    rng = np.random.default_rng(4)
    for case in range(12):
        arms: dict[tuple[str, ...], list[Seed]] = {}
        for i, level in enumerate(axes["norm"]):
            values: list[Seed] = [float(v) for v in rng.normal(0.3 + 0.004 * i, 0.004, 5)]
            if case and level != "bn":
                values[int(rng.integers(5))] = "diverged"
            arms[(level,)] = values
        of = study(arms, axes, ["bn"], min_effect=0.005)
        table = compare(of.observations("mAP"), "a0", min_effect=0.005)
        for number, e in enumerate(axis_effects(of), 1):
            arm = table[f"a{number}"]
            assert (e.difference, e.low, e.high, e.p) == pytest.approx(
                (arm.difference, arm.low, arm.high, arm.p), rel=1e-9
            )
            assert (e.verdict, e.more, e.small) == (arm.verdict, arm.more, arm.small)


# ---------------------------------------------------------------- least squares


def test_with_cells_missing_it_is_least_squares() -> None:
    """Against lstsq on dummies of arms and seeds, one seed left out for being their sum."""
    rng = np.random.default_rng(2)
    arms = {levels: [float(v) for v in rng.normal(0.3, 0.01, 4)] for levels in factorial(0.0)}
    for levels, seed in ((("gn", "2", "l1"), 0), (("evo", "8", "giou"), 3), (("bn", "8", "l1"), 1)):
        arms[levels][seed] = "diverged"  # type: ignore[call-overload]
    of = study(arms, AXES, BASE)  # type: ignore[arg-type]
    keys = list(arms)
    rows = [
        (a, s, v)
        for a, k in enumerate(keys)
        for s, v in enumerate(arms[k])
        if not isinstance(v, str)
    ]
    x = np.zeros((len(rows), 12 + 3))
    for n, (a, s, _) in enumerate(rows):
        x[n, a] = 1
        if s:
            x[n, 11 + s] = 1
    y = np.array([v for *_, v in rows])
    beta, *_ = np.linalg.lstsq(x, y, rcond=None)
    variance = float(((y - x @ beta) ** 2).sum()) / (len(rows) - 15)
    assert len(rows) - 15 == 30
    for e in axis_effects(of):
        c = np.zeros(15)
        axis = list(AXES).index(e.axis)
        for a, levels in enumerate(keys):
            if levels[axis] in (e.level, e.against):
                c[a] = 1 if levels[axis] == e.level else -1
        c /= (c > 0).sum()
        error = math.sqrt(variance * float(c @ np.linalg.inv(x.T @ x) @ c))
        assert e.difference == pytest.approx(float(c @ beta), abs=1e-12)
        # with cells missing the correlations are only nearly those of the whole design
        assert e.half == pytest.approx(limit(30, 2, 1, 1) * error, rel=1e-2)
        # what the pairs show is what the effect is the mean of
        shown = [row.difference for row in e.rows if row.difference is not None]
        assert len(shown) == e.pairs == len(e.rows)
        assert e.difference == pytest.approx(sum(shown) / len(shown), abs=1e-12)


def noise(rng: np.random.Generator) -> Study:
    arms: dict[tuple[str, ...], list[Seed]] = {}
    seeds = rng.normal(0, 0.01, 3)
    for levels in itertools.product(*AXES.values()):
        arms[levels] = [float(v) for v in 0.3 + seeds + rng.normal(0, 0.01, 3)]
    return study(arms, AXES, BASE)


def test_families_without_any_effect_make_a_claim_in_5_percent() -> None:
    """250 sweeps of 12 arms and 3 seeds: at most 5 % and three standard errors (0.091) have any
    false claim."""
    rng, false = np.random.default_rng(11), np.zeros(2)
    for _ in range(250):
        of = noise(rng)
        false += [
            any(e.verdict in ("better", "worse") for e in axis_effects(of)),
            any(i.verdict == "depends" for i in interactions(of)),
        ]
    assert (false / 250 <= 0.091).all()
    assert (false > 0).all()  # not by never claiming anything


LOOKS = (3, 4, 5, 6, 7, 8)


def looked_at(values: np.ndarray, looks: tuple[int, ...] = LOOKS) -> Study:
    """Two axes of two levels; `values`: 4 arms x seeds."""
    axes = {"norm": ["bn", "gn"], "batch": ["2", "8"]}
    arms: dict[tuple[str, ...], list[Seed]] = {
        levels: [float(v) for v in of_arm]
        for levels, of_arm in zip(itertools.product(*axes.values()), values, strict=True)
    }
    return study(arms, axes, ("bn", "2"), looks=looks)


def test_looking_again_and_again_is_allowed_for() -> None:
    """Residuals +-d in 4 arms x 4 seeds, 9 degrees of freedom: variance 16 d^2 / 9. An effect is
    over four means of four seeds with weights 1/2: a quarter of it, error 2 d / 3. The level is
    that for three looks at the three arms of the table; one look more tells nothing."""
    d, level = 0.001, look_levels(3, (2, 3, 4)).level
    assert 0.02 < level < 0.03
    signs = np.outer([1, -1, -1, 1], [1, -1, 1, -1])
    of = looked_at(0.3 + d * signs, (1, 2, 3, 4))
    for e in axis_effects(of):
        assert e.half == pytest.approx(limit(9, 1, 1, level=level) * 2 * d / 3, rel=1e-4)
        assert e.p is None  # one look's is not adjusted for the others
        for row in e.rows:  # of a pair no claim is made: t(0.975; 9), two means of four seeds
            error = math.sqrt(16 / 9 * 2 / 4) * d
            assert row.half == pytest.approx(2.2622 * error, rel=1e-4)
    (crossed,) = interactions(of)
    # four means with weight 1: error 4 d / 3
    assert crossed.half == pytest.approx(limit(9, 1, level=level) * 4 * d / 3, rel=1e-4)
    assert crossed.p is None
    for e in axis_effects(replace(of, looks=(4,))):
        assert e.half == pytest.approx(limit(9, 1, 1) * 2 * d / 3, rel=1e-4)
        assert e.p is not None


def test_six_looks_at_effects_that_are_not_there_make_a_claim_in_5_percent() -> None:
    """150 sweeps of 4 arms, looked at with 3 to 8 seeds: 0.05 and two standard errors (0.036).
    With the level of one look it was 0.15."""
    y = np.random.default_rng(5).standard_normal((150, 4, 8))
    false = sum(
        any(
            e.verdict in ("better", "worse")
            for n in LOOKS
            for e in axis_effects(looked_at(v[:, :n]))
        )
        for v in y
    )
    assert 0 < false / 150 <= 0.086


def test_many_arms_that_vary_unequally_tell_no_more_than_all_cells_do() -> None:
    """Each arm's variance is drawn towards the pooled one of 22 degrees of freedom. A contrast over
    12 arms has no more than those: t(0.975; 22) = 2.0739 times its standard error."""
    of = noise(np.random.default_rng(3))
    values = np.array([arm.values("mAP") for arm in of.arms])
    weights = np.where(np.arange(12) % 2, 1.0, -1.0) / 6
    spreads = spread(fit(values, weights[None]), "unequal")
    assert spreads.dfs[0] == 22  # Welch's, with the prior's added, are above 40
    asked = Contrast("", dict(zip([a.key for a in of.arms], weights.tolist(), strict=True)), 3)
    (found,) = contrasts(of.observations("mAP"), [asked], variances="unequal")
    assert found.high is not None
    assert found.difference is not None
    half = 2.0739 * spreads.errors[0]
    assert found.high - found.difference == pytest.approx(half, rel=1e-4)


# ---------------------------------------------------------------- failures


def test_failures_to_converge_are_told_and_not_averaged_away() -> None:
    arms = factorial(0.0033)
    arms["bn", "2", "l1"] = ["diverged", ("stalled", 90)]
    arms["gn", "8", "giou"] = ["diverged", 0.36]
    of = study(arms, AXES, BASE)
    giou = effect(axis_effects(of), "giou")
    assert (giou.planned, giou.pairs, giou.better) == (6, 5, 5)
    assert (giou.only_level_failed, giou.only_other_failed, giou.both_failed) == (0, 1, 0)
    assert (giou.level_failed, giou.other_failed) == (1, 2)
    assert giou.words.startswith("giou: better in 5 of 5 pairs, +0.0")
    assert ", in 1 pair only l1 did not converge" in giou.words
    batch = effect(axis_effects(of), "8")
    assert (batch.planned, batch.pairs, batch.only_other_failed) == (6, 5, 1)


def test_a_level_that_never_converges() -> None:
    arms = factorial(0.0033)
    for levels in arms:
        if levels[0] == "evo":
            arms[levels] = ["diverged", "diverged"]
    evo = effect(axis_effects(study(arms, AXES, BASE)), "evo")
    assert (evo.verdict, evo.difference, evo.only_level_failed) == ("did not converge", None, 4)
    assert evo.words == "evo: in 4 pairs only evo did not converge"
    # nothing is estimated of it, and it costs the others nothing: three effects
    gn = effect(axis_effects(study(arms, AXES, BASE)), "gn")
    # of 8 arms: 16 cells, df 7, variance 16 d^2 / 7, an eighth of ... 8 arms weigh 1/4: / 4
    half = limit(7, 1, 1, 1) * 0.0033 * math.sqrt(16 / 7 / 4)
    assert gn.half == pytest.approx(half, rel=1e-4)


def test_what_waits_is_neither_better_nor_failed() -> None:
    arms = factorial(0.0033)
    arms["bn", "2", "giou"] = [None, "running"]
    arms["gn", "2", "giou"] = ["crashed", "oom"]
    giou = effect(axis_effects(study(arms, AXES, BASE)), "giou")
    assert (giou.planned, giou.pairs, giou.only_level_failed, giou.level_failed) == (6, 4, 0, 0)
    assert "in 1 pair there is no result yet" in giou.words
    assert "in 1 pair no seed has a value in both arms" in giou.words  # and none will have
    assert giou.verdict == "better"
    evo = effect(axis_effects(study(arms, AXES, BASE)), "evo")
    assert evo.verdict == "open"  # there is more to come
    assert evo.more
    nothing = study({levels: [None] for levels in arms}, AXES, BASE)
    assert effect(axis_effects(nothing), "giou").words.startswith(
        "giou: in 6 pairs there is no result yet; open"
    )


def test_of_pairs_with_one_seed_each_nothing_is_claimed() -> None:
    """Both arms of the first pair have seed 0 only, those of the second seed 1 only: two seeds in
    all, and no pair that is seen twice. The third pair tells the noise, not that it is there."""
    axes = {"norm": ["bn", "gn"], "batch": ["1", "2", "4"]}
    arms: dict[tuple[str, ...], list[Seed]] = {
        ("bn", "1"): [0.30, "oom", "oom", 0.31],
        ("bn", "2"): ["oom", 0.30, "oom", 0.31],
        ("bn", "4"): [0.30, 0.301, 0.30, 0.31],
        ("gn", "1"): [0.40, "oom", 0.4, "oom"],
        ("gn", "2"): ["oom", 0.40, 0.401, "oom"],
        ("gn", "4"): ["oom", "oom", "oom", "oom"],
    }
    gn = effect(axis_effects(study(arms, axes, ("bn", "1"))), "gn")
    assert (gn.pairs, gn.seeds, gn.verdict) == (2, 1, "open")
    assert gn.why == "with one seed nothing can be claimed"
    assert gn.difference == pytest.approx(0.1, abs=0.01)
    assert gn.half is None
    (crossed,) = [i for i in interactions(study(arms, axes, ("bn", "1"))) if i.by_level == "2"]
    assert (crossed.contexts, crossed.difference, crossed.verdict) == (0, None, "open")


def test_a_pair_with_one_seed_is_left_out_where_others_have_more() -> None:
    """At batch 8 the difference is 0.02 and at batch 2, seen once, 0.5: said, not averaged."""
    axes = {"norm": ["bn", "gn"], "batch": ["2", "8"]}
    arms: dict[tuple[str, ...], list[Seed]] = {
        ("bn", "2"): [0.300, 0.301, 0.302],
        ("bn", "8"): [0.320, 0.321, 0.322],
        ("gn", "2"): [0.800, "diverged", "diverged"],
        ("gn", "8"): [0.340, 0.3415, 0.3415],
    }
    gn = effect(axis_effects(study(arms, axes, ("bn", "2"))), "gn")
    assert gn.difference == pytest.approx(0.02)
    assert (gn.planned, gn.pairs, gn.better, gn.seeds, gn.verdict) == (2, 2, 2, 3, "better")
    assert gn.warning == "1 pair with one seed is left out"
    assert gn.words.endswith("; 1 pair with one seed is left out")


def test_a_level_that_never_converges_where_the_other_does() -> None:
    axes = {"norm": ["bn", "gn"], "batch": ["2", "8"]}
    arms: dict[tuple[str, ...], list[Seed]] = {
        ("bn", "2"): [0.30, 0.31],
        ("bn", "8"): ["diverged", "stalled"],
        ("gn", "2"): ["diverged", "diverged"],
        ("gn", "8"): ["diverged", "diverged"],
    }
    gn = effect(axis_effects(study(arms, axes, ("bn", "2"))), "gn")
    assert (gn.verdict, gn.planned, gn.only_level_failed, gn.both_failed) == (
        "did not converge",
        2,
        1,
        1,
    )


@pytest.mark.parametrize("found", [[], ["a1"]])
def test_while_arms_may_get_seeds_nothing_is_called_not_separable(found: list[str]) -> None:
    """Up to 8 seeds, of which 3 are run. An arm whose decision has ended it gets no more."""
    noise = np.random.default_rng(9).normal(0.3, 0.01, (4, 8))
    whole, part = looked_at(noise), looked_at(noise[:, :3])
    decided = tuple(Decided(arm, 3, "not separable", True) for arm in found)
    part = replace(part, decisions=decided)
    assert part.growing == {"a1", "a2", "a3"} - set(found)
    assert whole.growing == set()
    table = on_target(part)
    assert table is not None
    verdicts = {c.arm: c.verdict for c in table.comparisons if c.verdict}
    assert verdicts == {
        arm: "not separable" if arm in found else "open" for arm in ("a1", "a2", "a3")
    }
    assert all(c.more for c in table.comparisons if c.verdict == "open")
    assert {e.verdict for e in axis_effects(part)} == {"open"}
    assert {i.verdict for i in interactions(part)} == {"open"}
    done = on_target(whole)
    assert done is not None
    assert {c.verdict for c in done.comparisons if c.verdict} == {"not separable"}
    assert {e.verdict for e in axis_effects(whole)} == {"not separable"}
    assert {i.verdict for i in interactions(whole)} == {"not separable"}


def test_arms_without_a_conditional_axis_make_no_pair() -> None:
    """`groups` is there for gn only: two pairs of its own, none with `-`; of norm there is no pair,
    as gn has groups and bn has none."""
    axes = {"norm": ["bn", "gn"], "groups": ["8", "16"], "batch": ["2", "4"]}
    arms: dict[tuple[str, ...], list[Seed]] = {
        (*of, batch): [0.3 + 0.01 * n, 0.31 + 0.01 * n, 0.29]
        for n, of in enumerate((("bn", "-"), ("gn", "8"), ("gn", "16")))
        for batch in axes["batch"]
    }
    found = axis_effects(study(arms, axes, ("bn", "-", "2")))
    assert [(e.axis, e.level, e.against, e.planned) for e in found] == [
        ("groups", "16", "8", 2),
        ("batch", "4", "2", 3),
    ]
    assert [(i.axis, i.by_axis, i.planned) for i in interactions(study(arms, axes))] == [
        ("groups", "batch", 1)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_as_they_are(name: str) -> None:
    axes = {f"a{name}": [f"x{name}", f"y{name}"], "b": ["1", "2"]}
    arms: dict[tuple[str, ...], list[Seed]] = {
        levels: [0.3 + n / 100, 0.31 + n / 90]
        for n, levels in enumerate(itertools.product(*axes.values()))
    }
    of = study(arms, axes, (f"x{name}", "1"))
    assert axis_effects(of)[0].words.startswith(f"y{name}: better in 2 of 2 pairs, +0.02")
    assert interactions(of)[0].level == f"y{name}"


def test_no_arms_no_effects() -> None:
    assert axis_effects(study({}, AXES)) == interactions(study({}, AXES)) == []
