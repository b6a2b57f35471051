"""The blocks of a design: which arms each asks for, and how they are united."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from orchestrator.planning.make_plan import make_plan
from orchestrator.sweep.expand import Cell, expand
from orchestrator.sweep.spec import SweepError, load_sweep

AXES = """\
axes:
  norm: {path: model.neck.norm_act, values: [bn, gn, evonorm_s0]}
  loss: {path: model.box_loss, values: [giou, ciou]}
  flip: {path: data.flip, values: [0, 0.25, 0.5]}
  batch: {path: train.batch_per_gpu, values: [1, 2]}
baseline: {norm: gn, loss: giou, flip: 0.5, batch: 2}
seeds: [0, 1, 2]
"""


def sweep_of(folder: Path, design: str, axes: str = AXES) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(f"version: 1\nname: t\n{axes}design:\n{design}\n")
    return file


def cells_of(folder: Path, design: str, axes: str = AXES) -> list[Cell]:
    return expand(load_sweep(sweep_of(folder, design, axes)))


def changes(cells: list[Cell], seed: int = 0) -> list[dict[str, object]]:
    """Each arm by the levels that are not the baseline's."""
    start = {"norm": "gn", "loss": "giou", "flip": 0.5, "batch": 2}
    arms = [c.axes for c in cells if c.seed == seed]
    return [{n: v for n, v in arm.items() if v != start[n]} for arm in arms]


def test_one_at_a_time(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, "- {one_at_a_time: [norm, flip]}")
    assert changes(cells) == [
        {},
        {"norm": "bn"},
        {"norm": "evonorm_s0"},
        {"flip": 0},
        {"flip": 0.25},
    ]
    assert len(cells) == 5 * 3


def test_leave_one_out(tmp_path: Path) -> None:
    block = (
        "{full: {norm: evonorm_s0, loss: ciou, flip: 0}, remove: {norm: gn, loss: giou, flip: 0.5}}"
    )
    cells = cells_of(tmp_path, f"- {{leave_one_out: {block}}}")
    full = {"norm": "evonorm_s0", "loss": "ciou", "flip": 0}
    without = [{n: v for n, v in full.items() if n != left} for left in full]
    assert changes(cells) == [full, *without]


def test_leave_one_out_may_put_another_level_in_its_place(tmp_path: Path) -> None:
    block = "{full: {norm: evonorm_s0}, remove: {norm: bn, batch: 1}}"
    cells = cells_of(tmp_path, f"- {{leave_one_out: {block}}}")
    assert changes(cells) == [
        {"norm": "evonorm_s0"},
        {"norm": "bn"},
        {"norm": "evonorm_s0", "batch": 1},
    ]


def test_include(tmp_path: Path) -> None:
    block = "[{name: all new, norm: evonorm_s0, loss: ciou}, {batch: 1}]"
    cells = cells_of(tmp_path, f"- {{include: {block}}}")
    assert changes(cells) == [{"norm": "evonorm_s0", "loss": "ciou"}, {"batch": 1}]
    assert [c.name for c in cells if c.seed == 0] == ["all new", None]


def test_a_half_of_two_to_the_four(tmp_path: Path) -> None:
    """batch = norm x loss x flip: an even number of factors is high in every run."""
    levels = "{norm: [gn, bn], loss: [giou, ciou], flip: [0.5, 0], batch: [2, 1]}"
    cells = cells_of(tmp_path, f"- {{fractional: {{resolution: IV, levels: {levels}}}}}")
    new = {"norm": "bn", "loss": "ciou", "flip": 0, "batch": 1}
    even = [[*some] for n in (0, 2, 4) for some in combinations(new.items(), n)]
    assert sorted(map(str, changes(cells))) == sorted(str(dict(some)) for some in even)


