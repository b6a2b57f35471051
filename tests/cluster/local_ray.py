"""A Ray in the process of the tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from orchestrator.cluster.connect import DRIVER_ENV, WORKER_ENV


@contextmanager
def local_ray(cpus: float, gpus: float = 0) -> Iterator[None]:
    """The environment is put back afterwards."""
    change = {**DRIVER_ENV, **WORKER_ENV, "RAY_AUTH_MODE": "disabled"}
    before = {name: os.environ.get(name) for name in change}
    os.environ.update(change)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=cpus, num_gpus=gpus, include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
