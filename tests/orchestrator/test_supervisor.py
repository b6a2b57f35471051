"""How a supervisor passes on the points of its cell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cluster import supervisor
from orchestrator.cluster.supervisor import TELL_S, _Points


def test_the_first_points_go_at_once_and_the_others_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, told = [50.0], []
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def report(event: dict[str, Any]) -> None:
        assert (event["event"], event["cell"]) == ("points", "a")
        told.append((now[0], [point["step"] for point in event["points"]]))

    points = _Points("a", report)
    for step in range(12):
        points.take([{"step": step}])
        points.take([])
        now[0] += 1
    points.tell()
    points.tell()
    assert TELL_S == 5
    assert told == [(50, [0]), (55, [1, 2, 3, 4, 5]), (60, [6, 7, 8, 9, 10]), (62, [11])]
