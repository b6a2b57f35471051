"""Verdicts by hand, critical values against scipy and brute force, least squares against its
definition, levels of repeated looks against Pocock's table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dashboards.inference import Inference, Observation, compare, look_levels
from dashboards.inference.critical import EQUAL, critical, loadings, within
from dashboards.inference.fit import Fit, fit, layout
from dashboards.inference.variances import Variances, bartlett
from tests.benchmarks import honesty

Values = Mapping[str, Sequence[float | str]]


def cells(arms: Values) -> list[Observation]:
    """A number is the value of a converged cell, a text its outcome."""
    return [
        Observation(arm, seed, v, None)
        if isinstance(v, str)
        else Observation(arm, seed, "converged", v)
        for arm, of_arm in arms.items()
        for seed, v in enumerate(of_arm)
    ]


def table(arms: Values, **options: object) -> Inference:
    return compare(cells(arms), "base", **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------- worked examples
# With one arm the interval is that of a paired t test. The constants are those of printed tables:
# t(0.975; 2) = 4.3027, t(0.90; 2) = 1.8856.

BASE = [0.30, 0.32, 0.31]


def beside(*differences: float) -> dict[str, list[float | str]]:
    return {"base": [*BASE], "arm": [b + d for b, d in zip(BASE, differences, strict=True)]}


def test_better() -> None:
    # differences 0.04, 0.04, 0.05: mean 0.04333, SD 0.0057735, error 0.0033333
    arm = table(beside(0.04, 0.04, 0.05))["arm"]
    assert arm.difference == pytest.approx(0.0433333, abs=1e-6)
    assert arm.low == pytest.approx(0.0433333 - 4.3027 * 0.0033333, abs=1e-6)
    assert arm.high == pytest.approx(0.0433333 + 4.3027 * 0.0033333, abs=1e-6)
    assert (arm.verdict, arm.words) == ("better", "better")
    assert (arm.n, arm.settled, arm.planned, arm.pairs) == (3, 3, 3, 3)


def test_worse_and_a_metric_that_should_be_small() -> None:
    down = beside(-0.04, -0.04, -0.05)
    assert table(down)["arm"].verdict == "worse"
    assert table(down, goal="min")["arm"].verdict == "better"
    assert table(beside(0.04, 0.04, 0.05), goal="min")["arm"].verdict == "worse"


def test_better_by_less_than_matters() -> None:
    arm = table(beside(0.04, 0.04, 0.05), min_effect=0.06)["arm"]  # the interval ends at 0.0577
    assert (arm.verdict, arm.words) == ("better", "better by less than matters")
    assert not table(beside(0.04, 0.04, 0.05), min_effect=0.05)["arm"].small


def test_not_separable() -> None:
    # differences 0.001, -0.001, 0: mean 0, SD 0.001, error 0.00057735; 1.8856 errors are 0.00109
    wide, narrow = (
        table(beside(0.001, -0.001, 0.0), min_effect=e)["arm"] for e in (0.0011, 0.00108)
    )
    assert (wide.verdict, wide.words) == ("not separable", "not separable")
    assert narrow.verdict == "open"


def test_open_says_how_many_seeds_would_decide() -> None:
    # differences 0.002, -0.002, 0.003: mean 0.001, SD 0.0026458, error 0.0015275. The claim needs
    # 4.3027 errors = 0.0065723 against 0.001: 6.6 ** 2 times the seeds. `not separable` needs
    # 1.8856 errors = 0.0028803 against 0.003 - 0.001: 1.44015 ** 2 * 3 = 6.2 seeds, so 4 more.
    arm = table(beside(0.002, -0.002, 0.003), min_effect=0.003)["arm"]
    assert (arm.verdict, arm.more) == ("open", 4)
    assert arm.words == "open (needs about 4 more seeds)"


def test_without_a_minimum_effect_an_arm_is_open_until_its_seeds_are_spent() -> None:
    arms = beside(0.002, -0.002, 0.003)
    assert table(arms)["arm"].words == "not separable"
    assert table(arms, spent=False)["arm"].verdict == "open"
    arms["arm"].append("waiting")
    arms["base"].append(0.3)
    waits = table(arms)["arm"]
    assert waits.verdict == "open"
    assert (waits.n, waits.settled, waits.planned) == (3, 3, 4)
    # claim: 4.3027 errors = 0.0065723 against 0.001, 43.2 * 3 = 129.6 seeds, of which there are 3
    assert waits.more == 127


def test_with_one_seed_nothing_is_claimed() -> None:
    arm = table({"base": [0.3], "arm": [0.9]}, min_effect=0.01)["arm"]
    assert arm.verdict == "open"
    assert arm.words == "open (with one seed nothing can be claimed)"
    assert arm.difference == pytest.approx(0.6)
    assert arm.low is None
    # also where other arms have more and would lend their variance
    more = table({"base": [0.3, 0.31], "arm": [0.9, "waiting"], "other": [0.30, 0.32]})
    assert more["arm"].words == "open (with one seed nothing can be claimed)"
    assert more["other"].low is not None


def test_seeds_that_do_not_vary_tell_no_noise() -> None:
    arm = table({"base": [0.3, 0.31, 0.32], "arm": [0.4, 0.41, 0.42]})["arm"]
    assert arm.words == "open (its seeds do not vary: nothing tells the noise)"


def test_failures_are_counted_and_named() -> None:
    found = table(
        {
            "base": [0.30, 0.32, 0.31],
            "never": ["diverged", "stalled", "diverged"],
            "once": [0.40, "diverged", 0.415],
            "fault": [0.31, 0.32, "crashed"],
            "not yet": ["diverged", "waiting", "waiting"],
        }
    )
    assert found["never"].words == "did not converge (0 of 3)"
    assert (found["never"].failed, found["never"].settled, found["never"].mean) == (3, 3, None)
    assert found["once"].words == "better where it converged (2 of 3)"
    assert found["once"].mean == pytest.approx(0.4075)
    assert (found["fault"].n, found["fault"].settled, found["fault"].planned) == (2, 2, 3)
    assert found["not yet"].words == "open (no seed has a value here and in the baseline)"


def test_a_baseline_that_failed_leaves_everything_open() -> None:
    found = table({"base": ["diverged"] * 3, "arm": [0.3, 0.4, 0.5]})
    assert found["arm"].words == "open (no seed has a value here and in the baseline)"


def test_a_value_that_is_no_number_is_no_value() -> None:
    found = table({"base": [0.3, 0.31, math.nan], "arm": [0.3, 0.33, 0.4]})
    assert (found["base"].n, found["arm"].n, found["arm"].pairs) == (2, 3, 2)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="no cells of the baseline 'base'; arms: arm"):
        table({"arm": [0.3]})
    with pytest.raises(ValueError, match="seed 0 of arm 'base' is there twice"):
        compare(cells({"base": [0.3]}) * 2, "base")


def test_unequal_variances_by_hand() -> None:
    # two arms share their residuals, so their variances are equal to the pooled one and the error
    # stays 0.0033333. Welch's degrees of freedom with a prior of 3 would be 8, but three seeds of
    # two arms tell 2: it is the paired t test, whatever is assumed of the variances.
    arm = table(beside(0.04, 0.04, 0.05), variances="unequal")["arm"]
    assert arm.low == pytest.approx(0.0433333 - 4.3027 * 0.0033333, abs=1e-6)


@pytest.mark.parametrize("arms", [2, 3])
def test_few_arms_that_are_compared_as_unequal_make_false_claims_in_5_percent(arms: int) -> None:
    """600 tables of noise with 3 seeds: 0.05 and three standard errors (0.027). With the degrees of
    freedom of the prior added as if it were known it was 0.14 with 2 arms and 0.095 with 3."""
    y = np.random.default_rng(6).standard_normal((600, arms, 3))
    names = ["base", "a", "b"][:arms]
    false = 0
    for values in y:
        found = table(dict(zip(names, values.tolist(), strict=True)), variances="unequal")
        false += any(c.verdict in ("better", "worse") for c in found.comparisons)
    assert 0 < false / 600 <= 0.077


def test_an_arm_that_varies_more_gets_a_wider_interval_of_its_own() -> None:
    random = np.random.default_rng(0)
    noise = random.standard_normal((6, 8)) * np.array([1, 1, 1, 1, 1, 8])[:, None]
    arms = {name: list(row) for name, row in zip(["base", *"abcde"], noise, strict=True)}
    found = table(arms)
    assert found.variances == "unequal"
    assert found.homogeneity is not None
    assert found.homogeneity < 1e-3
    widths = {c.arm: c.high - c.low for c in found.comparisons if c.high and c.low is not None}
    assert widths["e"] > 2 * max(widths[arm] for arm in "abcd")
    pooled = table(arms, variances="equal")
    assert len({round(c.high - c.low, 9) for c in pooled.comparisons if c.high and c.low}) == 1


# ---------------------------------------------------------------- least squares


def by_definition(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, int]:
    """Differences to arm 0 and the residual variance of arm + seed, with dummy variables."""
    arm, seed = np.nonzero(~np.isnan(values))
    arms, seeds = values.shape
    model = np.zeros((len(arm), arms + seeds - 1))
    model[:, 0] = 1
    for i in range(1, arms):
        model[:, i] = arm == i
    for j in range(1, seeds):
        model[:, arms + j - 1] = seed == j
    y = values[arm, seed]
    solution, _, rank, _ = np.linalg.lstsq(model, y, rcond=None)
    df = len(y) - int(rank)
    return solution[1:arms], float(((y - model @ solution) ** 2).sum()) / df, df


def test_missing_cells_against_dummy_variables() -> None:
    values = np.random.default_rng(3).standard_normal((4, 5))
    values[1, 3:] = values[2, 0] = values[0, 4] = math.nan
    differences, variance, df = by_definition(values)
    found = fit(values)
    assert found.layout.tested == (1, 2, 3)
    np.testing.assert_allclose(found.difference, differences, atol=1e-12)
    assert found.variance == pytest.approx(variance)
    assert found.layout.df == df
    assert found.layout.own_df.sum() == pytest.approx(df)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 5), st.floats(0.0, 0.3))
def test_what_a_seed_does_to_all_arms_changes_nothing(
    stream: int, arms: int, seeds: int, missing: float
) -> None:
    random = np.random.default_rng(stream)
    values = random.standard_normal((arms, seeds))
    values[random.random(values.shape) < missing] = math.nan
    shifted = values + 10 * random.standard_normal(seeds)
    a, b = fit(values), fit(shifted)
    np.testing.assert_allclose(a.difference, b.difference, atol=1e-9)
    if a.layout.df:
        assert a.variance == pytest.approx(b.variance, abs=1e-9)


def dense(present: np.ndarray, contrasts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each contrast the weights of the cells, and what maps values to residuals, from the whole
    model with a column for every arm and seed."""
    arm, seed = np.nonzero(present)
    arms, seeds = present.shape
    model = np.zeros((len(arm), arms + seeds))
    model[np.arange(len(arm)), arm] = model[np.arange(len(arm)), arms + seed] = 1
    inverse = np.linalg.pinv(model, rcond=1e-9)
    return contrasts @ inverse[:arms], np.eye(len(arm)) - model @ inverse


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_arms_eliminated_first_give_what_the_whole_model_gives(number: int) -> None:
    random = np.random.default_rng(number)
    arms, seeds = random.integers(2, 9), random.integers(2, 7)
    present = random.random((arms, seeds)) > random.choice([0.0, 0.2, 0.5])
    made = layout(present)
    weights, residual = dense(present, made.contrasts)
    arm = np.nonzero(present)[0]
    values = np.where(present, random.standard_normal(present.shape), 0.0)
    difference, rest = made.solve(values)
    np.testing.assert_allclose(difference, weights @ values[present], atol=1e-9)
    np.testing.assert_allclose(rest[present], residual @ values[present], atol=1e-9)
    assert made.df == round(np.trace(residual))
    own_df = np.bincount(arm, np.diag(residual), minlength=arms)
    np.testing.assert_allclose(made.own_df, own_df, atol=1e-9)
    share = np.zeros_like(made.share)
    np.add.at(share, (slice(None), arm), weights**2)
    np.testing.assert_allclose(made.share, share, atol=1e-9)
    np.testing.assert_allclose(made.scale, (weights**2).sum(1), atol=1e-9)
    if len(weights):
        length = np.linalg.norm(weights, axis=1)
        wanted = weights @ weights.T / np.outer(length, length)
        np.testing.assert_allclose(made.correlation, wanted, atol=1e-9)


