"""What the doctor says of MLflow: real servers, and things that only look like one."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.findings import Finding
from orchestrator.tracking.answering import mlflow_findings
from orchestrator.tracking.ledger import open_ledger
from tests.orchestrator.server import Server, free_port


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `mlflow_findings` sets is put back."""
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def the_failure(found: list[Finding]) -> Finding:
    (finding,) = found
    assert finding.level == "failure"
    assert finding.remedy
    return finding


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//user:secret@"))
    yield server
    server.kill()


def test_a_server_that_answers_and_one_that_is_down(server: Server) -> None:
    answers, version = mlflow_findings()
    assert (answers.level, version.level) == ("ok", "ok")
    assert f"MLflow at {server.uri} answers in " in answers.what
    assert "secret" not in f"{answers}{version}"
    server.kill()
    finding = the_failure(mlflow_findings())
    assert f"{server.uri} does not answer: " in finding.what
    assert finding.remedy.startswith("start it, or unset MLFLOW_TRACKING_URI")
    assert "secret" not in str(finding)


def test_a_server_that_refuses_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "mlflow.example.org")
    server = Server(tmp_path)  # its /health answers all the same
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        finding = the_failure(mlflow_findings())
    finally:
        server.kill()
    assert "refuses to be called by that name" in finding.what
    assert finding.remedy == f"start it with --allowed-hosts 127.0.0.1:{server.port}"


def test_a_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        finding = the_failure(mlflow_findings())
        silent.setblocking(False)
        silent.accept()[0].close()  # whether anything listens
        silent.accept()[0].close()  # one question, of a few seconds, which is not tried again
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert "does not answer" in finding.what


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_nothing_listens(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://user:secret@{address}/mlflow")
    finding = the_failure(mlflow_findings())
    assert address in finding.what
    assert "secret" not in str(finding)


def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    assert "is not a database or a server" in the_failure(mlflow_findings()).what


def test_the_embedded_store_before_and_after_the_first_sweep(tmp_path: Path) -> None:
    (before,) = mlflow_findings()
    assert before.level == "ok"
    assert "is made by the first sweep" in before.what
    assert list(tmp_path.iterdir()) == []
    open_ledger("first")
    (after,) = mlflow_findings()
    assert after.level == "ok"
    assert "answers in " in after.what


def test_a_database_without_tables_is_not_given_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "empty.db"
    with sqlite3.connect(file) as database:
        database.execute("pragma user_version = 1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    (finding,) = mlflow_findings()
    assert (finding.level, "the first sweep makes its tables" in finding.what) == ("ok", True)
    with sqlite3.connect(file) as database:
        assert database.execute("select count(*) from sqlite_master").fetchone() == (0,)
        database.execute("create table somebody_elses (x int)")
    assert "is no MLflow store" in the_failure(mlflow_findings()).what
