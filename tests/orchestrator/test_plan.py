"""What a plan says of its cells: what is left to do, their jobs, how they depend on the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from detcore.config import Config, from_dict
from detcore.data.folder import DataError
from orchestrator.planning.make_plan import make_plan
from orchestrator.sweep.spec import SweepError
from orchestrator.tracking.runs import Settled

SWEEP = {
    "version": 1,
    "name": "small",
    "axes": {
        "norm": {"path": "model.neck.norm_act", "values": ["gn", "bn"]},
        "batch": {"path": "train.batch_per_gpu", "values": [1, 4]},
    },
    "resources": {"workers": "2 if batch == 1 else 1", "cpus_per_worker": 3},
    "failure": {"hang_timeout_s": 7, "max_hours": 2},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    return path


def coco(folder: Path, name: str) -> Path:
    """The smallest folder in COCO format; `name` is its only class."""
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        (folder / split / "a.jpg").write_bytes(b"no image is read for a plan")
        content = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}],
            "annotations": [],
            "categories": [{"id": 1, "name": name}],
        }
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


def test_the_plan_as_data_says_what_is_compared_and_in_which_order(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    metric = {"name": "AP50", "goal": "max", "min_effect": 0.005, "variances": "equal"}
    file.write_text(yaml.safe_dump({**SWEEP, "metric": metric}, sort_keys=False))
    told = make_plan(file, only="batch == 4", root=tmp_path).whole().to_json()
    assert told["axes"] == {"norm": ["gn", "bn"], "batch": [1, 4]}  # as in the file
    assert told["metric"] == metric
    assert "tunes" not in told  # these are the cells of the table


def test_what_has_settled_is_not_to_do(file: Path, tmp_path: Path) -> None:
    plan = make_plan(file, root=tmp_path)
    assert [plan.status(p) for p in plan.cells] == ["waiting"] * 4
    assert plan.todo == list(plan.cells)
    second = plan.cells[1].id
    now = plan.reconciled({second: Settled("r", "diverged", "", 3, {}, {}, "other")})
    assert [now.status(p) for p in now.cells] == ["waiting", "diverged", "waiting", "waiting"]
    assert [p.id for p in now.todo] == [p.id for p in plan.cells if p.id != second]
    assert [c["status"] for c in now.to_json()["cells"]] == [now.status(p) for p in now.cells]
    assert "1 settled before, 3 to run" in now.headline()
    assert plan.todo == list(plan.cells)  # a plan is a value


def test_a_job_is_plain_data_that_gives_the_cell_back(file: Path, tmp_path: Path) -> None:
    plan = make_plan(file, root=tmp_path)
    for planned in plan.cells:
        job = json.loads(json.dumps(plan.job(planned)))
        assert from_dict(Config, job["config"]) == planned.cell.config
        assert job["ranks"] == job["config"]["train"]["workers"]
        assert job["ranks"] == (2 if planned.cell.axes["batch"] == 1 else 1)
        assert (job["cpus_per_worker"], job["gpus_per_worker"]) == (3, 0)
        assert (job["hang_timeout_s"], job["max_hours"]) == (7, 2)
        assert Path(job["folder"]) == tmp_path.resolve() / "mlruns" / "cells" / planned.id


def test_levels_come_in_the_order_of_the_file(file: Path, tmp_path: Path) -> None:
    plan = make_plan(file, root=tmp_path)
    assert plan.axes == {"norm": ["gn", "bn"], "batch": [1, 4]}
    some = make_plan(file, root=tmp_path, only="norm == 'bn'")
    assert some.axes == {"norm": ["bn"], "batch": [1, 4]}
    assert [p.id for p in some.cells] == [p.id for p in plan.cells if p.cell.axes["norm"] == "bn"]


def test_ids_follow_the_content_of_the_data_and_not_its_place(file: Path, tmp_path: Path) -> None:
    def ids(data: Path) -> list[str]:
        return make_plan(file, data=data, root=tmp_path).ids

    one = ids(coco(tmp_path / "one", "cat"))
    assert ids(coco(tmp_path / "two", "cat")) == one
    assert set(ids(coco(tmp_path / "three", "dog"))).isdisjoint(one)
    assert set(make_plan(file, root=tmp_path).ids).isdisjoint(one)


def test_relative_data_are_those_of_the_working_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranks run elsewhere: what they get must not depend on where they are."""
    coco(tmp_path / "mine", "cat")
    monkeypatch.chdir(tmp_path)
    plan = make_plan(file, data=Path("mine"))
    for planned in plan.cells:
        root = Path(plan.job(planned)["config"]["data"]["source"]["root"])
        assert root.is_absolute()
        assert root.samefile(tmp_path / "mine")