def test_hundreds_of_arms_of_which_most_have_no_cells_yet() -> None:
    """An arm's difference is that of its means: its seeds are the baseline's."""
    values = np.random.default_rng(0).standard_normal((400, 3))
    values[200:] = np.nan
    found = fit(values)
    assert found.layout.tested == tuple(range(1, 200))
    np.testing.assert_allclose(found.difference, values[1:200].mean(1) - values[0].mean())
    assert found.layout.df == 199 * 2


def test_bartlett_against_scipy() -> None:
    random = np.random.default_rng(1)
    samples = [random.standard_normal(n) * s for n, s in ((5, 1), (8, 2), (4, 0.5))]
    df = np.array([len(x) - 1.0 for x in samples])
    own = np.array([x.var(ddof=1) for x in samples])
    made = layout(np.ones((3, 2), bool))
    unblocked = Fit(
        replace(made, df=int(df.sum()), own_df=df),
        np.zeros(2),
        float((df * own).sum() / df.sum()),
        own,
    )
    assert bartlett(unblocked) == pytest.approx(stats.bartlett(*samples).pvalue)


# ---------------------------------------------------------------- critical values


@pytest.mark.parametrize("df", [1, 2, 7.5, 40])
def test_of_one_comparison_it_is_students(df: float) -> None:
    assert critical([0.0], df, 0.05) == pytest.approx(stats.t.isf(0.025, df), rel=1e-6)
    assert within(2.0, [0.0], df) == pytest.approx(1 - 2 * stats.t.sf(2.0, df), abs=1e-9)