def test_the_plan_prints_what_a_fraction_confounds(tmp_path: Path) -> None:
    levels = "{norm: [gn, bn], loss: [giou, ciou], flip: [0.5, 0], batch: [2, 1]}"
    design = f"- {{id: screen, fractional: {{resolution: IV, levels: {levels}}}, seeds: [0]}}"
    plan = make_plan(sweep_of(tmp_path, design), root=tmp_path)
    (found,) = plan.to_json()["aliases"]
    assert found == {
        "block": "screen",
        "factors": {
            "batch": [2, 1], "flip": [0.5, 0], "loss": ["giou", "ciou"], "norm": ["gn", "bn"]
        },
        "runs": 8,
        "excluded": 0,
        "resolution": "IV",
        "generators": ["norm = batch × flip × loss"],
        "defining": ["batch × flip × loss × norm"],
        "aliases": [
            {"effect": "batch", "with": ["flip × loss × norm"]},
            {"effect": "flip", "with": ["batch × loss × norm"]},
            {"effect": "loss", "with": ["batch × flip × norm"]},
            {"effect": "norm", "with": ["batch × flip × loss"]},
            {"effect": "batch × flip", "with": ["loss × norm"]},
            {"effect": "batch × loss", "with": ["flip × norm"]},
            {"effect": "batch × norm", "with": ["flip × loss"]},
        ],
    }  # fmt: skip
    text = plan.to_text()
    assert "Block screen: 8 of 16 runs, resolution IV, norm = batch × flip × loss" in text
    assert "  batch × flip = loss × norm\n" in text


def test_an_excluded_run_spoils_a_fraction(tmp_path: Path) -> None:
    levels = "{norm: [gn, bn], loss: [giou, ciou], batch: [2, 1]}"
    design = f"- {{fractional: {{resolution: III, levels: {levels}}}}}\n"
    design += "exclude: [{if: norm == 'bn' and batch == 1, why: it diverges}]"
    plan = make_plan(sweep_of(tmp_path, design), root=tmp_path)
    assert [
        len({p.cell.arm_label for p in plan.cells}),
        plan.to_json()["aliases"][0]["excluded"],
    ] == [3, 1]
    assert "1 of its runs are left out: the block is not balanced" in plan.to_text()
    assert plan.to_json()["aliases"][0]["aliases"] == [  # all low is a run: I = -ABC
        {"effect": "batch", "with": ["-loss × norm"]},
        {"effect": "loss", "with": ["-batch × norm"]},
        {"effect": "norm", "with": ["-batch × loss"]},
    ]


def test_blocks_are_united_with_their_seeds(tmp_path: Path) -> None:
    design = (
        "- {id: a, one_at_a_time: [norm], seeds: [2, 0]}\n"
        "- {factorial: [norm, loss], seeds: [1]}\n"
        "- {factorial: [loss]}"
    )
    cells = cells_of(tmp_path, design)
    asked = {(str(c), cell.seed): cell.blocks for cell in cells for c in changes([cell], cell.seed)}
    assert asked == {
        ("{}", 0): ("a", "factorial_2"),
        ("{'norm': 'bn'}", 0): ("a",),
        ("{'norm': 'evonorm_s0'}", 0): ("a",),
        ("{'loss': 'ciou'}", 0): ("factorial_2",),
        ("{}", 1): ("factorial", "factorial_2"),
        ("{'norm': 'bn'}", 1): ("factorial",),
        ("{'norm': 'evonorm_s0'}", 1): ("factorial",),
        ("{'norm': 'bn', 'loss': 'ciou'}", 1): ("factorial",),
        ("{'loss': 'ciou'}", 1): ("factorial", "factorial_2"),
        ("{'norm': 'evonorm_s0', 'loss': 'ciou'}", 1): ("factorial",),
        ("{}", 2): ("a", "factorial_2"),
        ("{'norm': 'bn'}", 2): ("a",),
        ("{'norm': 'evonorm_s0'}", 2): ("a",),
        ("{'loss': 'ciou'}", 2): ("factorial_2",),
    }
    assert [c.seed for c in cells] == sorted(c.seed for c in cells)
    plan = make_plan(tmp_path / "sweep.yaml", root=tmp_path)
    assert [
        (b["id"], b["kind"], b["seeds"], b["arms"], b["cells"]) for b in plan.to_json()["blocks"]
    ] == [
        ("a", "one_at_a_time", [0, 2], 3, 6),
        ("factorial", "factorial", [1], 6, 6),
        ("factorial_2", "factorial", [0, 1, 2], 2, 6),
    ]
    assert "  a            one_at_a_time  3 arms  6 cells\n" in plan.to_text()
    part = make_plan(tmp_path / "sweep.yaml", root=tmp_path, only="loss == 'ciou'")
    assert [b["cells"] for b in part.to_json()["blocks"]] == [0, 3, 3]


