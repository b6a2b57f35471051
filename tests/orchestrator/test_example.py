"""A sweep that uses every key of the design, against counts made by hand and by another program."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from orchestrator.sweep.expand import expand, expansion
from orchestrator.sweep.spec import load_sweep

EXAMPLE = Path(__file__).parent / "example.yaml"


def test_what_the_example_comes_to() -> None:
    """Blocks of 16 (20 less 4 excluded), 9, 16 and 1 arms; the baseline is in three of them. The
    screen runs two of the five seeds: 25 x 5 + 15 x 2 cells."""
    found = expansion(load_sweep(EXAMPLE))
    cells, first = found.cells, [c for c in found.cells if c.seed == 0]
    assert len({c.arm_label for c in cells}) == len(first) == 40
    assert len(cells) == 155
    arms = Counter(block for cell in first for block in cell.blocks)
    assert arms == {"main": 16, "ofat": 9, "screen": 16, "named": 1}
    assert Counter(c.resources.workers for c in cells) == {8: 125, 4: 15, 2: 15}
    assert Counter(excluded.why for excluded in found.excluded) == {
        "frozen statistics: batch size cannot matter": 2,
        "the group count is only asked for small batches": 2,
    }
    assert len(found.tuning) == 16 * 3  # of the arms of `main`, one for each value of lr_mult


def test_the_full_factorial_of_the_example(tmp_path: Path) -> None:
    """(3 norms + gn with 2 group counts) x 4 x 3 x 3 x 3 x 3."""
    text = EXAMPLE.read_text().replace("../../sweeps", str(EXAMPLE.parents[2] / "sweeps"))
    head, rest = text.split("design:")
    file = tmp_path / "whole.yaml"
    file.write_text(head + "seeds: [0]\ntune:" + rest.split("tune:")[1])
    assert len(expand(load_sweep(file))) == 1620


def test_cells_of_the_example() -> None:
    cells = {c.label: c for c in expand(load_sweep(EXAMPLE))}
    start = "norm=bn gn_groups=- batch_per_gpu=2 neck=fpn loss=giou schedule=1x aug=plain seed=0"
    assert cells[start].blocks == ("main", "ofat", "screen")
    everything = next(c for c in cells.values() if c.name == "everything on")
    assert everything.blocks == ("named",)
    assert everything.axes["gn_groups"] == everything.config.model.neck.norm_act.groups == 32
    for cell in cells.values():
        train = cell.config.train
        assert train.workers * train.batch_per_gpu * train.accumulate == 16
        assert (cell.axes["gn_groups"] == "-") == (cell.axes["norm"] != "gn")
        assert cell.config.model.head.norm_act.kind == cell.axes["norm"]
    # the screen names no group count: its gn is the gn of the base config
    screened = [c for c in cells.values() if c.blocks == ("screen",) and c.axes["norm"] == "gn"]
    assert {c.axes["gn_groups"] for c in screened} == {32}
    assert {c.seed for c in screened} == {0, 1}
