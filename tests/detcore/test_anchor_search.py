"""The anchor search against planted clusters, a plain loop and real boxes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans as scipy_kmeans

from detcore import anchors
from detcore.config import Config, from_dict, schema
from detcore.data.coco import open_split
from tests.detcore.data.builders import SHARED, box, coco, record, simple, write_split

SIZES = (10.0, 25.0, 60.0, 140.0)
RATIOS = (0.4, 1.0, 2.5)


def boxes_of(sizes: tuple[float, ...], ratios: tuple[float, ...], repeat: int = 1) -> np.ndarray:
    """All sizes in all ratios: widths and heights."""
    shapes = [(s * math.sqrt(r), s / math.sqrt(r)) for s in sizes for r in ratios]
    return np.array(shapes * repeat)


def random_shapes(seed: int, count: int) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(3.5, 0.8, (count, 2)))


def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    shared = min(a[0], b[0]) * min(a[1], b[1])
    return shared / (a[0] * a[1] + b[0] * b[1] - shared)


def loop_round(
    shapes: np.ndarray, sizes: list[float], ratios: list[float]
) -> tuple[list[float], list[float]]:
    """One round of the description: assign every box, then move sizes and ratios."""
    of_size: list[list[float]] = [[] for _ in sizes]
    of_ratio: list[list[float]] = [[] for _ in ratios]
    for w, h in shapes.tolist():
        _, _, b, a = max(
            (
                round(iou((w, h), (s * math.sqrt(r), s / math.sqrt(r))), 9),
                -abs(math.log(w / h / r)),  # on ties the nearest ratio
                b,
                a,
            )
            for b, r in enumerate(ratios)
            for a, s in enumerate(sizes)
        )
        of_size[a].append(math.sqrt(w * h))
        of_ratio[b].append(w / h)
    new_sizes = [sum(m) / len(m) if m else s for m, s in zip(of_size, sizes, strict=True)]
    new_ratios = [
        math.prod(m) ** (1 / len(m)) if m else r for m, r in zip(of_ratio, ratios, strict=True)
    ]
    return new_sizes, new_ratios


def test_finds_planted_shapes() -> None:
    found = anchors.search(boxes_of(SIZES, RATIOS, repeat=3), 4, 3)
    np.testing.assert_allclose(found.sizes, SIZES, rtol=1e-12)
    np.testing.assert_allclose(found.ratios, RATIOS, rtol=1e-12)
    assert found.settled


def test_finds_the_middles_of_planted_clusters_by_hand() -> None:
    """Squares of 9, 11, 98 and 102 pixels: sizes 10 (arithmetic mean) and 100; boxes twice and
    three times as wide as high: the ratio is sqrt(6), their geometric mean."""
    squares = [(9.0, 9.0), (11.0, 11.0), (98.0, 98.0), (102.0, 102.0)]
    found = anchors.search(np.array(squares), 2, 1)
    np.testing.assert_allclose(found.sizes, [10, 100])
    np.testing.assert_allclose(found.ratios, [1])
    wide = [(40 * math.sqrt(r), 40 / math.sqrt(r)) for r in (2.0, 3.0)]
    np.testing.assert_allclose(anchors.search(np.array(wide), 1, 1).ratios, [math.sqrt(6)])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31), count=st.integers(20, 60), s=st.integers(1, 5), r=st.integers(1, 4)
)
def test_equals_rounds_of_a_plain_loop(seed: int, count: int, s: int, r: int) -> None:
    """From the same k-means, until no size moves by more than 2 and no ratio by more than 0.01."""
    shapes = random_shapes(seed, count)
    sizes = anchors.kmeans(np.sqrt(shapes.prod(axis=1)), s).tolist()
    ratios = anchors.kmeans(shapes[:, 0] / shapes[:, 1], r).tolist()
    for _ in range(1000):
        before, (sizes, ratios) = (sizes, ratios), loop_round(shapes, sizes, ratios)
        move = max(abs(a - b) for a, b in zip(sizes, before[0], strict=True))
        ratio_move = max(abs(a - b) for a, b in zip(ratios, before[1], strict=True))
        if move <= 2 and ratio_move <= 0.01:
            break
    found = anchors.search(shapes, s, r)
    assert found.settled
    np.testing.assert_allclose(found.sizes, sorted(sizes), rtol=1e-9)
    np.testing.assert_allclose(found.ratios, sorted(ratios), rtol=1e-9)


def test_a_box_round_several_shapes_goes_to_the_nearest_ratio() -> None:
    """It holds the shapes of all three ratios, so their overlaps are equal; and so they are for a
    box inside all three."""
    for box_size in (100.0, 1.0):
        for ratio, expected in ((0.8, (0.5, 0.8, 2.0)), (1.6, (0.5, 1.0, 1.6))):
            shape = np.array([(box_size * math.sqrt(ratio), box_size / math.sqrt(ratio))])
            _, ratios = anchors.update(shape, np.array([10.0]), np.array([0.5, 1.0, 2.0]))
            np.testing.assert_allclose(ratios, expected)


def test_planted_shapes_are_a_fixed_point_in_any_number_of_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes = boxes_of(SIZES, RATIOS, repeat=3)
    monkeypatch.setattr(anchors, "CHUNK", 7)  # 36 boxes
    sizes, ratios = anchors.update(shapes, np.array(SIZES), np.array(RATIOS))
    np.testing.assert_allclose(sizes, SIZES, rtol=1e-12)
    np.testing.assert_allclose(ratios, RATIOS, rtol=1e-12)
    assert anchors.mean_best_iou(shapes, sizes, ratios) == pytest.approx(1)


def test_what_no_box_is_nearest_to_stays() -> None:
    shapes = np.array([(10.0, 10.0), (12.0, 12.0)])
    sizes, ratios = anchors.update(shapes, np.array([10.0, 500.0]), np.array([1.0, 9.0]))
    assert sizes.tolist() == [11, 500]
    np.testing.assert_allclose(ratios, [1, 9])


def test_unsettled_rounds_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that moves for ever stops and says so."""

    def restless(shapes: np.ndarray, sizes: np.ndarray, ratios: np.ndarray) -> tuple:
        return sizes + 3, ratios

    monkeypatch.setattr(anchors, "update", restless)
    assert not anchors.search(random_shapes(0, 9), 2, 2).settled


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.integers(0, 60), min_size=6, max_size=40), count=st.integers(2, 4))
def test_kmeans_ends_where_scipys_does(values: list[int], count: int) -> None:
    """From our result scipy's Lloyd iteration does not move on, and the centres rise."""
    numbers = np.array(values, dtype=float)
    if len(np.unique(numbers)) < count:
        with pytest.raises(ValueError, match="cannot be found"):
            anchors.kmeans(numbers, count)
        return
    centres = anchors.kmeans(numbers, count)
    assert np.all(np.diff(centres) > 0)
    again, _ = scipy_kmeans(numbers, centres, thresh=1e-9)
    np.testing.assert_allclose(np.sort(again), centres, atol=1e-9)


