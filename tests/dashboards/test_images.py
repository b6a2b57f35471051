"""Arms with one seed: their difference over images drawn anew, from a real store to the table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dashboards import report
from dashboards.document import document
from dashboards.images import over_images, single
from dashboards.resample import Matches, paired, read_matches
from dashboards.results import Reader
from dashboards.study import Cell
from detcore.evaluate import coco_scores
from detcore.matches import matches_of, write_matches
from tests.dashboards.ledgers import Start, empty_store, plan_of
from tests.dashboards.made import study
from tests.dashboards.test_resample import world

AXES = {"x": ["a", "b", "c"]}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What two detectors matched on the same images, of which the second sees less."""
    folder = tmp_path_factory.mktemp("matches")
    truth, found = world(3)
    out = {}
    for name, seen in (("all", found), ("half", found[::2])):
        (folder / name).mkdir()
        out[name] = folder / name / "matches.npz"
        write_matches(out[name], matches_of(coco_scores(truth, seen).run))
    return out


def test_arms_with_one_seed_in_common_and_no_others() -> None:
    of = study({("a",): [0.3, 0.31], ("b",): [0.4, "diverged"], ("c",): [0.5, 0.52]}, AXES, ["a"])
    assert [(arm.key, a.seed, b.seed) for arm, a, b in single(of)] == [("a1", 0, 0)]
    assert list(single(study({("a",): [0.3], ("b",): [0.4]}, AXES))) == []  # no baseline


def test_the_interval_is_that_of_the_paired_bootstrap(evaluated: dict[str, Path]) -> None:
    of = study({("a",): [0.3], ("b",): [0.4], ("c",): ["diverged"]}, AXES, ["a"])
    base, other = (read_matches(evaluated[name]) for name in ("all", "half"))

    def matches(cell: Cell) -> Matches:
        return base if cell.label.startswith("x=a") else other

    (found,) = over_images(of, matches, 300)
    wanted = paired(base, other, 300)
    assert (found.arm, found.seed, found.images) == ("a1", 0, 12)
    assert (found.difference, found.low, found.high) == (
        wanted.difference,
        wanted.low,
        wanted.high,
    )
    assert found.difference is not None
    assert found.difference < 0  # it sees less
    said = document(of, images=[found])["conclusions"]
    (text,) = (c["text"] for c in said if c["kind"] == "images")
    assert "covers which images were drawn, not which seed, and is no verdict" in text
    assert f"mAP {found.difference:+.3f}" in text
    # the arm stays without a verdict
    assert document(of, images=[found])["comparisons"]["mAP"]["arms"]["a1"]["verdict"] == "open"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, evaluated: dict[str, Path]) -> Path:
    """A store with a sweep of one seed; of its last arm nothing is on record but the numbers."""
    folder = tmp_path_factory.mktemp("images")
    root = empty_store(folder, folder / "work")
    axes = {"norm": {"path": "model.neck.norm_act", "values": ["bn", "gn", "evonorm_s0"]}}
    plan = plan_of(root, axes=axes, baseline={"norm": "bn"}, seeds=[0], metric={"name": "mAP"})
    start = Start(root, plan)
    for number, name in enumerate(("all", "half", "")):
        handle = start.begin(number)
        file = root / f"{number}" / "matches.npz"
        if name:
            file.parent.mkdir()
            shutil.copy(evaluated[name], file)
        start.ledger.finish(
            handle, "converged", "", 9, {"mAP": 0.3}, {}, artifacts=[file] if name else []
        )
    assert start.ledger.finish_sweep(start.run, {}, "FINISHED")
    return root


def test_from_the_store_to_the_table(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert report.main(["small", "--format", "md"]) == 0
    assert "with one seed: --images tells" in capsys.readouterr().out
    assert report.main(["small", "--format", "md", "--images", "200"]) == 0
    text = capsys.readouterr().out
    reader = Reader(place)
    cells = {cell.label.split()[0]: cell for cell in reader.study("small").cells}
    wanted = paired(reader.matches(cells["norm=bn"]), reader.matches(cells["norm=gn"]), 200)
    (line,) = (line for line in text.splitlines() if "norm=gn" in line and "drawn anew" in line)
    for number in (wanted.difference, wanted.low, wanted.high):
        assert f"{number:+.3f}" in line
    (none,) = (line for line in text.splitlines() if "nothing can be said over images" in line)
    assert none.startswith("- norm=evonorm_s0: ")
    assert "matches.npz of norm=evonorm" in none.replace("\\", "")


@pytest.mark.parametrize("draws", ["99", "many", "-5"])
def test_a_mistake_in_the_number_of_draws(draws: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        report.main(["small", f"--images={draws}"])
    assert ended.value.code == 2
    assert f"must be a number from 100 to 100000, is '{draws}'" in capsys.readouterr().err
