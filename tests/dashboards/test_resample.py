"""The bootstrap over images: mAP against pycocotools, also on data sets in which images are there
several times; the interval against one made by brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.resample import COVERS, Matches, mean_ap, mean_ap_of, paired, read_matches
from detcore.evaluate import coco_metrics, coco_scores
from detcore.matches import matches_of, write_matches

Truth = dict[str, Any]
Found = np.ndarray


def world(seed: int, images: int = 12, classes: int = 3) -> tuple[Truth, Found]:
    """Objects, some of them crowds, some images empty; detections near them and elsewhere, some of
    another class. No two scores are equal."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for image in range(images):
        for _ in range(rng.integers(0, 5)):
            box = [*rng.uniform(0, 150, 2), *rng.uniform(8, 60, 2)]
            kind = int(rng.integers(classes)) + 1
            crowd = int(rng.random() < 0.3)
            area = box[2] * box[3]
            made = {"id": len(boxes) + 1, "image_id": image, "bbox": box, "area": area}
            boxes.append({**made, "category_id": kind, "iscrowd": crowd})
            for _ in range(rng.integers(0, 3)):
                shaken = (np.array(box) + rng.normal(0, 4, 4)).clip(1).tolist()
                found.append((image, kind if rng.random() < 0.9 else 1, shaken))
        for _ in range(3):
            noise = [*rng.uniform(0, 150, 2), *rng.uniform(8, 60, 2)]
            found.append((image, int(rng.integers(classes)) + 1, noise))
    scores = rng.permutation(len(found)) / len(found)
    rows = [[i, *b, s, k] for (i, k, b), s in zip(found, scores, strict=True)]
    return {
        "images": [{"id": i, "width": 256, "height": 256} for i in range(images)],
        "categories": [{"id": k + 1, "name": f"class {k}"} for k in range(classes)],
        "annotations": boxes,
    }, np.array(rows)


def repeated(truth: Truth, results: Found, times: np.ndarray) -> tuple[Truth, Found]:
    """The data set in which image i is there times[i] times."""
    images, boxes, found = [], [], []
    for record in truth["images"]:
        for _ in range(times[record["id"]]):
            new = len(images)
            images.append({**record, "id": new})
            mine = [a for a in truth["annotations"] if a["image_id"] == record["id"]]
            boxes += [{**a, "image_id": new, "id": len(boxes) + n + 1} for n, a in enumerate(mine)]
            seen = results[results[:, 0] == record["id"]]
            seen[:, 0] = new
            found.append(seen)
    return {**truth, "images": images, "annotations": boxes}, np.concatenate(found)


def stored(truth: Truth, results: Found, folder: Path) -> Matches:
    write_matches(folder / "matches.npz", matches_of(coco_scores(truth, results).run))
    return read_matches(folder / "matches.npz")


