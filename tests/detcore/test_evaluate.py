"""The 12 COCO metrics: against pycocotools run by a script of its own, an example by hand, and the
border cases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from detcore.config.installed import check_backend
from detcore.config.schema import CocoFolder, Data, InputSize, Shapes
from detcore.data.coco import CocoSplit, open_split
from detcore.data.loader import eval_batches
from detcore.data.shapes import ensure_shapes
from detcore.evaluate import (
    Backend,
    coco_metrics,
    coco_scores,
    entries,
    results_of,
    write_results,
)
from detcore.matches import matches_of, write_matches
from detcore.result import METRICS
from tests.detcore.data.builders import SHARED, box, coco, folder, record, write_split

BACKENDS: tuple[Backend, ...] = get_args(Backend)
NONE = np.empty((0, 7))

both = pytest.mark.parametrize("backend", BACKENDS)

ORACLE = """
import json, sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
truth = COCO(sys.argv[1])
run = COCOeval(truth, truth.loadRes(sys.argv[2]), "bbox")
run.evaluate(); run.accumulate(); run.summarize()
json.dump(run.stats.tolist(), open(sys.argv[3], "w"))
"""


def oracle(annotations: Path, results: Path, out: Path) -> dict[str, float]:
    """What pycocotools alone says about two files."""
    command = [sys.executable, "-c", ORACLE, str(annotations), str(results), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return dict(zip(METRICS, json.loads(out.read_text()), strict=True))


def perfect(split: CocoSplit, data: Data) -> np.ndarray:
    """The ground truth of every evaluation batch, handed back as detections of score 1."""
    results = []
    for batch in eval_batches(split, data, batch=3, rank=0, world=1, workers=0):
        found = []
        for boxes, labels in zip(batch.boxes, batch.labels, strict=True):
            real = labels >= 0
            found.append((boxes[real], torch.ones(int(real.sum())), labels[real]))
        results.append(
            results_of(found, batch.image_ids, batch.scales, batch.sizes, split.category_ids)
        )
    return np.concatenate(results)


def random_results(split: CocoSplit, seed: int = 0) -> np.ndarray:
    """True boxes shaken, some with a wrong class, and noise: all metrics end between 0 and 1."""
    rng = np.random.default_rng(seed)
    results = []
    for i, image_id in enumerate(split.image_ids.tolist()):
        height, width = split.sizes[i]
        boxes, labels = split.objects(i)
        noise = np.sort(rng.uniform(0, 1, (6, 2, 2)), axis=1).reshape(6, 4)
        noise *= [width, height, width, height]
        shaken = boxes + rng.normal(0, 3, boxes.shape)
        for x1, y1, x2, y2 in np.concatenate([shaken, noise]).tolist():
            label = rng.integers(len(split.category_ids))
            if labels.size and rng.random() < 0.7:
                label = rng.choice(labels)
            category = split.category_ids[label]
            results.append([image_id, x1, y1, x2 - x1, y2 - y1, rng.random(), category])
    return np.array(results)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Data:
    root = ensure_shapes(Shapes(2, 24, size=128), tmp_path_factory.mktemp("cache"))
    # 100 pixels from 128: boxes come back through a scale that is no round number
    sides = InputSize((100,), 100, 100, 100)
    return Data(source=CocoFolder(root=str(root)), input=sides)


def real(name: str) -> Data:
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs the data set {name} in shared/data beside the checkout")
    sides = InputSize((200,), 300, 200, 300)
    return Data(source=CocoFolder(root=str(SHARED / name)), input=sides)


def test_perfect_detections_score_one(shapes: Data) -> None:
    split = open_split(shapes, "val")
    metrics = coco_metrics(split, perfect(split, shapes))
    assert tuple(metrics) == METRICS
    assert [metrics[m] for m in ("mAP", "AP50", "AP75", "AR100")] == pytest.approx([1] * 4)


def test_perfect_detections_on_coco_with_gaps_crowd_and_empty_images() -> None:
    data = real("coco_mini_small")
    split = open_split(data, "val")
    results = perfect(split, data)
    assert results[:, 6].max() > 80  # ids go to 90, classes to 79
    assert coco_metrics(split, results)["mAP"] == pytest.approx(1.0, abs=1e-9)


@both
@pytest.mark.parametrize("name", ["shapes", "bccd", "coco_mini_small"])
def test_equal_to_pycocotools_on_the_dumped_file(
    name: str, backend: Backend, shapes: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    split = open_split(shapes if name == "shapes" else real(name), "val")
    results = random_results(split)
    write_results(tmp_path / "detections.json", results)
    metrics = coco_metrics(split, results, backend=backend)
    assert capfd.readouterr().out == ""
    expected = oracle(split.annotation_file, tmp_path / "detections.json", tmp_path / "stats.json")
    assert metrics == expected  # every digit
    assert 0 < metrics["mAP"] < 0.9
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_average_precision_by_hand() -> None:
    """One class, four objects of 50 x 50; by falling score: hit, miss, hit, hit (IoU 0.64).

    At IoU .5 the precisions at the recalls 1/4, 2/4, 3/4 are 1, 2/3, 3/4, so the interpolated one
    is 1 up to recall .25 (26 of the 101 points), 3/4 up to .75 (50 points), and 0 beyond. At .65
    and above the last hit is a miss: 26 points at 1 and 25 points at 2/3.
    """
    truth = coco(
        [record(1, (640, 480))],
        [box(k + 1, 1, 1, [100 * k, 0, 50, 50]) for k in range(4)],
        ids=(1,),
    )
    found = [
        ([0, 0, 50, 50], 0.9),
        ([300, 300, 50, 50], 0.8),
        ([100, 0, 50, 50], 0.7),
        ([200, 0, 50, 32], 0.6),
    ]
    results = np.array([[1, *b, score, 1] for b, score in found])
    low, high = (26 + 50 * 0.75) / 101, (26 + 25 * 2 / 3) / 101
    metrics = coco_metrics(truth, results)
    assert metrics["AP50"] == pytest.approx(low)
    assert metrics["AP75"] == pytest.approx(high)
    assert metrics["mAP"] == pytest.approx((3 * low + 7 * high) / 10)  # .5 .55 .6 and .65 to .95
    assert metrics["AR1"] == pytest.approx(1 / 4)
    assert metrics["AR100"] == pytest.approx((3 * 3 / 4 + 7 * 2 / 4) / 10)
    assert metrics["AP_medium"] == pytest.approx(metrics["mAP"])
    assert metrics["AP_small"] == metrics["AP_large"] == -1


def test_a_detection_in_a_crowd_region_is_neither_hit_nor_miss() -> None:
    truth = coco(
        [record(1, (640, 480))],
        [box(1, 1, 1, [0, 0, 50, 50]), box(2, 1, 1, [100, 100, 300, 300], iscrowd=1)],
    )
    inside, hit = [1, 150, 150, 40, 40, 0.9, 1], [1, 0, 0, 50, 50, 0.5, 1]
    assert coco_metrics(truth, np.array([inside, hit]))["mAP"] == pytest.approx(1)
    truth["annotations"][1]["iscrowd"] = 0
    assert coco_metrics(truth, np.array([inside, hit]))["mAP"] < 0.5


@both
def test_ap_by_class_and_what_was_matched(backend: Backend) -> None:
    """Two images. Class `cat` (id 3) has a box in each; by falling score: a hit at IoU 1, one at
    IoU 0.64 (thresholds .5 .55 .6), a detection of nothing. `dog` (id 7) has one box and a crowd;
    of its detections the first is in the crowd and does not count, the second hits. `owl` (id 9)
    has no box. AP of cat: 1 at three thresholds; 51 of 101 points at the other seven."""
    truth = coco(
        [record(1, (640, 480)), record(2, (640, 480))],
        [
            box(1, 1, 3, [0, 0, 50, 50]),
            box(2, 2, 3, [0, 0, 50, 50]),
            box(3, 2, 7, [200, 200, 50, 50]),
            box(4, 2, 7, [300, 100, 300, 300], iscrowd=1),
        ],
    )
    truth["categories"] = [{"id": i, "name": n} for i, n in ((3, "cat"), (7, "dog"), (9, "owl"))]
    results = np.array(
        [
            [2, 350, 150, 40, 40, 0.9, 7],
            [2, 200, 200, 50, 50, 0.5, 7],
            [1, 400, 400, 9, 9, 0.25, 3],
            [2, 0, 0, 50, 50, 0.75, 3],
            [1, 0, 0, 50, 32, 0.5, 3],
            [1, 0, 0, 50, 32, 0.5, 9],
        ]
    )
    scores = coco_scores(truth, results, backend=backend)
    cat = (3 * 1 + 7 * 51 / 101) / 10
    assert scores.class_AP == pytest.approx({"cat": cat, "dog": 1.0})
    assert scores.metrics["mAP"] == pytest.approx((cat + 1) / 2)
    matches = {name: array.tolist() for name, array in matches_of(scores.run).items()}
    every, low = 2**10 - 1, 2**3 - 1
    assert matches == {
        "image_ids": [1, 2],
        "category_ids": [3, 7, 9],
        "truths": [[1, 0, 0], [1, 1, 0]],
        "image": [1, 0, 0, 1, 1, 0],
        "class": [0, 0, 0, 1, 1, 2],
        "score": [0.75, 0.5, 0.25, pytest.approx(0.9), 0.5, 0.5],
        "hit": [every, low, 0, 0, every, 0],
        "ignored": [0, 0, 0, every, 0, 0],
    }
    truth["categories"][1]["name"] = "cat"
    assert coco_scores(truth, results, backend=backend).class_AP == {}  # whose would it be?


def test_what_was_matched_is_a_small_file(shapes: Data, tmp_path: Path) -> None:
    split = open_split(shapes, "val")
    results = random_results(split)
    matches = matches_of(coco_scores(split, results).run)
    write_matches(tmp_path / "matches.npz", matches)
    write_results(tmp_path / "detections.json", results)
    with np.load(tmp_path / "matches.npz") as stored:
        assert {n: stored[n].tolist() for n in stored} == {n: matches[n].tolist() for n in matches}
        assert {str(stored[n].dtype) for n in ("hit", "ignored", "truths")} == {"uint16"}
    assert len(matches["score"]) == len(results)
    sizes = [(tmp_path / name).stat().st_size for name in ("matches.npz", "detections.json")]
    assert sizes[0] < sizes[1] / 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["detections.json", "matches.npz"]


@both
def test_no_results_are_zeros_where_there_was_something_to_find(backend: Backend) -> None:
    truth = coco([record(1, (640, 480))], [box(1, 1, 1, [0, 0, 50, 50])])
    metrics = coco_metrics(truth, NONE, backend=backend)
    assert metrics["mAP"] == metrics["AR100"] == metrics["AP_medium"] == 0
    assert metrics["AP_small"] == metrics["AR_large"] == -1
    empty = coco_metrics(coco([record(1)], []), NONE, backend=backend)
    assert set(empty.values()) == {-1}
    nothing = matches_of(coco_scores(coco([record(1)], []), NONE, backend=backend).run)
    assert (nothing["image"].size, nothing["truths"].sum()) == (0, 0)


@both
def test_many_random_detections_score_alike(backend: Backend) -> None:
    """Equal scores, crowds, empty images, classes without boxes, more than 100 detections."""
    random = np.random.default_rng(1)
    images = [record(i, (640, 480)) for i in range(1, 31)]
    boxes, rows = [], []
    for i in range(1, 28):
        for _ in range(random.integers(0, 9)):
            corner, size = random.uniform(0, 400, 2), random.uniform(4, 200, 2)
            label, crowd = int(random.integers(1, 5)), int(random.random() < 0.1)
            bbox = [*corner.tolist(), *size.tolist()]
            area = float(size.prod() * random.uniform(0.3, 1))
            boxes.append(box(len(boxes) + 1, i, label, bbox, area=area, iscrowd=crowd))
            shaken = np.abs(np.array(bbox) + random.normal(0, 8, (4, 4)))
            rows += [[i, *b, round(random.random(), 1), label] for b in shaken]
        for _ in range(160 if i == 5 else 10):
            noise = [*random.uniform(0, 400, 2), *random.uniform(4, 200, 2)]
            rows.append([i, *noise, round(random.random(), 1), int(random.integers(1, 6))])
    truth, results = coco(images, boxes, (1, 2, 3, 4, 5)), np.array(rows)
    expected, found = coco_scores(truth, results), coco_scores(truth, results, backend=backend)
    assert found.metrics == expected.metrics  # every digit
    assert found.class_AP == expected.class_AP
    ours, theirs = matches_of(found.run), matches_of(expected.run)
    assert {n: a.tolist() for n, a in ours.items()} == {n: a.tolist() for n, a in theirs.items()}
    assert len(found.class_AP) == 4


def test_a_backend_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_backend("pycocotools")
    check_backend("hotcoco")
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(ValueError, match=r"pip install 'detection-ablation\[fast\]'"):
        check_backend("hotcoco")


def test_files_without_area_and_crowd_flags_are_evaluated(tmp_path: Path) -> None:
    bare = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50]}
    found = np.array([[1, 0, 0, 50, 50, 0.5, 1]])
    metrics = coco_metrics(coco([record(1, (64, 64))], [bare]), found)
    assert metrics["mAP"] == metrics["AP_medium"] == pytest.approx(1)


def test_skipped_images_are_no_missed_objects(tmp_path: Path) -> None:
    images = [record(i) for i in range(4)]
    boxes = [box(i + 1, i, 1, [2, 2, 20, 20]) for i in range(4)]
    write_split(tmp_path, "val", coco(images, boxes))
    (tmp_path / "val" / "2.png").write_bytes(b"")
    data = folder(tmp_path, on_bad_image="skip")
    split = open_split(data, "val")
    assert split.skipped_images == (2,)
    assert coco_metrics(split, perfect(split, data))["mAP"] == pytest.approx(1)


def test_boxes_return_to_original_pixels_clipped_and_with_their_category_ids() -> None:
    # image 7: 200 high, 100 wide, seen at 100 x 80, so y is halved and x multiplied by 0.8
    found = (
        torch.tensor([[8.0, 10.0, 40.0, 60.0], [-5.0, 0.0, 90.0, 101.0], [0, 0, float("nan"), 1]]),
        torch.tensor([0.75, 0.5, 0.25]),
        torch.tensor([1, 0, 0]),
    )
    nothing = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    results = results_of(
        [nothing, found],
        torch.tensor([3, 7]),
        torch.tensor([[1.0, 1.0], [0.5, 0.8]]),
        torch.tensor([[64, 64], [100, 80]]),
        (4, 90),
    )
    ids, bbox, scores, categories = results[:, 0], results[:, 1:5], results[:, 5], results[:, 6]
    assert (ids.tolist(), scores.tolist()) == ([7, 7], [0.75, 0.5])
    assert categories.tolist() == [90, 4]
    assert bbox[0] == pytest.approx([10, 20, 40, 100])
    assert bbox[1].tolist() == [0, 0, 100, 200]
    first = {"image_id": 7, "category_id": 90, "bbox": bbox[0].tolist(), "score": 0.75}
    assert entries(results)[0] == first


# ---------------------------------------------------------------- the report's protocol


def test_the_report_s_protocol_equals_pycocotools_on_files_rewritten_by_hand(
    tmp_path: Path,
) -> None:
    """Crowds, gaps in the ids, areas that are not the boxes', images of several sizes: the files
    are changed here as the description says, and scored by pycocotools alone."""
    images = [record(1, (400, 300)), record(5, (300, 400)), record(9, (200, 200)), record(12)]
    boxes = [
        box(1, 1, 3, [10, 20, 30, 30], area=500.0),
        box(2, 1, 7, [100, 50, 120, 90], area=4000.0),
        box(3, 1, 3, [200, 100, 80, 80], iscrowd=1),
        box(4, 5, 7, [50, 60, 28, 31]),
        box(5, 5, 3, [220, 300, 100, 90]),  # sticks out on the right
        box(6, 9, 3, [20, 20, 150, 160], area=9000.0),
    ]
    write_split(tmp_path, "val", coco(images, boxes, (3, 7)))
    write_split(tmp_path, "train", coco(images, boxes, (3, 7)))
    split = open_split(folder(tmp_path), "val")
    results = random_results(split, seed=3)
    scales = {1: (1.92, 1.92), 5: (1.92, 1.9), 9: (2.88, 2.88), 12: (2.0, 2.0)}

    def scaled(entry: dict) -> dict:
        sy, sx = scales[entry["image_id"]]
        x, y, w, h = entry["bbox"]
        return {**entry, "bbox": [x * sx, y * sy, w * sx, h * sy]}

    truth = [scaled(b) for b in boxes if b["id"] != 5]
    for entry in truth:
        entry["iscrowd"], entry["area"] = 0, entry["bbox"][2] * entry["bbox"][3]
    files = tmp_path / "truth.json", tmp_path / "found.json"
    files[0].write_text(json.dumps(coco(images[:3], truth, (3, 7))))
    files[1].write_text(json.dumps([scaled(r) for r in entries(results) if r["image_id"] != 12]))
    expected = oracle(*files, tmp_path / "out.json")
    for backend in BACKENDS:
        found = coco_metrics(split, results, scales, backend)
        assert found == pytest.approx(expected, abs=1e-12)
    assert coco_metrics(split, results) != pytest.approx(expected, abs=1e-3)


def test_the_report_s_protocol_moves_objects_to_larger_bins(tmp_path: Path) -> None:
    """A 30 x 30 object in a 480 px image is small; at short side 576 it is 36 x 36, medium."""
    content = coco([record(1, (640, 480))], [box(1, 1, 1, [10, 10, 30, 30])])
    found = np.array([[1, 10, 10, 30, 30, 0.9, 1]])
    official = coco_metrics(content, found)
    as_report = coco_metrics(content, found, {1: (1.2, 1.2)})
    assert (official["AP_small"], official["AP_medium"]) == (pytest.approx(1), -1)
    assert (as_report["AP_small"], as_report["AP_medium"]) == (-1, pytest.approx(1))