@pytest.mark.parametrize(("k", "df"), [(2, 3), (4, 10), (8, 16)])
def test_against_scipys_multivariate_t(k: int, df: int) -> None:
    loads = np.linspace(0.3, 0.9, k)
    shape = np.outer(loads, loads)
    np.fill_diagonal(shape, 1.0)
    limit = np.full(k, critical(list(loads), df, 0.05))
    oracle = stats.multivariate_t(shape=shape, df=df, seed=0)
    assert oracle.cdf(limit, lower_limit=-limit) == pytest.approx(0.95, abs=5e-4)


def test_against_scipys_dunnett_without_blocks() -> None:
    random = np.random.default_rng(2)
    control = random.standard_normal(7)
    arms = [random.standard_normal(n) + shift for n, shift in ((4, 1.2), (6, 0.4), (9, -0.8))]
    oracle = stats.dunnett(*arms, control=control, random_state=0)
    everything = [control, *arms]
    df = sum(len(x) - 1 for x in everything)
    variance = sum(((x - x.mean()) ** 2).sum() for x in everything) / df
    loads = [math.sqrt(len(x) / (len(x) + len(control))) for x in arms]
    for arm, p in zip(arms, oracle.pvalue, strict=True):
        error = math.sqrt(variance * (1 / len(arm) + 1 / len(control)))
        t = abs(arm.mean() - control.mean()) / error
        assert 1 - within(t, loads, df) == pytest.approx(p, abs=2e-3)