@pytest.mark.parametrize("seed", range(8))
def test_with_every_image_once_it_is_pycocotools_map(seed: int, tmp_path: Path) -> None:
    truth, results = world(seed)
    assert any(a["iscrowd"] for a in truth["annotations"])
    expected = coco_metrics(truth, results)["mAP"]
    assert 0 < expected < 0.9
    assert mean_ap(stored(truth, results, tmp_path)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_an_image_drawn_several_times_is_there_several_times(seed: int, tmp_path: Path) -> None:
    truth, results = world(seed)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(12, np.full(12, 1 / 12), size=6).astype(np.int32)
    times[0] = 1
    times[0, 3] = 2
    expected = [coco_metrics(*repeated(truth, results, row))["mAP"] for row in times]
    got = mean_ap_of(stored(truth, results, tmp_path), times)
    assert got == pytest.approx(expected, abs=1e-12)


def test_equal_scores_keep_the_order_of_pycocotools(tmp_path: Path) -> None:
    truth, results = world(3)
    equal = results.copy()
    equal[:, 5] = equal[:, 5].round(1)
    expected = coco_metrics(truth, equal)["mAP"]
    assert mean_ap(stored(truth, equal, tmp_path)) == pytest.approx(expected, abs=1e-12)


def test_classes_that_a_draw_has_not_are_left_out_of_its_mean(tmp_path: Path) -> None:
    """Image 0 has the only box of class 1, found; image 1 the only one of class 2, missed. Both:
    (1 + 0) / 2. Image 0 twice: 1. Image 1 twice: 0."""
    truth, _ = world(0, images=2, classes=2)
    truth["annotations"] = [
        {"id": k + 1, "image_id": k, "category_id": k + 1, "bbox": b, "area": 400.0, "iscrowd": 0}
        for k, b in enumerate(([5, 5, 20, 20], [50, 50, 20, 20]))
    ]
    found = np.array([[0, 5, 5, 20, 20, 0.5, 1]])
    matches = stored(truth, found, tmp_path)
    times = np.array([[1, 1], [2, 0], [0, 2]], np.int32)
    assert mean_ap_of(matches, times) == pytest.approx([0.5, 1.0, 0.0])


def test_the_interval_by_brute_force(tmp_path: Path) -> None:
    """The same draws, each one a data set that pycocotools evaluates."""
    truth, results = world(5)
    worse = results.copy()
    worse[1::2, 1] += 5
    one, two = (stored(truth, r, tmp_path) for r in (results, worse))
    found = paired(one, two, draws=40, level=0.1, seed=7)
    rng = np.random.default_rng(7)
    draws = rng.multinomial(12, np.full(12, 1 / 12), size=40)
    differences = [
        coco_metrics(*repeated(truth, worse, row))["mAP"]
        - coco_metrics(*repeated(truth, results, row))["mAP"]
        for row in draws
    ]
    low, high = np.quantile(differences, [0.05, 0.95])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    before, after = coco_metrics(truth, results)["mAP"], coco_metrics(truth, worse)["mAP"]
    assert found.difference == pytest.approx(after - before, abs=1e-12)
    assert (found.images, found.draws) == (12, 40)
    assert (found.level, found.covers) == (0.1, COVERS)


def test_a_cell_does_not_differ_from_itself(tmp_path: Path) -> None:
    matches = stored(*world(1), tmp_path)
    found = paired(matches, matches, draws=50)
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_the_interval_covers_the_difference_in_the_population_of_images() -> None:
    """Images whose detections hit with a known probability, one class, one box and one detection
    an image, the hits first by score: mAP is the share of hits, to within the 101 points. Both
    cells have the same 0.6; an interval of 90 % must cover 0 in 90 % of experiments: in 200 of them
    within three standard errors, 0.9 +- 0.064."""
    rng, images, covered = np.random.default_rng(0), 150, 0
    for _ in range(200):
        one, two = (_hits(rng.random(images) < 0.6) for _ in range(2))
        found = paired(one, two, draws=200, level=0.1)
        covered += found.low <= 0 <= found.high
    assert 0.836 <= covered / 200 <= 0.964


def _hits(hit: np.ndarray) -> Matches:
    order = np.argsort(~hit, kind="stable")
    n = len(hit)
    return Matches(
        image_ids=np.arange(n),
        category_ids=np.arange(1),
        truths=np.ones((n, 1), int),
        image=order,
        of_class=np.zeros(n, int),
        hit=np.where(hit[order], 1023, 0),
        ignored=np.zeros(n, int),
    )


def test_cells_that_were_not_evaluated_alike_are_refused(tmp_path: Path) -> None:
    truth, results = world(1)
    matches = stored(truth, results, tmp_path)
    fewer = repeated(truth, results, np.array([1] * 11 + [0]))
    with pytest.raises(ValueError, match=r"not evaluated on the same images \(12 and 11\)"):
        paired(matches, stored(*fewer, tmp_path))
    truth["annotations"][0]["category_id"] = 1 + truth["annotations"][0]["category_id"] % 3
    with pytest.raises(ValueError, match="not evaluated on the same boxes"):
        paired(matches, stored(truth, results, tmp_path))
    nothing = stored({**truth, "annotations": []}, results, tmp_path)
    with pytest.raises(ValueError, match="no box to be found"):
        paired(nothing, nothing)


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "matches.npz"
    matches = matches_of(coco_scores(*world(1)).run)
    broken: dict[str, Any] = {
        "of an image or a class that is not there": {**matches, "class": matches["class"] + 7},
        "not in order": {**matches, "class": matches["class"][::-1]},
        "not complete": {**matches, "hit": matches["hit"][1:]},
        "whole numbers": {**matches, "hit": matches["hit"] / 2},
        "do not fit together": {**matches, "truths": matches["truths"][1:]},
        "ignored": {k: v for k, v in matches.items() if k != "ignored"},
    }
    for words, arrays in broken.items():
        write_matches(file, arrays)
        with pytest.raises(ValueError, match=r"is not the matches\.npz of a cell") as error:
            read_matches(file)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    for content in (b"", b"PK\x03\x04 cut off", b"no archive", b"\x93NUMPY"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"is not the matches\.npz of a cell"):
            read_matches(file)
    write_matches(file, {**matches, "image": np.array([{}], object)})
    with pytest.raises(ValueError, match=r"is not the matches\.npz of a cell"):
        read_matches(file)
