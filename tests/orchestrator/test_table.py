"""The ablation table, against examples worked by hand and the standard library's statistics."""

import csv
import io
import statistics

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from detcore.result import METRICS
from orchestrator.tracking.render import to_csv, to_markdown, to_rich
from orchestrator.tracking.table import FAILED, Row, column_axis, entry_of, make_table, totals

NORMS, BATCHES = ["bn", "gn", "evonorm_s0"], [1, 2, 4]
AXES = {"norm": NORMS, "batch_per_gpu": BATCHES}


def cell(outcome, value=None, step=None, norm="bn", batch=1, seed=0, **more):
    metrics = {} if value is None else {"mAP": value}
    return Row({"norm": norm, "batch_per_gpu": batch}, seed, outcome, metrics, step=step, **more)


def text(*cells):
    return entry_of(cells, "mAP").text


def printed(table, width=80):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(to_rich(table))
    return console.file.getvalue()


def test_an_entry_counts_every_planned_seed():
    ok = cell("converged", 0.402), cell("converged", 0.422)
    # sample deviation of {0.402, 0.422}: 0.02 / sqrt(2) = 0.01414
    assert text(*ok) == "0.412 ±0.014 (2/2)"
    assert text(ok[0]) == "0.402 (1/1)"
    assert text(*ok, cell("waiting")) == "0.412 ±0.014 (2/3: 1 waiting)"
    assert text(cell("converged", 0.31), cell("running")) == "0.310 (1/2: 1 running)"
    assert text(cell("waiting"), cell("waiting")) == "…"
    assert text(cell("running"), cell("running")) == "running"
    assert text() == "·"


def test_failures_stand_in_place_of_numbers_and_mark_the_mean():
    lucky = cell("converged", 0.31)
    assert text(lucky, cell("diverged", step=812)) == "~0.310 (1/2: diverged @812)"
    assert (
        text(lucky, cell("diverged", step=120), cell("diverged", step=133))
        == "~0.310 (1/3: 2 diverged @120, 133)"
    )
    assert text(cell("diverged", step=120), cell("diverged", step=133)) == "diverged @120, 133"
    assert text(cell("stalled", 0.0012), cell("stalled", 0.002)) == "stalled 0.001, 0.002"
    assert text(lucky, cell("stalled", 0.002)) == "~0.310 (1/2: stalled 0.002)"
    assert text(cell("oom"), cell("oom")) == "oom ×2"
    assert text(cell("crashed")) == "crashed"
    assert text(cell("diverged", step=9), cell("lost")) == "diverged @9; lost"


def test_an_undefined_metric_is_not_a_number():
    # pycocotools says -1 when there is no box of that size
    undefined = Row({}, 0, "converged", {"AP_small": -1.0})
    assert entry_of([undefined], "AP_small").text == "undefined"
    defined = Row({}, 1, "converged", {"AP_small": 0.2})
    assert entry_of([defined, undefined], "AP_small").text == "~0.200 (1/2: 1 undefined)"
    assert text(cell("converged", float("nan"))) == "undefined"


outcomes = st.sampled_from(["converged", *FAILED, "running", "waiting"])
seeds = st.lists(st.tuples(outcomes, st.floats(0, 1), st.integers(0, 999)), min_size=1, max_size=6)


@given(seeds)
def test_no_failed_seed_is_ever_left_out(seeds):
    cells = [cell(outcome, value, step, seed=i) for i, (outcome, value, step) in enumerate(seeds)]
    shown = text(*cells)
    converged = [value for outcome, value, _ in seeds if outcome == "converged"]
    failed = {outcome for outcome, _, _ in seeds if outcome in FAILED}
    for outcome in failed:
        assert outcome in shown
    if converged:
        number, _, rest = shown.partition(" ")
        assert number == ("~" if failed else "") + f"{statistics.fmean(converged):.3f}"
        assert f"({len(converged)}/{len(cells)}" in rest
        if len(converged) > 1:
            assert rest.split(" ")[0] == f"±{statistics.stdev(converged):.3f}"
    for outcome, _, step in seeds:
        if outcome == "diverged":
            assert str(step) in shown


def test_rows_and_columns_follow_the_sweep_file_not_the_alphabet():
    rows = [cell("converged", 0.3, norm=norm, batch=batch) for norm in NORMS for batch in [4, 2, 1]]
    table = make_table(rows, AXES, baseline={"norm": "bn", "batch_per_gpu": 2})
    assert table.names == ("norm",)
    assert table.columns == ("batch_per_gpu 1", "batch_per_gpu 2", "batch_per_gpu 4")
    assert [head for head, _ in table.lines] == [("bn",), ("gn",), ("evonorm_s0",)]
    marked = [[entry.text.endswith("*") for entry in line] for _, line in table.lines]
    assert marked == [[False, True, False], [False] * 3, [False] * 3]
    assert any("* baseline" in note for note in table.notes)


