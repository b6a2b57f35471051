"""From a sweep to its cells: the grid, what each cell's config becomes, and the filter."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.sweep.axes import tidy
from orchestrator.sweep.expand import Cell, expand, filter_cells
from orchestrator.sweep.spec import SweepError, load_sweep


def cells_of(folder: Path, body: str, **options: Any) -> list[Cell]:
    file = folder / "sweep.yaml"
    file.write_text(f"version: 1\nname: t\n{body}")
    return expand(load_sweep(file, **options))


GRID = """\
axes:
  norm: {path: model.neck.norm_act, values: [bn, gn]}
  batch_per_gpu: {path: train.batch_per_gpu, values: [1, 2]}
seeds: [3, 0]
"""


def test_order_is_seed_by_seed_then_the_first_axis_slowest(tmp_path: Path) -> None:
    assert [c.label for c in cells_of(tmp_path, GRID)] == [
        "norm=bn batch_per_gpu=1 seed=3",
        "norm=bn batch_per_gpu=2 seed=3",
        "norm=gn batch_per_gpu=1 seed=3",
        "norm=gn batch_per_gpu=2 seed=3",
        "norm=bn batch_per_gpu=1 seed=0",
        "norm=bn batch_per_gpu=2 seed=0",
        "norm=gn batch_per_gpu=1 seed=0",
        "norm=gn batch_per_gpu=2 seed=0",
    ]


def test_a_cell_says_what_it_is(tmp_path: Path) -> None:
    cell = cells_of(tmp_path, GRID)[1]
    assert cell.arm_label == "norm=bn batch_per_gpu=2"
    assert cell.axes == {"norm": "bn", "batch_per_gpu": 2}
    assert type(cell.axes["batch_per_gpu"]) is int
    assert (cell.seed, cell.config.seed, cell.ref) == (3, 3, None)
    assert cell.config.model.neck.norm_act.kind == "bn"
    assert cell.config.train.batch_per_gpu == 2


def test_expansion_is_pure(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"version: 1\nname: t\n{GRID}")
    sweep = load_sweep(file)
    assert expand(sweep) == expand(sweep)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
)
def test_full_factorial_is_the_product(
    tmp_path: Path, batches: list[int], accumulate: list[int], seeds: list[int]
) -> None:
    body = (
        f"axes:\n  a: {{path: train.batch_per_gpu, values: {batches}}}\n"
        f"  b: {{path: train.accumulate, values: {accumulate}}}\nseeds: {seeds}\n"
    )
    got = [
        (c.seed, c.config.train.batch_per_gpu, c.config.train.accumulate)
        for c in cells_of(tmp_path, body)
    ]
    assert got == list(itertools.product(seeds, batches, accumulate))


def test_blocks_are_united_and_the_rest_stays_at_the_baseline(tmp_path: Path) -> None:
    body = GRID + "baseline: {norm: gn, batch_per_gpu: 2}\n"
    body += "design: [{factorial: [norm]}, {factorial: [batch_per_gpu]}]\n"
    assert [c.arm_label for c in cells_of(tmp_path, body) if c.seed == 0] == [
        "norm=bn batch_per_gpu=2",
        "norm=gn batch_per_gpu=2",  # in both blocks, once here
        "norm=gn batch_per_gpu=1",
    ]


def test_one_level_may_set_several_paths(tmp_path: Path) -> None:
    body = "axes: {norm: {path: [model.neck.norm_act, model.head.norm_act], values: [bn, gn]}}\n"
    for cell in cells_of(tmp_path, body):
        model = cell.config.model
        assert model.neck.norm_act.kind == model.head.norm_act.kind == cell.axes["norm"]


def test_a_labelled_level_is_a_sub_tree(tmp_path: Path) -> None:
    body = (
        "axes:\n  neck:\n    path: model.neck\n    values:\n"
        "      small: {channels: 64}\n      large: {channels: 128, norm_act: bn}\n"
    )
    small, large = cells_of(tmp_path, body)
    assert (small.config.model.neck.channels, small.config.model.neck.norm_act.kind) == (64, "gn")
    assert (large.config.model.neck.channels, large.config.model.neck.norm_act.kind) == (128, "bn")


def test_a_level_without_path_names_paths_and_names(tmp_path: Path) -> None:
    body = (
        "axes:\n  pair:\n    values:\n"
        "      4x3: {train.batch_per_gpu: 4, gpus: 3}\n"
        "      2x2: {train.batch_per_gpu: 2, gpus: 2}\n"
        "resources: {workers: gpus, gpus_per_worker: 1}\n"
        "derive: {total: workers * 100}\nset: {train.steps: =total}\n"
    )
    got = [
        (c.axes["pair"], c.config.train.batch_per_gpu, c.config.train.workers, c.config.train.steps)
        for c in cells_of(tmp_path, body)
    ]
    assert got == [("4x3", 4, 3, 300), ("2x2", 2, 2, 200)]


def test_derived_numbers_worked_by_hand(tmp_path: Path) -> None:
    body = GRID + (
        "derive:\n"
        "  steps: images // global_batch\n"  # before the lines it reads
        "  global_batch: batch_per_gpu * workers\n"
        "  images: 3200\n"
        "  lr: 0.02 * global_batch / 8\n"
        "set:\n  train.steps: =steps\n  optim.lr: =lr\n"
        "  schedule.warmup_steps: =min(steps / 8, 120)\n"
        "resources: {workers: 2}\n"
    )
    got = {
        c.axes["batch_per_gpu"]: (
            c.config.train.steps,
            c.config.optim.lr,
            c.config.schedule.warmup_steps,
        )
        for c in cells_of(tmp_path, body)
    }
    assert got == {1: (1600, 0.005, 120), 2: (800, 0.01, 100)}


def test_expressions_see_the_seed_and_text_levels(tmp_path: Path) -> None:
    body = GRID + "set: {optim.lr: \"=0.1 + seed if norm == 'bn' else 0.2\"}\n"
    for cell in cells_of(tmp_path, body):
        assert cell.config.optim.lr == (0.1 + cell.seed if cell.axes["norm"] == "bn" else 0.2)


def test_resources_from_axes_enter_the_config(tmp_path: Path) -> None:
    body = GRID + "resources: {workers: 8 // batch_per_gpu, cpus_per_worker: 1 / 2}\n"
    for cell in cells_of(tmp_path, body):
        workers = {1: 8, 2: 4}[cell.config.train.batch_per_gpu]
        assert cell.resources.workers == cell.config.train.workers == workers
        assert cell.resources.cpus_per_worker == 0.5


def test_the_base_is_kept_where_nothing_is_set(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        "model: {kind: retinanet, neck: {kind: fpn, norm_act: {kind: gn, groups: 8}}}\n"
        "optim: {momentum: 0.5}"
    )
    bn, gn = cells_of(tmp_path, "base: b.yaml\n" + GRID.split("  batch")[0] + "seeds: [0]")
    assert bn.config.optim.momentum == 0.5
    norm = gn.config.model.neck.norm_act
    assert norm.kind == "gn"
    assert norm.groups == 8  # `gn` is short for {kind: gn}


def test_the_deeper_path_is_written_last(tmp_path: Path) -> None:
    body = (
        "set: {schedule.warmup_steps: 7}\naxes: {decay: {path: schedule, values: [step, cosine]}}\n"
    )
    for cell in cells_of(tmp_path, body):
        assert (cell.config.schedule.kind, cell.config.schedule.warmup_steps) == (
            cell.axes["decay"],
            7,
        )


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.02 * 12 / 8, 0.03), (16 / 8, 2), (0.1 + 0.2, 0.3), (1 / 3, 0.333333333333), ("x", "x")],
)
def test_computed_numbers_are_written_as_a_person_would(value: Any, expected: Any) -> None:
    assert tidy(value) == expected
    assert type(tidy(value)) is type(expected)


# ---------------------------------------------------------------- --only


@pytest.mark.parametrize(
    ("only", "count"),
    [
        ("norm == 'gn'", 4),
        ("norm == 'gn' and batch_per_gpu <= 1", 2),
        ("seed == 0", 4),
        ("batch_per_gpu in [1, 2]", 8),
        ("not norm == 'gn' and seed > 0", 2),
    ],
)
def test_filter(tmp_path: Path, only: str, count: int) -> None:
    cells = cells_of(tmp_path, GRID)
    chosen = filter_cells(cells, only)
    assert len(chosen) == count
    assert chosen == [c for c in cells if c in chosen]  # in the same order


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("nrom == 'gn'", ["unknown name 'nrom'", "did you mean 'norm'?"]),
        ("norm == gn", ["'gn'", "quotes"]),
        ("norm == 'xx'", ["matches none of 8 cells", "norm: bn, gn", "batch_per_gpu: 1, 2"]),
        ("batch_per_gpu", ["must be true or false", "1"]),
        ("norm < 2", ["cannot compare"]),
        ("norm ==", ["column"]),
        ("", ["empty"]),
        ("norm=gn", ["is not an expression"]),
    ],
)
def test_filter_mistakes(tmp_path: Path, only: str, words: list[str]) -> None:
    with pytest.raises(SweepError, match="--only: ") as caught:
        filter_cells(cells_of(tmp_path, GRID), only)
    assert all(word in str(caught.value) for word in words)
