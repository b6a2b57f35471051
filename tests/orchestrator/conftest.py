"""A store for each file of tests, and a sweep in it for each test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.orchestrator.pasts import Pasts
from tests.orchestrator.place import SWEEP, Place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")  # one store for all: making it takes seconds


@pytest.fixture
def place(folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A sweep whose cells no other test knows: bn and gn with the seeds 0 and 1."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    name = re.sub(r"\W", "-", request.node.name)
    found = Place(folder, name)
    base = folder / f"{name}.yaml"
    # no two tests have the same number of steps, and so none knows the cells of another
    base.write_text(yaml.safe_dump({"train": {"steps": 100 + len(list(folder.glob("test*")))}}))
    found.file.write_text(
        yaml.safe_dump({**SWEEP, "name": name, "base": base.name}, sort_keys=False)
    )
    return found


@pytest.fixture
def pasts(folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pasts:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    # also on a machine that has some
    monkeypatch.setattr("orchestrator.planning.outlook.gpus_here", list)
    monkeypatch.chdir(folder)
    return Pasts(folder, re.sub(r"\W", "-", request.node.name))