def test_kmeans_does_not_depend_on_the_order_and_finds_unequal_clusters() -> None:
    values = np.array([1.0] * 50 + [2.0] * 3 + [9.0] * 2)
    assert anchors.kmeans(values, 3).tolist() == [1, 2, 9]
    assert anchors.kmeans(values[::-1].copy(), 3).tolist() == [1, 2, 9]


def test_boxes_are_measured_in_the_resized_image(tmp_path: Path) -> None:
    """100 x 50 at short side 200 is 400 x 200: four times as large. 100 x 20 is capped by its long
    side: five times. The third image has none."""
    images = [record(1, (100, 50)), record(2, (100, 20)), record(3)]
    boxes = [box(1, 1, 1, [0, 0, 10, 20]), box(2, 1, 1, [5, 5, 3, 4]), box(3, 2, 2, [0, 0, 8, 6])]
    write_split(tmp_path, "train", coco(images, boxes))
    data = schema.Data(source=schema.CocoFolder(root=str(tmp_path)))
    shapes = anchors.box_shapes(open_split(data, "train"), 200, 500)
    assert shapes.tolist() == [[40, 80], [12, 16], [40, 30]]


def run(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    code = anchors.main(["--data", str(folder), *options])
    out, err = capsys.readouterr()
    return code, out, err


def test_prints_settings_that_a_config_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images of 200 pixels at short side 400: planted boxes twice as large."""
    planted = boxes_of((10.0, 20.0, 40.0, 80.0, 160.0), (1.0,)).tolist()
    boxes = [box(i + 1, 1, 1, [0, 0, w, h]) for i, (w, h) in enumerate(planted)]
    write_split(tmp_path, "train", coco([record(1, (200, 200))], boxes))
    options = ("--per-level", "1", "--ratios", "1", "--short-side", "400")
    code, out, err = run(tmp_path, capsys, *options)
    assert (code, err) == (0, "")
    config = from_dict(Config, {"model": {"kind": "retinanet", **yaml.safe_load(out)}})
    assert isinstance(config.model, schema.RetinaNet)
    assert config.model.anchors == schema.ListedAnchors(
        sizes=((20.0,), (40.0,), (80.0,), (160.0,), (320.0,)), ratios=((1.0,),)
    )
    assert "# 5 boxes of 1 images (train)" in out
    # the default sizes are 32 2^(i/3): nearest to 40 is 40.32, and so on; to 20 it is 32
    fit = [(20 / 32) ** 2, *((s / (s * 2 ** (1 / 3) * 0.8)) ** 2 for s in (40, 80, 160, 320))]
    default = f"with the default anchors (32 to 813 pixels) {np.mean(fit):.3f}\n"
    assert f"# mean best IoU of the boxes: 1.000; {default}" in out


@pytest.mark.parametrize("split", ["train", "val"])
def test_reads_the_split_asked_for(
    split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simple(tmp_path)  # 0 + 1 + 2 + 0 + 1 + 2 + 0 boxes on 7 images in each split
    only = {"train": "val", "val": "train"}[split]
    write_split(tmp_path, only, coco([record(1)], []))
    options = ("--levels", "1", "--per-level", "2", "--ratios", "1", "--split", split)
    code, out, _ = run(tmp_path, capsys, *options)
    assert code == 0
    assert f"# 6 boxes of 7 images ({split})" in out


@pytest.mark.parametrize(
    ("boxes", "options", "message"),
    [
        (0, (), "train.json: no boxes in 1 images"),
        (3, (), "15 sizes cannot be found: 3 boxes have 3 different sizes"),
        (20, ("--per-level", "1"), "3 ratios cannot be found: 20 boxes have 1 different ratios"),
    ],
)
def test_too_few_boxes_are_one_line(
    boxes: int,
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [box(i + 1, 1, 1, [0, 0, 4 + i, 4 + i]) for i in range(boxes)]
    write_split(tmp_path, "train", coco([record(1)], rows))
    code, out, err = run(tmp_path, capsys, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "no", capsys) == (2, "", f"{tmp_path / 'no'}: no such folder (--data)\n")
    code, _, err = run(tmp_path, capsys)
    assert code == 2
    assert err.endswith("set --annotations\n")
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, capsys, "--levels", "0")
    assert stop.value.code == 2
    assert "must be a whole number from 1, is '0'" in capsys.readouterr().err


@pytest.mark.skipif(not (SHARED / "bccd").is_dir(), reason="needs the photographs beside it")
def test_fits_real_boxes_better_than_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(SHARED / "bccd", capsys)
    assert code == 0
    assert "# 2804 boxes of 205 images (train)" in out
    found = yaml.safe_load(out)["anchors"]
    data = schema.Data(source=schema.CocoFolder(root=str(SHARED / "bccd")))
    shapes = anchors.box_shapes(open_split(data, "train"), 576, 1333)
    ours = anchors.mean_best_iou(shapes, np.ravel(found["sizes"]), np.ravel(found["ratios"]))
    assert ours > anchors.mean_best_iou(shapes, *anchors.default_shapes())
    sizes, ratios = loop_round(
        shapes[::40], *([np.ravel(found[k]).tolist() for k in ("sizes", "ratios")])
    )
    few = anchors.update(shapes[::40], np.ravel(found["sizes"]), np.ravel(found["ratios"]))
    np.testing.assert_allclose(few[0], sizes)
    np.testing.assert_allclose(few[1], ratios)