def largest_t(present: NDArray[np.bool_], sweeps: int, stream: int) -> NDArray[np.float64]:
    """The largest |t| of sweeps of pure noise with these cells, by dummy variables."""
    random = np.random.default_rng(stream)
    arms, seeds = present.shape
    arm, seed = np.nonzero(present)
    model = np.zeros((len(arm), arms + seeds - 1))
    model[np.arange(len(arm)), arm] = 1
    model[seed > 0, arms - 1 + seed[seed > 0]] = 1
    gram = np.linalg.inv(model.T @ model)
    y = random.standard_normal((sweeps, len(arm)))
    solution = y @ model @ gram
    rest = y - solution @ model.T
    variance = (rest**2).sum(1) / (len(arm) - model.shape[1])
    spread = np.array([gram[i, i] + gram[0, 0] - 2 * gram[0, i] for i in range(1, arms)])
    t = (solution[:, 1:arms] - solution[:, :1]) / np.sqrt(variance[:, None] * spread)
    return np.asarray(np.abs(t).max(1))


def test_against_brute_force_with_and_without_missing_cells() -> None:
    whole = np.ones((9, 4), bool)
    holes = whole.copy()
    holes[1, 2] = holes[2, 0] = holes[0, 1] = False
    for present in (whole, holes):
        made = layout(present)
        limit = critical(made.loads, made.df, 0.05)
        beyond = (largest_t(present, 100_000, 5) > limit).mean()
        assert beyond == pytest.approx(0.05, abs=3 * 0.0007)


