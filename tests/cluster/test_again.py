"""A cell that is trained anew really begins at step 0, and its newest result counts."""

from __future__ import annotations

from tests.cluster.conftest import Workplace, steps_of


def test_fresh_begins_at_step_0_and_the_newest_result_counts(workplace: Workplace) -> None:
    place = workplace
    place.write(base={"train": {"steps": 4}, "runtime": {"log_every": 1}})
    only = ["--only", "norm == 'bn'"]
    assert place.run(*only).process.returncode == 0
    (first,) = place.cells()
    folder = place.cell_folder(first)
    weights = (folder / "checkpoint.pt").read_bytes()

    again = place.run(*only, "--fresh", "--yes")
    assert again.process.returncode == 0, again.stderr()
    assert "0 settled before, 1 to run" in again.stderr()
    runs = place.cells()
    assert [run.data.tags["cell.attempt"] for run in runs] == ["1", "2"]
    # had it gone on from the checkpoint, there would be no step left to make
    assert steps_of(folder) == [0, 1, 2, 3]
    assert (folder / "before" / "checkpoint.pt").read_bytes() == weights
    # the same cell on the same machine gives the same numbers
    assert runs[1].data.metrics["mAP"] == first.data.metrics["mAP"]

    rest = place.run(*only)
    assert "1 settled before, 0 to run" in rest.stderr()
    assert len(place.cells()) == 2
