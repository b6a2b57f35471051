"""The stack of docker-compose.yml, one for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack.stack import Stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """PostgreSQL, MLflow, Ray on a head and two workers of one CPU each, Prometheus and the
    dashboards, all healthy."""
    with Stack({"RAY_HEAD_CPUS": "1"}) as running:
        running.start()
        yield running
    left = {s.name: s.living() for s in running.services.values() if s.living()}
    assert not left
