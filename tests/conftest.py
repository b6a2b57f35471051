"""What all tests share."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("RUN_LONG"):
        return
    skip = pytest.mark.skip(reason="a run of many minutes: set RUN_LONG=1")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(skip)