def test_a_plan_names_its_arms(tmp_path: Path) -> None:
    plan = make_plan(sweep_of(tmp_path, "- {include: [{name: no flip, flip: 0}]}"), root=tmp_path)
    label = "norm=gn loss=giou flip=0 batch=2"
    assert plan.to_json()["blocks"][0]["names"] == {label: "no flip"}
    assert f"  {label}  'no flip'\n" in plan.to_text()


def test_the_design_of_the_readme(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "sweeps/README.md").read_text()
    design = readme.split("```yaml\ndesign:\n")[1].split("```")[0]
    axes = (
        "axes:\n  norm: {path: model.neck.norm_act, values: [bn, gn]}\n"
        "  neck: {path: model.neck, values: [fpn, bifpn]}\n"
        "  loss: {path: model.box_loss, values: [giou, ciou, huber]}\n"
        "  flip: {path: data.flip, values: [0, 0.5]}\n"
        "  batch_per_gpu: {path: train.batch_per_gpu, values: [1, 2, 4]}\n"
        "seeds: [0, 1, 2]\n"
    )
    file = sweep_of(tmp_path, design, axes)
    blocks = make_plan(file, root=tmp_path).to_json()["blocks"]
    assert {b["id"]: (b["arms"], b["cells"]) for b in blocks} == {
        "main": (6, 18),
        "ofat": (4, 12),
        "leave_one_out": (4, 12),
        "screen": (16, 32),
        "include": (1, 3),
    }


def test_many_axes_one_at_a_time_stay_few_arms(tmp_path: Path) -> None:
    """The table of a design must not cost what the full factorial would: 3 ** 30 arms."""
    from orchestrator.planning.plan_table import table_of
    from orchestrator.tracking.table import Row

    axes = "axes:\n"
    axes += "".join(f"  a{i}: {{values: [1, 2, 3]}}\n" for i in range(30))
    total = " + ".join(f"a{i} * {4**i}" for i in range(28))
    axes += f"derive: {{s: {total}, t: s + a28 * {4**28} + a29 * {4**29}}}\n"
    axes += "set: {train.steps: =t}\n"
    names = ", ".join(f"a{i}" for i in range(30))
    plan = make_plan(sweep_of(tmp_path, f"- {{one_at_a_time: [{names}]}}", axes), root=tmp_path)
    rows = [Row(p.cell.axes, 0, "converged", {"mAP": 0.5}) for p in plan.cells]
    assert len(rows) == 61
    assert sum(e.text != "·" for _, line in table_of(plan, rows).lines for e in line) == 61


