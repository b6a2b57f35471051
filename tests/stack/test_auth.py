"""MLflow with a password, as docker-compose.yml sets it up when there is one."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import native
from tests.stack.stack import Stack
from tests.stack.test_stack import ask, status

flask_wtf = pytest.importorskip("flask_wtf", reason="Flask-WTF is not installed")
pytestmark = pytest.mark.slow
PASSWORD = "s3cret " + secrets.token_hex(8)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """PostgreSQL, MLflow and the dashboards."""
    key = secrets.token_hex(16)
    settings = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": key}
    with Stack(settings) as running:
        for name in ("postgres", "mlflow", "dashboards"):
            service = running.service(name)
            beside = str(Path(flask_wtf.__file__).parents[1])
            service.environment["PYTHONPATH"] += f"{os.pathsep}{beside}"
            service.start()
        yield running


def login(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"}


def test_mlflow_asks_for_the_password(stack: Stack) -> None:
    address = f"{stack.url('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status(address) == 401
    assert status(address, **login("another")) == 401
    assert status(address, **login(PASSWORD)) == 200


def test_the_dashboards_have_it(stack: Stack) -> None:
    assert ask(f"{stack.url('dashboards')}/api/sweeps.json") == []


def test_a_driver_has_it_and_without_it_is_told(stack: Stack) -> None:
    command = [native.program("python"), "-m", "orchestrator.run", "sweeps/norm_vs_batchsize.yaml"]
    environment = stack.driver_environment() | {"RAY_ADDRESS": ""}  # Ray is not asked

    def dry_run(**change: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--dry-run"],
            env={**environment, **change},
            cwd=stack.project,
            capture_output=True,
            text=True,
        )

    let_in = dry_run()
    assert let_in.returncode == 0, let_in.stderr
    refused = dry_run(MLFLOW_TRACKING_PASSWORD="another")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "401" in line or "MLFLOW_TRACKING_PASSWORD" in line
