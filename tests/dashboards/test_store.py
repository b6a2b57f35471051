"""Where results are kept is found and read; nothing is made by looking."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dashboards.store import LedgerError, Store, find_store, one_line, read_client
from orchestrator.tracking.store import connect
from tests.dashboards.ledgers import copy_database

PASSWORDS = [
    ("postgresql://me:geheim@db:5432/mlflow", "postgresql://db:5432/mlflow"),
    ("postgresql+psycopg://me:geheim@/mlflow?host=/run", "postgresql+psycopg:///mlflow?host=/run"),
    (
        "postgresql+psycopg://db/mlflow?user=me&password=geheim&sslmode=require",
        "postgresql+psycopg://db/mlflow?user=me&password=***&sslmode=require",
    ),
    ("mysql://db/mlflow?passwd=geheim", "mysql://db/mlflow?passwd=***"),
    (
        "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dgeheim",
        "mssql+pyodbc:///?odbc_connect=***",
    ),
    ("https://me:geheim@host/mlflow", "https://host/mlflow"),
    ("postgresql://me:ge/heim:geheim@db:5432/mlflow", "postgresql://db:5432/mlflow"),
    ("http://host:5000/a@b", "http://host:5000/a@b"),
    ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
]


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(("uri", "shown"), PASSWORDS)
def test_no_password_is_shown(uri: str, shown: str) -> None:
    store = Store(uri, None, None)
    assert store.shown == shown
    assert "geheim" not in store.browse("7") + store.page("7", "r")
    assert "geheim" not in one_line(RuntimeError(f"connection to {uri} failed"))


def test_the_password_of_an_address_that_cannot_be_used_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for uri in ("postgres://me:geheim@db/x", "oracle://db?password=geheim", "http://[a:geheim@b"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(LedgerError) as caught:
            find_store()
        assert "is not a database or a server" in str(caught.value)
        assert "geheim" not in str(caught.value)


def test_the_page_of_a_run_is_known_for_a_server_only(tmp_path: Path) -> None:
    server = Store("http://me:geheim@host:5000/", None, None)
    page = "http://host:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert server.page("7", "abc") == page
    assert find_store(tmp_path).page("7", "abc") == ""


def test_browsers_may_find_mlflow_at_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a compose network the server is `mlflow`; a database may be served by someone."""
    monkeypatch.setenv("ABLATION_MLFLOW_URL", "https://lab.example/mlflow/")
    page = "https://lab.example/mlflow/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert find_store(tmp_path).page("7", "abc") == page
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert find_store(tmp_path).page("7", "abc") == page
    assert find_store(tmp_path).browse("7").startswith("https://lab.example/mlflow/#/experiments/7")


@pytest.mark.parametrize("name", ["MLFLOW", "RAY", "DASHBOARDS"])
@pytest.mark.parametrize(
    "given",
    [
        "localhost:5000",
        "javascript:alert(1)",
        "http://me:pw@h",
        "http://:pw@h",
        "//h",
        "http://h:port",
        "http://a b",
        "http://a)b",
        "http://h/#/x",
        "http://h/?a=1",
    ],
)
def test_an_address_that_no_browser_opens_is_one_line(
    name: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ABLATION_{name}_URL", given)
    with pytest.raises(LedgerError, match=f"^ABLATION_{name}_URL is an address that a browser"):
        find_store(tmp_path)


def files_in(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*"))


def test_without_a_store_nothing_is_made_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LedgerError, match=r"no sweep is on record: there is no file .*mlflow.db"):
        read_client(find_store())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/team/mlflow.db")
    with pytest.raises(LedgerError, match=r"there is no file .*team/mlflow.db; run a sweep"):
        read_client(find_store())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite://")
    with pytest.raises(LedgerError, match="there is no file :memory:"):
        read_client(find_store())
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("content", ["create table mine (x)", ""])
def test_a_database_of_something_else_gets_no_tables(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.db"
    with sqlite3.connect(file) as database:
        database.execute(content or "vacuum")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    with pytest.raises(LedgerError, match=r"has no tables of MLflow|lacks MLflow's tables"):
        read_client(find_store())
    with sqlite3.connect(file) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master")]
    assert tables == (["mine"] if content else [])
    file.write_bytes(b"this is no database at all, whatever its name is" * 40)
    with pytest.raises(LedgerError, match="cannot be opened"):
        read_client(find_store())


def test_the_tables_of_an_older_mlflow_are_left_to_its_owner(tmp_path: Path) -> None:
    """MLflow's client would bring a database up to date that an older server still uses."""
    store = find_store(tmp_path)
    connect(store)
    assert store.embedded is not None
    assert read_client(store).search_experiments()
    old = tmp_path / "old"
    (old / "mlruns").mkdir(parents=True)
    copy_database(store.embedded, old / "mlruns" / "mlflow.db")
    assert read_client(find_store(old)).search_experiments()
    with sqlite3.connect(old / "mlruns" / "mlflow.db") as database:
        database.execute("drop table logged_model_tags")
    with pytest.raises(LedgerError, match=r"made by an older MLflow; .* mlflow db upgrade sqlite:"):
        read_client(find_store(old))
    with sqlite3.connect(old / "mlruns" / "mlflow.db") as database:
        found = database.execute("select 1 from sqlite_master where name = 'logged_model_tags'")
        assert found.fetchall() == []