@pytest.mark.parametrize(
    ("design", "words"),
    [
        ("- [norm]", "design.0: must be a mapping such as {factorial: [axes]}, is ['norm']"),
        ("- {id: a}", "a block is one of factorial, one_at_a_time|this one has none"),
        ("- {factorial: [norm], include: [{norm: bn}]}", "this one has factorial and include"),
        ("- {factorial: [norm], sedes: [0]}", "design.0.sedes: unknown key 'sedes'; did you mean"),
        ("- {factorial: [norm], id: a b}", "design.0.id: must be letters, digits"),
        ("- {factorial: [norm], id: 3}", "design.0.id: must be letters"),
        ("- {factorial: [norm], seeds: [3]}", "design.0.seeds.0: unknown seed 3; choices: 0, 1, 2"),
        ("- {factorial: [norm], seeds: [1, 1]}", "seed 1 is given twice"),
        ("- {factorial: [norm], seeds: []}", "must be a list of seeds of the sweep, is []"),
        ("- {factorial: [norm], seeds: 1}", "must be a list of seeds of the sweep, is 1"),
        ("- {factorial: norm}", "design.0.factorial: must be a list of axes, is 'norm'"),
        ("- {factorial: [[norm]]}", "factorial.0: unknown axis ['norm']; did you mean 'norm'?"),
        ("- {one_at_a_time: [nrom]}", "unknown axis 'nrom'; did you mean 'norm'?"),
        ("- {one_at_a_time: []}", "design.0.one_at_a_time: must be a list of axes, is []"),
        ("- {one_at_a_time: [norm, norm]}", "axis norm is given twice"),
        ("- {leave_one_out: {full: {norm: bn}}}", "must be {full: {axis: level}, remove: "),
        ("- {leave_one_out: {full: {norm: xx}, remove: {norm: gn}}}",
         "design.0.leave_one_out.full.norm: unknown level 'xx'; choices: bn, gn, evonorm_s0"),
        ("- {leave_one_out: {full: {norm: bn}, remove: {}}}", "must map axes to levels, is {}"),
        ("- {leave_one_out: {full: {norm: bn}, remove: {norm: bn}}}",
         "design.0.leave_one_out.remove.norm: removes nothing: `full` has 'bn' too"),
        ("- {leave_one_out: {full: {norm: bn}, remove: {flip: 0.5}}}", "removes nothing"),
        ("- {include: {norm: bn}}", "must be a list of {axis: level}"),
        ("- {include: [{name: x}]}", "design.0.include.0: must map axes to levels, is {}"),
        ("- {include: [{nrom: bn}]}", "design.0.include.0.nrom: unknown axis 'nrom'"),
        ("- {include: [{name: 3, norm: bn}]}", "design.0.include.0.name: must be one line of text"),
        ("- {fractional: [norm]}", "must be {resolution: V, levels: {axis: [low, high]}}"),
        ("- {fractional: {resolution: VI, levels: {norm: [bn, gn]}}}",
         "fractional.resolution: unknown resolution 'VI'; choices: III, IV, V"),
        ("- {fractional: {resolution: 5, levels: {norm: [bn, gn]}}}", "unknown resolution 5"),
        ("- {fractional: {resolution: III, levels: {norm: [bn, gn], loss: [giou, ciou]}}}",
         "no standard fraction of resolution III for 2 axes; write them as `factorial`"),
        ("- {fractional: {resolution: III, levels: {norm: [bn, gn, evonorm_s0]}}}",
         "levels.norm: must be two levels, [low, high], is ['bn', 'gn', 'evonorm_s0']"),
        ("- {fractional: {resolution: III, levels: {norm: [bn, bn]}}}",
         "low and high are both 'bn'"),
        ("- {fractional: {resolution: III, levels: {norm: [bn, g]}}}",
         "fractional.levels.norm.1: unknown level 'g'; did you mean 'gn'?"),
        ("- {fractional: {resolution: III, levels: [norm]}}", "must map axes to [low, high]"),
    ],
)  # fmt: skip
def test_mistakes_in_a_block(tmp_path: Path, design: str, words: str) -> None:
    with pytest.raises(SweepError) as caught:
        cells_of(tmp_path, design)
    assert str(caught.value).startswith(f"{tmp_path}/sweep.yaml:11: "), caught.value
    assert all(part in str(caught.value) for part in words.split("|")), caught.value


@pytest.mark.parametrize(
    ("design", "line", "words"),
    [
        ("- {id: a, factorial: [norm]}\n- {id: a, factorial: [loss]}", 12,
         "design.1.id: the id 'a' is taken by block 0"),
        ("- {factorial: [norm]}\n- {factorial: [loss], id: factorial}", 12, "is taken by block 0"),
    ],
)  # fmt: skip
def test_an_id_is_given_once(tmp_path: Path, design: str, line: int, words: str) -> None:
    with pytest.raises(SweepError, match=words) as caught:
        cells_of(tmp_path, design)
    assert f"sweep.yaml:{line}: " in str(caught.value)


def test_too_many_cells_are_refused_before_they_are_made(tmp_path: Path) -> None:
    axes = "axes:\n" + "".join(f"  a{i}: {{values: [1, 2, 3]}}\n" for i in range(30))
    names = ", ".join(f"a{i}" for i in range(30))
    with pytest.raises(SweepError, match="cells are too many, at most 100000"):
        cells_of(tmp_path, f"- {{factorial: [{names}]}}", axes)


def test_a_factor_is_in_every_run(tmp_path: Path) -> None:
    axes = AXES.replace("values: [1, 2]}", "values: [1, 2], when: norm == 'gn'}")
    levels = "{norm: [gn, bn], loss: [giou, ciou], batch: [2, 1]}"
    design = f"- {{fractional: {{resolution: III, levels: {levels}}}}}"
    with pytest.raises(SweepError, match=r"levels\.batch: axis batch has a `when`"):
        cells_of(tmp_path, design, axes)
