"""The ablation table, by hand: a worked example for each verdict, failures in their place, and what
stands beneath."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from dashboards.document import document
from dashboards.markdown import to_markdown
from dashboards.plain import plain
from dashboards.study import Study
from dashboards.tables import Entry, Table, TableError, ablation_table
from dashboards.terminal import as_text, to_rich
from tests.dashboards.made import Seed, study

BASE = [0.30, 0.32, 0.31]  # mean 0.31, SD 0.01


def beside(arm: Sequence[Seed], base: Sequence[Seed] = BASE, **more: Any) -> Study:
    return study({("bn",): base, ("gn",): arm}, {"norm": ["bn", "gn"]}, ["bn"], **more)


def table(of: Study, **asked: Any) -> Table:
    return ablation_table(document(of), **asked)


def lines(of: Study, **asked: Any) -> list[str]:
    """The rows of arms in Markdown."""
    return to_markdown(table(of, **asked)).split("\n")[4 : 4 + len(of.arms)]


def titles(made: Table) -> list[str]:
    return [column.title for column in made.columns]


# ---------------------------------------------------------------- worked examples
# With one arm the interval is that of a paired t test; printed tables have t(0.975; 2) = 4.3027 and
# t(0.975; 1) = 12.706.


def test_better_and_baseline() -> None:
    # arm: sum 1.06, mean 0.35333; deviations -0.01333, 0.00667, 0.00667, squares 0.00026667,
    # SD sqrt(0.00026667 / 2) = 0.011547. Differences 0.04, 0.04, 0.05: mean 0.04333, SD 0.0057735,
    # error 0.0033333; 4.3027 errors are 0.014342: 0.02899 to 0.05768
    assert stats.t.ppf(0.975, 2) * 0.0033333 == pytest.approx(0.014342, abs=1e-6)
    assert lines(beside([0.34, 0.36, 0.36])) == [
        r"| bn | 3/3 | 0.310 ± 0.010 |  | baseline |",
        r"| gn | 3/3 | **0.353 ± 0.012** | +0.0433 \[+0.0290, +0.0577\] | **better** |",
    ]


def test_worse_is_not_bold_however_large() -> None:
    # the same with the sign turned: 0.26, 0.28, 0.26 have mean 0.26667 and the same SD
    assert lines(beside([0.26, 0.28, 0.26]))[1] == (
        r"| gn | 3/3 | 0.267 ± 0.012 | -0.0433 \[-0.0577, -0.0290\] | worse |"
    )


def test_not_separable() -> None:
    # differences 0.001, -0.001, 0: mean 0, SD 0.001, error 0.00057735; 4.3027 errors are 0.002484.
    # One-sided, 1.8856 errors are 0.00109: a difference of 0.0011 would have shown.
    # arm: mean 0.31, deviations -0.009, 0.009, 0: SD 0.009
    assert lines(beside([0.301, 0.319, 0.310], min_effect=0.0011))[1] == (
        r"| gn | 3/3 | 0.310 ± 0.009 | +0.0000 \[-0.0025, +0.0025\] | not separable |"
    )


def test_open() -> None:
    # differences 0.002, -0.002, 0.003: mean 0.001, SD 0.0026458, error 0.0015275; 4.3027 errors are
    # 0.0065723: -0.00557 to 0.00757. 1.8856 errors = 0.0028803 against 0.003 - 0.001:
    # 1.44015 ** 2 * 3 = 6.2 seeds, 4 more. arm: mean 0.311, deviations -0.009, 0.007, 0.002,
    # squares 0.000134, SD 0.0081854
    assert lines(beside([0.302, 0.318, 0.313], min_effect=0.003))[1] == (
        r"| gn | 3/3 | 0.311 ± 0.008 | +0.0010 \[-0.0056, +0.0076\] "
        "| open (needs about 4 more seeds) |"
    )


def test_an_arm_that_did_not_converge_prints_its_outcomes_in_place_of_a_number() -> None:
    never = beside(["diverged", ("stalled", 400), {"outcome": "diverged", "reason": "loss is NaN"}])
    assert lines(never)[1] == (
        "| gn | 3/3 | 2 diverged, 1 stalled † |  | did not converge (0 of 3) |"
    )
    note = "- † seed 0: diverged; seed 1: stalled at step 400; seed 2: diverged, loss is NaN"
    assert note in to_markdown(table(never)).split("\n")


def test_better_where_it_converged_is_not_bold() -> None:
    # of seeds 0 and 2: 0.40, 0.416: mean 0.408, SD 0.016 / sqrt(2) = 0.0113137. Differences 0.100,
    # 0.106: mean 0.103, SD 0.00424264, error 0.003; 12.706 errors are 0.038118: 0.06488 to 0.14112
    once = beside([0.40, {"outcome": "diverged", "step": 120, "reason": "loss is NaN"}, 0.416])
    assert lines(once)[1] == (
        r"| gn | 3/3 | 0.408 ± 0.011, 1 diverged † | +0.1030 \[+0.0649, +0.1411\] "
        "| better where it converged (2 of 3) |"
    )
    assert table(once).notes == (("†", "seed 1: diverged at step 120, loss is NaN"),)


@pytest.mark.parametrize(
    ("arm", "base", "verdict"),
    [
        # 0.05 and 0.051 in seeds 0 and 1: 12.706 errors of 0.0005 are 0.0064
        ([0.25, 0.261, "oom"], [0.20, 0.21, 0.22], "better (2 of 3 seeds paired)"),
        ([0.25, 0.261, 0.272], [0.20, 0.21, "diverged"], "better (2 of 3 seeds paired)"),
        ([0.25, 0.261, None], [0.20, 0.21, 0.22], "better"),  # it waits
        (
            [0.25, 0.261, 0.272, "stalled"],
            [0.20, 0.21, "oom", 0.2],
            "better where it converged (3 of 4) (2 of 3 seeds paired)",
        ),
    ],
)
def test_a_verdict_says_which_seeds_it_lost(
    arm: Sequence[Seed], base: Sequence[Seed], verdict: str
) -> None:
    assert table(beside(arm, base)).rows[1][4] == Entry(verdict, strong=verdict == "better")


def test_one_seed_has_a_difference_and_nothing_else() -> None:
    assert lines(beside([0.9], [0.3])) == [
        "| bn | 1/1 | 0.300 |  | baseline |",
        "| gn | 1/1 | 0.900 | +0.6000 | open (with one seed nothing can be claimed) |",
    ]
    assert lines(beside(["diverged"], [0.3]))[1] == (
        "| gn | 1/1 | diverged † |  | did not converge (0 of 1) |"
    )


# ---------------------------------------------------------------- failures, counts, digits


def test_what_is_not_settled_is_in_the_count_and_faults_are_explained() -> None:
    made = table(
        study(
            {
                ("a",): [0.3, 0.31, 0.32],
                ("b",): [0.3, None, "running"],
                ("c",): ["oom", "oom", "oom"],
                ("d",): [0.3, {"outcome": "crashed", "reason": "KeyError: 'x'\nin train"}, 0.33],
            },
            {"x": ["a", "b", "c", "d"]},
            ["a"],
        )
    )
    by_level = {row[0].text: row for row in made.rows}
    assert [row[1].text for row in made.rows] == ["3/3", "1/3", "0/3", "2/3"]
    assert by_level["b"][2] == Entry("0.300, 1 running, 1 waiting")  # no fault: no note
    assert by_level["c"][2] == Entry("3 oom", "†1")
    assert by_level["d"][2].text.endswith(", 1 crashed")
    assert dict(made.notes) == {
        "†1": "seed 0: oom; seed 1: oom; seed 2: oom",
        "†2": "seed 1: crashed, KeyError: 'x' in train",
    }


def test_arms_that_ended_alike_share_a_note_and_a_long_reason_is_cut() -> None:
    fault = {"outcome": "crashed", "reason": "E" * 500}
    made = table(study({("a",): [fault], ("b",): [fault]}, {"x": ["a", "b"]}))
    ((mark, text),) = made.notes
    assert mark == "†"
    assert text == "seed 0: crashed, " + "E" * 199 + "…"


def test_a_metric_that_is_not_defined_is_no_number() -> None:
    """pycocotools has -1 where no object is of that size."""
    cell = {"outcome": "converged", "metrics": {"mAP": 0.3, "AP_large": -1.0}}
    made = table(beside([cell, cell], [cell, cell]), others=["AP_large"])
    assert made.rows[0][-1].text == "2 undefined"


def test_an_interval_that_leaves_out_zero_never_prints_one() -> None:
    # differences 0.00010, 0.00011, 0.00012: mean 0.00011, SD 0.00001, error 0.0000057735, of which
    # 4.3027 are 0.00002484: 0.0000852 to 0.0001348. With 4 digits the lower end is 0.0001, and so
    # it stays; a tenth of all that would print as +0.0000
    by = [0.00010, 0.00011, 0.00012]
    wide, narrow = (
        table(beside([b + d / part for b, d in zip(BASE, by, strict=True)])) for part in (1, 10)
    )
    assert wide.rows[1][3].text == "+0.0001 [+0.0001, +0.0001]"
    assert narrow.rows[1][3].text == "+0.00001 [+0.00001, +0.00001]"


def test_an_interval_within_what_matters_is_printed_within_it() -> None:
    # differences 0.0502, 0.0512, 0.0522: SD 0.001, 4.3027 * 0.001 / sqrt(3) = 0.002484: 0.048716 to
    # 0.053684, which four digits print as 0.0537
    arm = [b + d for b, d in zip(BASE, (0.0502, 0.0512, 0.0522), strict=True)]
    made = table(beside(arm, min_effect=0.0537))
    assert made.rows[1][3].text == "+0.05120 [+0.04872, +0.05368]"
    assert made.rows[1][4].text == "better by less than matters"
    assert any("a difference of 0.0537 or more is" in text for text in made.remarks)


def test_a_metric_that_should_be_small_is_better_when_it_is() -> None:
    made = table(beside([10.0, 12.0, 11.0], [20.0, 22.5, 21.0], metric="train_hours", goal="min"))
    assert made.rows[1][-1] == Entry("better", strong=True)


# ---------------------------------------------------------------- columns


def with_others() -> Study:
    def cell(value: float) -> Seed:
        numbers = {"mAP": value, "AP50": 2 * value, "AP75": value - 0.1, "train_hours": 1.5}
        return {"outcome": "converged", "metrics": numbers}

    return beside([cell(0.34), cell(0.36), cell(0.36)], [cell(b) for b in BASE])


def test_other_metrics_stand_beside_the_target_without_a_verdict() -> None:
    made = table(with_others())
    head = ["norm", "n", "mAP", "difference [95 % interval]", "verdict", "AP50", "AP75"]
    assert titles(made) == head
    # twice 0.35333 and its SD 0.011547; 0.35333 - 0.1
    assert [entry.text for entry in made.rows[1][-2:]] == ["0.707 ± 0.023", "0.253 ± 0.012"]
    assert not any(entry.strong for entry in made.rows[1][-2:])
    assert "AP50, AP75 have no verdict: differences there are not adjusted claims" in made.remarks


def test_columns_are_chosen_by_name() -> None:
    assert titles(table(with_others(), others=[]))[-1] == "verdict"
    made = table(with_others(), metric="AP50", others=["mAP", "train_hours", "mAP"])
    assert titles(made) == ["norm", "n", "AP50", *titles(made)[3:5], "mAP", "train_hours"]
    # twice the differences of the target
    assert made.rows[1][3].text == "+0.0867 [+0.0580, +0.1154]"
    assert any("decides by mAP" in text for text in made.remarks)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AP500", "no numbers of a metric 'AP500'; did you mean AP50"),
        ("speed", "no numbers of a metric 'speed'; there are mAP, AP50, AP75, train_hours"),
    ],
)
def test_a_metric_that_is_not_there(name: str, said: str) -> None:
    for asked in ({"metric": name}, {"others": [name]}):
        with pytest.raises(TableError) as error:
            table(with_others(), **asked)
        assert str(error.value).startswith(said)


def test_without_a_baseline_nothing_is_compared() -> None:
    made = table(study({("bn",): BASE, ("gn",): BASE}, {"norm": ["bn", "gn"]}))
    assert titles(made) == ["norm", "n", "mAP"]
    assert "there is no baseline with cells: nothing is compared" in made.remarks


def test_an_empty_sweep_is_a_table_without_rows() -> None:
    made = table(study({}, {"norm": ["bn"]}))
    assert made.rows == ()
    assert made.provenance.startswith("0 cells, 0 settled; sweep hash not known")
    assert table(study({("bn",): []}, {"norm": ["bn"]}, ["bn"])).rows[0][2].text == "no cells"


def test_arms_keep_the_order_of_the_sweep() -> None:
    order = ["c", "a", "b"]
    made = table(study({(x,): [0.3 + 0.1 * ord(x)] for x in order}, {"x": order}, ["a"]))
    assert [row[0].text for row in made.rows] == order


# ---------------------------------------------------------------- beneath the table


def test_what_is_left_out_aliased_and_warned_of_stands_beneath() -> None:
    screen = {
        "block": "screen",
        "resolution": "III",
        "aliases": [{"effect": "a", "with": ["b*c"]}, {"effect": "b", "with": []}],
    }
    made = table(
        beside(
            BASE,
            excluded=(
                {"label": "norm=sync_bn", "why": "one GPU"},
                {"label": "norm=none", "why": "it\ndiverges"},
                {"label": "norm=brn", "why": "one GPU"},
            ),
            aliases=(screen,),
            cautions=("two seeds are few",),
            state="running",
        )
    )
    assert "left out: norm=sync_bn, norm=brn: one GPU" in made.remarks
    assert "left out: norm=none: it diverges" in made.remarks
    assert "aliased: block screen (resolution III) cannot tell apart a = b*c" in made.remarks
    assert "caution: two seeds are few" in made.remarks
    assert "the sweep is not finished (running)" in made.remarks


def test_error_rates_are_said_with_the_table() -> None:
    rates = "any false claim of better or worse in at most 5 % of such tables"
    assert rates in table(beside(BASE)).remarks
    overlooked = "; a difference of 0.003 or more is called not separable in at most 10 % of cases"
    assert rates + overlooked in table(beside(BASE, min_effect=0.003)).remarks


def test_families_that_are_adjusted_apart_are_said_to_be() -> None:
    """Three times 5 %: by Bonferroni's inequality any false claim is made in at most 15 %."""
    crossed: dict[tuple[str, ...], Sequence[Seed]] = {
        (norm, batch): BASE for norm in ("bn", "gn") for batch in ("4", "2")
    }
    axes = {"norm": ["bn", "gn"], "batch": ["4", "2"]}
    whole = table(study(crossed, axes, ["bn", "4"])).remarks
    said = [text for text in whole if text.startswith("conclusions are of")]
    assert said == [
        "conclusions are of three families, arms, effects of levels and interactions: each has any"
        " false claim in at most 5 % of sweeps, all together in up to 15 %"
    ]
    assert any("the noise of two arms in one seed to be independent" in text for text in whole)
    alone = table(beside(BASE)).remarks  # the one effect is the arm itself
    assert not any("families" in text or "independent" in text for text in alone)
    without = table(study(crossed, axes)).remarks  # no baseline
    assert any("two families, effects of levels and interactions:" in text for text in without)
    assert any("in up to 10 %" in text for text in without)