def test_loadings_give_back_a_correlation_of_one_factor() -> None:
    wanted = np.array([0.2, 0.5, 0.9, 0.707])
    correlation = np.outer(wanted, wanted)
    np.fill_diagonal(correlation, 1.0)
    np.testing.assert_allclose(loadings(correlation), wanted, atol=2e-3)


# ---------------------------------------------------------------- repeated looks


@pytest.mark.parametrize(("looks", "nominal"), [((60, 120), 0.0294), ((40, 80, 120), 0.0221)])
def test_pococks_table(looks: tuple[int, ...], nominal: float) -> None:
    """Pocock 1977, table 1, for a known variance, which 100 degrees of freedom come near."""
    assert look_levels(1, looks).level == pytest.approx(nominal, abs=0.0012)


def test_one_look_needs_no_allowance() -> None:
    assert look_levels(8, (3,)).level == look_levels(8, (1, 3)).level == 0.05


def test_the_level_holds_over_all_looks_by_brute_force() -> None:
    """Every arm run to the end, each look computed anew from its definition."""
    looks, arms = (2, 3, 5), 3
    found = look_levels(arms, looks)
    y = np.random.default_rng(77).standard_normal((60_000, arms + 1, looks[-1]))
    claimed = np.zeros(len(y), bool)
    missed = np.zeros(len(y), bool)
    for n in looks:
        seen = y[:, :, :n]
        rest = seen - seen.mean(2, keepdims=True) - seen.mean(1, keepdims=True)
        rest += seen.mean((1, 2), keepdims=True)
        df = arms * (n - 1)
        error = np.sqrt(2 / n * (rest**2).sum((1, 2)) / df)
        difference = seen[:, 1:].mean(2) - seen[:, :1].mean(2)
        t = difference / error[:, None]
        claimed |= np.abs(t).max(1) > critical([EQUAL] * arms, df, found.level)
        missed |= t[:, 0] < stats.t.ppf(found.miss, df)
    assert claimed.mean() == pytest.approx(0.05, abs=0.0035)
    assert missed.mean() == pytest.approx(0.10, abs=0.005)


# ---------------------------------------------------------------- does it keep its promises


@pytest.mark.parametrize(
    ("world", "variances", "found"), [("equal", "auto", 0.90), ("unequal", "unequal", 0.75)]
)
def test_a_small_simulation_keeps_the_promises_of_the_large_one(
    world: str, variances: Variances, found: float
) -> None:
    """150 sweeps with fixed draws; the bounds are those of the issue less three standard errors.
    tests/benchmarks/honesty.py prints the figures of 1,000."""
    rates = honesty.rates(world, variances, sweeps=150, seed=1)
    assert rates["false"] <= 0.05 + 3 * 0.018
    assert rates["found"] >= found - 3 * math.sqrt(found * (1 - found) / 150)