@pytest.mark.parametrize("place", ["$PLACE/mine", "${PLACE}/mine", "sub/$NAME", "~/mine"])
def test_data_with_a_variable_are_looked_for_where_a_rank_runs(
    place: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job has the variable, not its value here; the cells' ids do not depend on it."""
    coco(tmp_path / "mine", "cat")
    coco(tmp_path / "sub" / "mine", "cat")
    for name, value in (("PLACE", str(tmp_path)), ("NAME", "mine"), ("HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    plan = make_plan(file, data=Path(place))
    assert plan.ids == make_plan(file, data=tmp_path / "mine").ids
    for planned in plan.cells:
        root = plan.job(planned)["config"]["data"]["source"]["root"]
        assert root == (f"{tmp_path}/{place}" if place.startswith("sub") else place)


def test_absent_data_end_a_run_and_are_noted_in_a_dry_one(file: Path, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    source = f"data.source={{kind: coco, root: {absent}}}"
    with pytest.raises(DataError, match=r"absent: no such folder.*; name yours with --data DIR"):
        make_plan(file, overrides=[source], root=tmp_path)
    dry = make_plan(file, overrides=[source], need_data=False, root=tmp_path)
    assert len(dry.notes) == 1
    assert absent in dry.to_text()


def test_an_absent_image_is_told_before_any_cell_meets_it(file: Path, tmp_path: Path) -> None:
    data = coco(tmp_path / "data", "cat")
    listed = json.loads((data / "val.json").read_text())
    for number, name in enumerate(["gone.jpg", "lost.jpg"], 2):
        listed["images"].append({"id": number, "file_name": name, "width": 8, "height": 8})
    (data / "val.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match=r"gone\.jpg: the image is listed but absent \(2 of 3 are"):
        make_plan(file, data=data, root=tmp_path)
    dry = make_plan(file, data=data, need_data=False, root=tmp_path)
    (note,) = dry.notes
    assert "gone.jpg" in note
    skips = make_plan(file, data=data, overrides=["data.on_bad_image=skip"], root=tmp_path)
    assert skips.notes == ()
    (data / "val" / "gone.jpg").touch()
    (data / "val" / "lost.jpg").touch()
    assert make_plan(file, data=data, root=tmp_path).notes == ()


def test_a_part_of_a_sweep_knows_the_whole(file: Path, tmp_path: Path) -> None:
    plan = make_plan(file, root=tmp_path)
    part = make_plan(file, root=tmp_path, only="norm == 'bn'")
    assert plan.whole().ids == plan.ids == part.whole().ids
    assert part.whole().axes == plan.axes
    assert set(part.ids) < set(plan.ids)
    assert part.variant == plan.variant
    assert make_plan(file, root=tmp_path, overrides=["train.steps=7"]).variant != plan.variant


def test_data_of_other_cells_need_not_be_there(file: Path, tmp_path: Path) -> None:
    coco(tmp_path / "there", "cat")
    levels = {
        place: {"data.source": {"kind": "coco", "root": str(tmp_path / place)}, "data.flip": flip}
        for place, flip in (("there", 0.5), ("absent", 0.0))
    }
    file.write_text(
        yaml.safe_dump({**SWEEP, "axes": {"data": {"values": levels}}, "resources": {}})
    )
    with pytest.raises(DataError, match="absent: no such folder"):
        make_plan(file, root=tmp_path)
    part = make_plan(file, root=tmp_path, only="data == 'there'")
    assert (len(part.cells), len(part.whole().cells), part.notes) == (1, 2, ())


def test_no_cell_is_left_over_in_silence(file: Path, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="matches none of 4 cells"):
        make_plan(file, only="batch == 3", root=tmp_path)