def test_provenance() -> None:
    tags = {"git.commit": "0123456789abcdef", "git.dirty": "true", "data.fingerprint": "feed" * 8}

    def cell(hours: float, **more: str) -> Seed:
        numbers = {"mAP": 0.3, "gpu_hours": hours}
        return {"outcome": "converged", "metrics": numbers, "tags": {**tags, **more}}

    of = beside([cell(1.25)], [cell(0.5)], tags={"sweep.sha256": "ab" * 32}, run_id="f" * 32)
    assert table(of).provenance == (
        "2 cells, 2 settled; seed 0; MLflow run ffffffffffff; sweep sha256 abababababab; commit "
        "0123456789ab with uncommitted changes; data feedfeedfeed; 1.75 GPU-hours"
    )
    clean = {"git.dirty": "false"}
    two = beside([cell(1, **{"git.commit": "fe" * 8, **clean})], [cell(0, **clean)])
    assert "; commits 0123456789ab, fefefefefefe; data" in table(two).provenance


def test_a_name_is_one_line_without_what_steers_a_terminal() -> None:
    assert plain("a\n b\t\x1b[31mc\u202ed\x07\u2028e") == "a b [31mcd e"
    assert plain("归一化 é 😀") == "归一化 é 😀"


# ---------------------------------------------------------------- terminal


