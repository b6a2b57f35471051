"""Names that Ray's metrics do not take."""

from __future__ import annotations

import pytest

from orchestrator.cluster.gangs import Gang
from orchestrator.cluster.room import Shape
from orchestrator.running.gauges import Gauges
from orchestrator.tracking.table import Row


def test_names_of_all_letters_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    gauges = Gauges("naïf")
    told: list[dict[str, str]] = []
    monkeypatch.setattr(gauges._gpu, "set", lambda value, tags: told.append(tags))
    where = [{"ip": "10.0.0.1", "gpus": ["0"]}]
    job = {"label": "norm=évo β=0.9"}
    gang = Gang("g", Shape(1, 0, 1), (), None, [], "", job, where=where, ticket="t")
    gauges.tell([Row({}, 0, "running")], 1, [gang])
    (tags,) = told
    assert tags["sweep"] == r"na\xeff"
    assert tags["cell"] == r"norm=\xe9vo \u03b2=0.9"
    assert all(value.isascii() for value in tags.values())


def test_ray_takes_them() -> None:
    """Without the letters put in others it raises UnicodeEncodeError."""
    gang = Gang("g", Shape(1, 0, 1), (), None, [], "", {"label": "évo"}, ticket="t")
    gang.where = [{"ip": "10.0.0.1", "gpus": ["0"]}]
    Gauges("naïf").tell([Row({}, 0, "running")], 1, [gang])