def test_further_axes_stack_into_rows_and_unplanned_arms_say_so():
    axes = {"batch": [1, 2], "norm": ["bn", "gn"], "loss": ["huber", "giou"]}
    assert column_axis(axes) == "batch"
    rows = [
        Row({"batch": 1, "norm": "bn", "loss": "huber"}, 0, "converged", {"mAP": 0.1}),
        Row({"batch": 2, "norm": "gn", "loss": "giou"}, 0, "converged", {"mAP": 0.2}),
    ]
    table = make_table(rows, axes)
    assert table.names == ("norm", "loss")
    entries = {head: tuple(e.text for e in line) for head, line in table.lines}
    assert entries == {("bn", "huber"): ("0.100 (1/1)", "·"), ("gn", "giou"): ("·", "0.200 (1/1)")}
    assert any("· not planned" in note for note in table.notes)


def test_one_axis_gives_one_column_and_none_gives_one_line():
    one = make_table([Row({"norm": "bn"}, 0, "converged", {"AP50": 0.5})], {"norm": ["bn"]}, "AP50")
    assert (one.columns, one.lines[0][0]) == (("AP50",), ("bn",))
    none = make_table([Row({}, 0, "converged", {"mAP": 0.5})], {})
    assert [entry.text for entry in none.lines[0][1]] == ["0.500 (1/1)"]


def test_the_legend_explains_only_what_is_used():
    good = [cell("converged", 0.3, seed=s) for s in range(3)]
    notes = make_table(good, {"norm": ["bn"], "batch_per_gpu": [1]}).notes
    assert not any("~" in note or "…" in note or "caution" in note for note in notes)
    bad = [cell("converged", 0.3), cell("diverged", step=3, seed=1)]
    notes = make_table(bad, {"norm": ["bn"], "batch_per_gpu": [1]}).notes
    assert any(note.startswith("~ mean over the seeds that converged only") for note in notes)
    assert any(note.startswith("caution: with 2 seeds") for note in notes)


def test_totals_add_up():
    rows = [
        cell("converged", 0.3, values={"train_hours": 0.5}, cpus=2),
        cell("diverged", step=3, values={"train_hours": 0.25}, cpus=2),
        cell("crashed"),
        cell("waiting"),
    ]
    assert totals(rows) == (
        "4 cells: 1 converged, 1 diverged, 1 crashed, 1 waiting; 2 of 4 settled; 1.50 CPU hours"
    )
    gpu = [cell("converged", 0.3, values={"gpu_hours": 1.25, "train_hours": 1.0}, cpus=4)]
    assert totals(gpu).endswith("1 of 1 settled; 1.25 GPU hours")


def test_names_are_text_in_every_format():
    evil = "[bold]x[/bold] | <b>&`_"
    rows = [Row({evil: "[/red]", "n": 1}, 0, "converged", {"mAP": 0.3})]
    table = make_table(rows, {evil: ["[/red]"], "n": [1]})
    assert evil in printed(table)
    assert "[/red]" in printed(table)
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {3}  # two cells each
    assert not any("<b>" in line for line in lines)


def test_the_default_sweep_fits_a_terminal_of_80_columns():
    rows = [
        cell("converged", 0.3 + seed / 100, norm=norm, batch=batch, seed=seed)
        for norm in NORMS
        for batch in BATCHES
        for seed in range(2)
    ]
    lines = printed(make_table(rows, AXES)).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("0.305 ±0.007 (2/2)" in line for line in lines) == 3  # no entry is folded


def test_csv_has_a_line_per_cell_and_rounds_nothing():
    values = {name: (i + 1) / 30 for i, name in enumerate(METRICS)}
    row = Row({"norm": "a,b"}, 1, "converged", values, {"train_hours": 0.1}, 300, id="x", label="l")
    failed = Row({"norm": "gn"}, 0, "diverged", step=12, reason='loss "inf"\nat 12')
    read = list(csv.DictReader(io.StringIO(to_csv([row, failed], ["norm"]))))
    assert [line["norm"] for line in read] == ["a,b", "gn"]
    assert {name: float(read[0][name]) for name in METRICS} == values
    assert (read[1]["outcome"], read[1]["step"], read[1]["mAP"]) == ("diverged", "12", "")
    assert read[1]["reason"] == 'loss "inf"\nat 12'


def test_another_report_s_numbers_are_a_column_where_no_axis_makes_columns() -> None:
    rows = [Row({"row": name}, 0, "converged", {"mAP": 0.5}) for name in ("B04", "B05")]
    axes = {"row": ["B04", "B05"]}
    table = make_table(rows, axes, reference={("B04",): "B04: 0.319"})
    assert table.columns == ("mAP", "report")
    assert [entries[1].text for _, entries in table.lines] == ["B04: 0.319", ""]
    assert make_table([], axes, reference={("B04",): "B04: 0.319"}).lines == ()
    assert make_table(rows, axes).columns == ("mAP",)