def test_the_terminal_has_the_same_entries_and_the_conclusions_beneath() -> None:
    made = table(beside([0.40, "diverged", 0.416], question="Does it [bold]help[/bold]?"))
    text = as_text(to_rich(made, ["gn: nothing [red]sure[/red]"]), 120)
    for entry in (entry for row in made.rows for entry in row):
        whole = entry.text + entry.mark
        assert all(part in text for part in ([whole] if "[" in whole else whole.split(", ")))
    assert "Does it [bold]help[/bold]?" in text  # names are no markup
    assert text.index("† seed 1: diverged") < text.index("- gn: nothing [red]sure[/red]")


def test_a_usual_table_has_a_line_for_each_arm_in_120_columns() -> None:
    better = [0.34, 0.36, 0.36]
    levels = [(n, b) for n in ("bn", "gn", "evonorm_s0") for b in ("1", "2", "4")]
    arms: dict[tuple[str, ...], Sequence[Seed]] = {
        arm: BASE if arm == ("bn", "4") else better for arm in levels
    }
    of = study(
        arms,
        {"norm": ["bn", "gn", "evonorm_s0"], "batch_per_gpu": ["1", "2", "4"]},
        ["bn", "4"],
        question="short",
    )
    shown = as_text(to_rich(table(of, others=[])), 120).split("\n")
    assert max(map(len, shown)) <= 120
    start = next(i for i, line in enumerate(shown) if "───" in line) + 1
    assert [line.split()[:2] for line in shown[start : start + 9]] == [list(arm) for arm in levels]
    assert shown[start + 9] == ""
