"""Where results are kept: the MLflow tracking store that `MLFLOW_TRACKING_URI` names, or an
embedded one in `mlruns/`."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CLIENT_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own defaults (7 tries of 120 s) would hold us for minutes when a server is down
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_UI = "--host 127.0.0.1 --port 5000"


class LedgerError(ValueError):
    """The store cannot be used; one line with the remedy."""


@dataclass(frozen=True)
class Store:
    """`uri` as MLflow takes it; `artifacts` is where a new experiment's files go (None: the server
    decides)."""

    uri: str
    artifacts: str | None
    embedded: Path | None  # the database file of the embedded store

    @property
    def is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def shown(self) -> str:
        """The address without a password in it."""
        parts = urlsplit(self.uri)
        if not parts.hostname or "@" not in parts.netloc:
            return self.uri
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def browse(self, experiment_id: str) -> str:
        """What to type, or to open, to see the experiment: a command for a database, an address for
        a server. Never a password: an address that was given is named by its variable."""
        if self.is_server:
            page = f"/#/experiments/{experiment_id}?workflowType=machine_learning"
            return self.shown.rstrip("/") + page
        uri = shlex.quote(self.uri) if self.embedded else '"$MLFLOW_TRACKING_URI"'
        return f"mlflow ui --backend-store-uri {uri} {_UI}"


def find_store(root: Path | None = None) -> Store:
    """The store to use from the folder `root` (default: the working folder). Touches nothing.

    Raises LedgerError for an address that MLflow cannot write to."""
    folder = (root or Path.cwd()).resolve() / "mlruns"
    artifacts = (folder / "artifacts").as_uri()
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        database = folder / "mlflow.db"
        # quoted, because MLflow unquotes it: a folder may have % or # in its name
        return Store(f"sqlite:///{quote(str(database))}", artifacts, database)
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return Store(uri, None, None)
    if scheme in _DATABASES:
        return Store(uri, artifacts, None)
    raise LedgerError(
        f"MLFLOW_TRACKING_URI: {uri!r} is not a database or a server (MLflow no longer writes to "
        "plain folders); unset it for the embedded store, or give sqlite:///FILE, postgresql://... "
        "or http://HOST:PORT"
    )


def connect(store: Store) -> MlflowClient:
    """A client of `store`; the embedded store is made on first use. Raises LedgerError when it
    cannot be opened."""
    for name, value in CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow.store.db.utils as database
    from mlflow import MlflowClient

    # after the import, which sets levels of its own
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # MLflow tries a database that does not open for 100 s; a wrong address is told sooner
    database.MAX_RETRY_COUNT = min(database.MAX_RETRY_COUNT, 4)
    try:
        with _made_by_one(store.embedded):
            return MlflowClient(store.uri)
    except LedgerError:
        raise
    except Exception as error:
        raise LedgerError(
            f"the MLflow store {store.shown} cannot be opened: {one_line(error)}"
        ) from error


def find_experiment(client: MlflowClient, store: Store, name: str, create: bool) -> str | None:
    """The id of the experiment `name`, made when `create` says so. Raises LedgerError when the
    store does not answer or the experiment was deleted."""
    try:
        known = client.get_experiment_by_name(name)
        if known is None:
            return client.create_experiment(name, store.artifacts) if create else None
    except Exception as error:
        raise LedgerError(unreachable(store, error)) from error
    if known.lifecycle_stage == "deleted":
        command = f"mlflow experiments restore -x {known.experiment_id}"
        raise LedgerError(
            f"the MLflow experiment {name!r} is deleted, and MLflow does not give its name out "
            f"again; restore it (MLFLOW_TRACKING_URI={shlex.quote(store.shown)} {command}) "
            "or give the sweep another name"
        )
    return str(known.experiment_id)


def one_line(error: BaseException, limit: int = 200) -> str:
    """The first line of an error without passwords; its kind when it says nothing."""
    text = " ".join(str(error).split("\n", 1)[0].split()) or type(error).__name__
    return cut(re.sub(r"://[^/\s]*@", "://", text), limit)


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters; a cut is visible. (MLflow cuts long values without a
    word.)"""
    if len(text) <= limit:
        return text
    mark = f" ... [{len(text)} characters]"
    return text[: limit - len(mark)] + mark


@contextmanager
def _made_by_one(database: Path | None) -> Iterator[None]:
    """Make the embedded store; while its tables are made, no other process makes them as well.

    MLflow's own lock lies in the temporary folder, which two processes need not share."""
    if database is None:
        yield
        return
    _make_embedded(database)
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(database.with_name(f".{database.name}.lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a disk without locks, or one that can only be read
        yield


def _make_embedded(database: Path) -> None:
    """Make the file with a write-ahead log, so that `mlflow ui` reads while a sweep writes."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(database, timeout=20)
        try:
            connection.execute("pragma journal_mode=wal")
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(
            f"{database}: cannot be made or opened ({one_line(error)}); "
            "run from a folder you can write to, or set MLFLOW_TRACKING_URI"
        ) from error


def search_cells(
    client: MlflowClient, store: Store, condition: str = "", deleted: bool = False
) -> Iterator[Run]:
    """The runs of cells in all experiments, newest first; `condition` in MLflow's filter language.
    With `deleted`, those that a user deleted instead.

    Raises LedgerError when the store does not answer."""
    from mlflow.entities import ViewType

    kind = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    query = " and ".join(part for part in ("tags.`run.kind` = 'cell'", condition) if part)
    order = ["attributes.start_time DESC"]
    token: str | None = None
    try:
        ids = [e.experiment_id for e in client.search_experiments(max_results=1000)]
        while ids:
            page = client.search_runs(ids, query, kind, 500, order, token)
            yield from page
            token = page.token
            if not token:
                return
    except Exception as error:
        raise LedgerError(unreachable(store, error)) from error


def unreachable(store: Store, error: Exception) -> str:
    """What to tell the user when the store did not answer."""
    if "Invalid Host header" in str(error):
        return (
            f"the MLflow server {store.shown} refuses to be called by that name; "
            f"start it with --allowed-hosts {urlsplit(store.shown).netloc}"
        )
    remedy = "start it, or unset MLFLOW_TRACKING_URI to use the embedded store"
    return f"the MLflow store {store.shown} does not answer: {one_line(error)}; {remedy}"
