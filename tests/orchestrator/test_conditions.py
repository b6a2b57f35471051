"""Axes that only some arms have: what such an arm is, writes and is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan_table import table_of
from orchestrator.sweep.expand import Cell, expand, filter_cells
from orchestrator.sweep.identity import cell_id
from orchestrator.sweep.spec import SweepError, load_sweep
from orchestrator.tracking.table import Row

AXES = """\
axes:
  norm: {path: model.neck.norm_act, values: [bn, gn]}
  groups: {path: model.neck.norm_act.groups, values: [8, 16], when: norm == 'gn'}
  batch: {path: train.batch_per_gpu, values: [1, 2]}
"""


def sweep_of(folder: Path, body: str) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(f"version: 1\nname: t\n{body}")
    return file


def cells_of(folder: Path, body: str) -> list[Cell]:
    return expand(load_sweep(sweep_of(folder, body)))


def labels(cells: list[Cell]) -> list[str]:
    return [cell.arm_label for cell in cells]


def test_an_absent_axis_writes_nothing_and_makes_no_arms(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, AXES)
    assert labels(cells) == [
        "norm=bn groups=- batch=1",
        "norm=bn groups=- batch=2",
        "norm=gn groups=8 batch=1",
        "norm=gn groups=8 batch=2",
        "norm=gn groups=16 batch=1",
        "norm=gn groups=16 batch=2",
    ]
    for cell in cells:
        norm = cell.config.model.neck.norm_act
        assert (norm.kind, getattr(norm, "groups", "-")) == (cell.axes["norm"], cell.axes["groups"])


def test_an_absent_axis_is_no_part_of_a_cells_identity(tmp_path: Path) -> None:
    """The same arms, asked for by a sweep that has no such axis."""
    mine = {c.arm_label: cell_id(c.config, "d") for c in cells_of(tmp_path, AXES)}
    plain = AXES.replace("  groups: {path: model.neck.norm_act.groups", "  other: {path: optim.lr")
    plain = plain.replace("[8, 16], when: norm == 'gn'", "[0.01]")
    other = {c.arm_label: cell_id(c.config, "d") for c in cells_of(tmp_path, plain)}
    assert mine["norm=bn groups=- batch=1"] == other["norm=bn other=0.01 batch=1"]


def test_the_baseline_has_the_axes_that_it_has(tmp_path: Path) -> None:
    named = "baseline: {norm: bn, batch: 2}\n"
    assert load_sweep(sweep_of(tmp_path, AXES + named)).baseline == {
        "norm": "bn",
        "groups": "-",
        "batch": 2,
    }
    cells = cells_of(tmp_path, AXES + named + "design: [{factorial: [batch]}]\n")
    assert labels(cells) == ["norm=bn groups=- batch=1", "norm=bn groups=- batch=2"]


def test_a_level_that_the_baseline_names_counts_where_the_axis_is_there(tmp_path: Path) -> None:
    body = AXES + "baseline: {norm: bn, groups: 16, batch: 2}\ndesign: [{factorial: [norm]}]\n"
    assert labels(cells_of(tmp_path, body)) == [
        "norm=bn groups=- batch=2",
        "norm=gn groups=16 batch=2",
    ]


@pytest.mark.parametrize(
    ("base", "label", "groups"),
    [
        ("{kind: gn, groups: 8}", "8", 8),
        ("{kind: gn, groups: 16}", "16", 16),
        ("{kind: gn, groups: 4}", "base", 4),
    ],
)
def test_a_level_that_nobody_names_is_that_of_the_base(
    tmp_path: Path, base: str, label: str, groups: int
) -> None:
    (tmp_path / "b.yaml").write_text(
        f"model: {{kind: retinanet, neck: {{kind: fpn, norm_act: {base}}}}}"
    )
    body = "base: b.yaml\n" + AXES + "baseline: {norm: bn, batch: 2}\ndesign: [{factorial: [norm]}]"
    bn, gn = cells_of(tmp_path, body)
    assert (bn.arm_label, gn.arm_label) == (
        "norm=bn groups=- batch=2",
        f"norm=gn groups={label} batch=2",
    )
    assert gn.config.model.neck.norm_act.groups == groups


def test_a_level_of_the_base_and_the_same_level_by_name_are_one_arm(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("model: {kind: retinanet, neck: {kind: fpn, norm_act: bn}}")
    body = "base: b.yaml\n" + AXES.replace("[8, 16]", "[16, 32]")
    body += "baseline: {norm: bn, batch: 2}\ndesign: [{factorial: [norm, groups]}, "
    body += "{id: later, one_at_a_time: [norm]}]"
    cells = {c.arm_label: c.blocks for c in cells_of(tmp_path, body)}
    assert cells == {  # a new gn has 32 groups
        "norm=bn groups=- batch=2": ("factorial", "later"),
        "norm=gn groups=16 batch=2": ("factorial",),
        "norm=gn groups=32 batch=2": ("factorial", "later"),
    }


def test_conditions_may_follow_one_another(tmp_path: Path) -> None:
    body = AXES + "  eps: {path: model.neck.norm_act.eps, values: [0.1, 0.2], when: groups == 8}\n"
    body = body.replace("  batch: {path: train.batch_per_gpu, values: [1, 2]}\n", "")
    assert labels(cells_of(tmp_path, body)) == [
        "norm=bn groups=- eps=-",
        "norm=gn groups=8 eps=0.1",
        "norm=gn groups=8 eps=0.2",
        "norm=gn groups=16 eps=-",
    ]


def test_the_order_of_the_axes_decides_the_order_of_arms_only(tmp_path: Path) -> None:
    first, *rest = AXES.splitlines(keepends=True)
    turned = first + "".join(reversed(rest))
    ids = {cell_id(c.config, "d") for c in cells_of(tmp_path, AXES)}
    assert {cell_id(c.config, "d") for c in cells_of(tmp_path, turned)} == ids


def test_two_axes_may_write_one_setting_if_no_arm_has_both(tmp_path: Path) -> None:
    other = (
        "  more: {path: model.neck.norm_act.groups, values: [2, 4], when: norm == 'evonorm_s0'}\n"
    )
    body = AXES.replace("[bn, gn]", "[bn, gn, evonorm_s0]") + other
    cells = cells_of(tmp_path, body)
    assert len(cells) == (1 + 2 + 2) * 2
    both = body.replace("norm == 'evonorm_s0'", "norm != 'bn'")
    with pytest.raises(SweepError, match="groups is written by axis groups and by axis more"):
        cells_of(tmp_path, both)


def test_expressions_read_an_absent_axis_as_a_dash(tmp_path: Path) -> None:
    body = (
        AXES + "derive: {lr: \"0.1 if groups == '-' else 0.01 * groups\"}\nset: {optim.lr: =lr}\n"
    )
    rates = {c.axes["groups"]: c.config.optim.lr for c in cells_of(tmp_path, body)}
    assert rates == {"-": 0.1, 8: 0.08, 16: 0.16}
    told = r"derive.lr: \* needs numbers, got the text '-' .*; groups is absent from this arm"
    with pytest.raises(SweepError, match=told):
        cells_of(tmp_path, AXES + "derive: {lr: 0.01 * groups}\nset: {optim.lr: =lr}\n")


def test_names_that_an_absent_axis_gives_are_a_dash_too(tmp_path: Path) -> None:
    body = AXES.replace(
        "{path: model.neck.norm_act.groups, values: [8, 16], when",
        "{values: {few: {n: 8}, many: {n: 16}}, when",
    )
    body += "set: {optim.lr: \"=1 if n == '-' else n / 100\"}\n"
    rates = {c.axes["groups"]: c.config.optim.lr for c in cells_of(tmp_path, body)}
    assert rates == {"-": 1, "few": 0.08, "many": 0.16}


def test_only_sees_absent_axes(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, AXES)
    assert len(filter_cells(cells, "groups == '-'")) == 2
    assert len(filter_cells(cells, "groups == 8 or norm == 'bn'")) == 4
    with pytest.raises(SweepError, match=r"cannot compare .*; groups is absent from this arm"):
        filter_cells(cells, "groups <= 8")


def test_the_table_shows_a_dash(tmp_path: Path) -> None:
    plan = make_plan(sweep_of(tmp_path, AXES), root=tmp_path)
    assert plan.axes == {"norm": ["bn", "gn"], "groups": [8, 16, "-"], "batch": [1, 2]}
    rows = [Row(p.cell.axes, 0, "converged", {"mAP": 0.5}) for p in plan.cells]
    table = table_of(plan, rows)
    assert table.columns == ("batch 1", "batch 2")
    assert [line[0] for line in table.lines] == [("bn", "-"), ("gn", "8"), ("gn", "16")]
    assert [[e.text for e in line[1]] for line in table.lines] == [
        ["0.500 (1/1)*", "0.500 (1/1)"],
        ["0.500 (1/1)", "0.500 (1/1)"],
        ["0.500 (1/1)", "0.500 (1/1)"],
    ]


WHEN = "when: norm == 'gn'"


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("when: nrom == 'gn'", "axes.groups.when: unknown name 'nrom'|did you mean 'norm'?"),
        ("when: norm == gn", "unknown name 'gn'|text needs quotes"),
        ("when: [norm]", "must be a condition such as norm == 'gn'"),
        ("when: true", "must be a condition"),
        ("when: batch", "must be true or false for every arm, is 1"),
        ("when: batch < 'x'", "axes.groups.when: < cannot compare"),
        ("when: groups == 8", "depends on the axis itself: groups -> groups"),
        ("when: seed == 0", "unknown name 'seed'"),
        ("when: norm ==", "is not an expression"),
        (
            "whn: norm == 'gn'",
            "unknown key 'whn'; did you mean 'when'? choices: path, values, when",
        ),
    ],
)
def test_mistakes_in_a_condition(tmp_path: Path, new: str, words: str) -> None:
    with pytest.raises(SweepError) as caught:
        cells_of(tmp_path, AXES.replace(WHEN, new))
    assert str(caught.value).startswith(f"{tmp_path}/sweep.yaml:5: ")
    for part in words.split("|"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        (AXES.replace("[1, 2]}", "[1, 2], when: groups == 8}").replace(WHEN, "when: batch == 1"),
         5, "axes.groups.when: depends on the axis itself: groups -> batch -> groups"),
        (AXES.replace("[8, 16]", "{'-': 8, x: 16}"), 5, "the label '-' stands for an arm without"),
        (AXES.replace("[8, 16]", "{base: 8, x: 16}"), 5, "the label 'base' stands for the base's"),
        (AXES + "baseline: {norm: gn, batch: 1}\n", 7, "axis groups is missing; choices: 8, 16"),
        (AXES + "baseline: {norm: bn, groups: 9, batch: 1}\n", 7, "unknown level 9"),
        (AXES + "set: {model.neck.norm_act.groups: 4}\n", 7, "written by axis groups and by `set`"),
        (AXES + "baseline: {norm: bn, batch: 1}\ndesign: [{one_at_a_time: [groups]}]\n", 8,
         "design.0.one_at_a_time.0: the baseline has no axis groups"),
        (AXES + "design: [{include: [{norm: bn, groups: 8}]}]\n", 7,
         "design.0.include.0.groups: this arm has no axis groups: \"norm == 'gn'\" does not hold"),
    ],
)  # fmt: skip
def test_mistakes_around_a_condition(tmp_path: Path, body: str, line: int, words: str) -> None:
    with pytest.raises(SweepError) as caught:
        cells_of(tmp_path, body)
    assert str(caught.value).startswith(f"{tmp_path}/sweep.yaml:{line}: "), caught.value
    assert words in str(caught.value)
