"""The fingerprint follows the data, not their place, and costs neither torch nor a generation."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detcore.config.schema import CocoFolder, Shapes
from detcore.data.fingerprint import data_fingerprint
from detcore.data.folder import DataError
from tests.detcore.data.builders import simple


def test_shapes_without_generating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETCORE_CACHE", str(tmp_path / "cache"))
    seen = {data_fingerprint(Shapes())}
    changes = ({"train_images": 9}, {"val_images": 9}, {"size": 96}, {"seed": 1})
    seen |= {data_fingerprint(dataclasses.replace(Shapes(), **change)) for change in changes}
    monkeypatch.setattr("detcore.data.shapes.GENERATOR_VERSION", 999)
    seen.add(data_fingerprint(Shapes()))
    assert len(seen) == 6
    assert not (tmp_path / "cache").exists()


def test_a_folder_by_content(tmp_path: Path) -> None:
    simple(tmp_path / "a")
    source = CocoFolder(root=str(tmp_path / "a"))
    first = data_fingerprint(source)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    elsewhere = CocoFolder(root=str(tmp_path / "b"))
    assert data_fingerprint(elsewhere) == first
    (tmp_path / "b" / "unlisted.png").touch()
    assert data_fingerprint(elsewhere) == first

    with (tmp_path / "b" / "train" / "1.png").open("ab") as file:
        file.write(b"x")
    other_size = data_fingerprint(elsewhere)
    (tmp_path / "b" / "train" / "1.png").unlink()
    without = data_fingerprint(elsewhere)
    with (tmp_path / "b" / "annotations" / "val.json").open("a") as file:
        file.write("\n")
    assert len({first, other_size, without, data_fingerprint(elsewhere)}) == 4


def test_absent_data_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        data_fingerprint(CocoFolder(root=str(tmp_path / "none")))
    simple(tmp_path)
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(DataError, match="none of the 7 images"):
        data_fingerprint(CocoFolder(root=str(tmp_path)))


def test_it_imports_no_heavy_package() -> None:
    program = (
        "import sys, detcore.data.fingerprint\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'pycocotools'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
