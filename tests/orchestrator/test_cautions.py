"""What a plan says of its power, against scipy, and of arms that ask for trouble."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy import integrate, stats

from orchestrator.cautions import SMALLEST, cautions, smallest_difference
from orchestrator.expand import expand
from orchestrator.plan import make_plan
from orchestrator.spec import load_sweep

ROOT = Path(__file__).parents[2]


def power(effect: float, n: int) -> float:
    """P(|T| > t) for n paired differences of mean `effect` and deviation 1, by integrating over the
    sample deviation: T = (Z + effect sqrt(n)) / S."""
    df, shift = n - 1, effect * math.sqrt(n)
    critical = stats.t.ppf(0.975, df)

    def at(s: float) -> float:
        density = stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df)
        beyond = stats.norm.sf(critical * s - shift) + stats.norm.cdf(-critical * s - shift)
        return float(density * beyond)

    return float(integrate.quad(at, 0, 8, limit=200, points=[min(7.9, shift / critical)])[0])


@pytest.mark.parametrize("n", range(2, len(SMALLEST) + 2))
def test_the_smallest_difference_has_80_percent_power(n: int) -> None:
    smallest = smallest_difference(n)
    assert smallest is not None
    assert power(smallest, n) == pytest.approx(0.8, abs=0.01)


def test_beyond_the_table_it_falls_with_the_root_of_the_seeds() -> None:
    assert smallest_difference(1) is None
    smallest = smallest_difference(30)
    assert smallest is not None
    assert power(smallest, 30) == pytest.approx(0.8, abs=0.05)


def test_batch_norm_over_one_image_is_told_with_its_arms() -> None:
    cells = expand(load_sweep(ROOT / "sweeps/norm_vs_batchsize.yaml"))
    told = cautions(cells)
    assert told[0].startswith("with 2 seeds per arm a paired comparison")
    assert "11.6 standard deviations" in told[0]
    assert told[1:] == [
        "batch norm takes its statistics from one image at a time in norm=bn batch_per_gpu=1"
    ]
    one = [c for c in cells if c.seed == 0 and c.axes["norm"] == "gn"]
    assert cautions(one) == [
        "with one seed per arm no difference can be tested; six are a good start"
    ]
    assert cautions(one[:1]) == []


def test_the_plan_shows_them_as_text_and_json() -> None:
    plan = make_plan(ROOT / "sweeps/norm_vs_batchsize.yaml")
    assert plan.to_json()["cautions"] == cautions([p.cell for p in plan.cells])
    assert "\ncaution: with 2 seeds per arm" in plan.to_text()
