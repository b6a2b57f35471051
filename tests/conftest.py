"""What all tests share."""

from __future__ import annotations

import os

import pytest

WAITING = ("stack", "cluster")  # folders of tests that mostly wait


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that wait come first: with two workers, the last file must not be one of minutes."""
    items.sort(key=lambda item: item.path.parent.name not in WAITING)
    if os.environ.get("RUN_LONG"):
        return
    skip = pytest.mark.skip(reason="a run of many minutes: set RUN_LONG=1")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(skip)
