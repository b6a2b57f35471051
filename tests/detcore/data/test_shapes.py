"""The embedded set: deterministic, whole under concurrent generation, boxes tight."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detcore.config.schema import Shapes
from detcore.data import shapes
from detcore.data.draw import CLASSES, draw_scene, outline
from detcore.data.folder import DataError
from detcore.data.shapes import cache_folder, ensure_shapes, shapes_key

SMALL = Shapes(train_images=12, val_images=5, size=96)


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_two_generations_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    one, two = ensure_shapes(SMALL, tmp_path / "a"), ensure_shapes(SMALL, tmp_path / "b")
    assert digests(one) == digests(two)
    assert len(digests(one)) == 12 + 5 + 2
    other = Shapes(train_images=12, val_images=5, size=96, seed=1)
    assert digests(ensure_shapes(other, tmp_path / "a")) != digests(one)


def test_a_smaller_set_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    large = digests(ensure_shapes(SMALL, tmp_path))
    small = digests(ensure_shapes(Shapes(train_images=4, val_images=5, size=96), tmp_path))
    train = [name for name in small if name.startswith("train/")]
    assert len(train) == 4
    assert all(small[name] == large[name] for name in train)


def test_three_processes_at_once_leave_one_whole_set(tmp_path: Path) -> None:
    program = (
        "from detcore.config.schema import Shapes\n"
        "from detcore.data.shapes import ensure_shapes\n"
        "print(ensure_shapes(Shapes(train_images=12, val_images=5, size=96)))\n"
    )
    env = {**os.environ, "DETCORE_CACHE": str(tmp_path / "shared")}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = {p.communicate()[0] for p in processes}
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert len(answers) == 1
    assert [p.name for p in (tmp_path / "shared").iterdir()] == [shapes_key(SMALL)]
    alone = ensure_shapes(SMALL, tmp_path / "alone")
    assert digests(tmp_path / "shared" / shapes_key(SMALL)) == digests(alone)


def test_a_loser_of_the_race_uses_the_winners_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = shapes._write

    def overtaken(cfg: Shapes, made: Path) -> None:
        write(cfg, made)
        (tmp_path / shapes_key(cfg)).mkdir()
        (tmp_path / shapes_key(cfg) / "winner").touch()

    monkeypatch.setattr(shapes, "_write", overtaken)
    folder = ensure_shapes(SMALL, tmp_path)
    assert [p.name for p in folder.iterdir()] == ["winner"]
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]  # nothing of its own is left


def test_a_generation_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(cfg: Shapes, made: Path) -> None:
        (made / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shapes, "_write", full)
    with pytest.raises(DataError, match=r"No space left on device; DETCORE_CACHE names another"):
        ensure_shapes(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/shapes-v.*: the shapes cannot be written: "):
        ensure_shapes(SMALL, tmp_path / "file")


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETCORE_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("DETCORE_CACHE")
    assert cache_folder() == Path("/two/detcore")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "detcore"


def test_boxes_are_tight_around_the_visible_pixels(tmp_path: Path) -> None:
    """Recomputed from each scene's owner mask by plain loops, compared with the written file."""
    folder = ensure_shapes(SMALL, tmp_path)
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    written: dict[int, list] = {image["id"]: [] for image in content["images"]}
    for a in content["annotations"]:
        written[a["image_id"]].append((a["category_id"] - 1, a["bbox"], a["area"]))
    total = 0
    for number, image in enumerate(content["images"]):
        scene = draw_scene(96, (0, 0, number))
        expected = []
        for k, label in enumerate(scene.labels):
            at = [(x, y) for y in range(96) for x in range(96) if scene.owner[y, x] == k]
            left, top = min(x for x, _ in at), min(y for _, y in at)
            right, bottom = max(x for x, _ in at) + 1, max(y for _, y in at) + 1
            box = [left, top, right - left, bottom - top]
            expected.append((label, box, box[2] * box[3]))
        assert written[image["id"]] == expected
        total += len(expected)
    assert total > 12


@pytest.mark.parametrize(
    ("name", "area"),
    # exact areas for a diameter of 40: pi r^2, the band from .52 r to r, (sqrt(2) r)^2, the
    # equilateral triangle of circumradius 1.1 r
    [
        ("disc", np.pi * 400),
        ("ring", np.pi * 400 * (1 - 0.52**2)),
        ("square", 800),
        ("triangle", 3 * np.sqrt(3) / 4 * 22**2),
    ],
)
def test_outlines_have_the_area_of_their_shape_at_any_angle(name: str, area: float) -> None:
    for angle in (0.0, 0.3, 2.0, 5.0):
        window, alpha = outline(CLASSES.index(name), 128, 61.3, 64.9, 40, angle)
        assert alpha.sum() == pytest.approx(area, rel=0.01)
        whole = np.zeros((128, 128))
        whole[window] = alpha
        y, x = np.mgrid[0:128, 0:128] + 0.5
        assert (whole * x).sum() / whole.sum() == pytest.approx(61.3, abs=0.05)
        assert (whole * y).sum() / whole.sum() == pytest.approx(64.9, abs=0.05)


def test_the_default_set_has_every_class_and_size() -> None:
    scenes = [draw_scene(128, (0, 0, i)) for i in range(150)]
    labels = [label for s in scenes for label in s.labels]
    areas = np.array([(b[2] - b[0]) * (b[3] - b[1]) for s in scenes for b in s.boxes])
    for k in range(len(CLASSES)):
        assert labels.count(k) > 0.15 * len(labels)
    # COCO's limits: 32^2 and 96^2
    assert (areas < 32**2).mean() > 0.15
    assert ((areas >= 32**2) & (areas < 96**2)).mean() > 0.3
    assert (areas >= 96**2).mean() > 0.01
    assert any(not s.labels for s in scenes)


def test_visible_objects_differ_from_what_lies_around_them() -> None:
    """Mean colour inside against the ring of pixels around the box: no object may be invisible."""
    weakest = []
    for i in range(60):
        scene = draw_scene(128, (0, 1, i))
        for k, (x1, y1, x2, y2) in enumerate(scene.boxes):
            inside = scene.pixels[scene.owner == k].mean(axis=0)
            around = np.zeros((128, 128), bool)
            around[max(0, y1 - 3) : y2 + 3, max(0, x1 - 3) : x2 + 3] = True
            around &= scene.owner == -1
            if around.sum() > 20:
                weakest.append(np.abs(inside - scene.pixels[around].mean(axis=0)).max())
    assert np.quantile(weakest, 0.05) > 15
