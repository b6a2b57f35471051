"""Where results are kept: the MLflow tracking store that `MLFLOW_TRACKING_URI` names, or an
embedded one in `mlruns/`. Here it is found and read; `orchestrator.tracking.store` makes it.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from dashboards.addresses import DASHBOARDS, MLFLOW, RAY, browser_address

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
PAGE = 500  # runs of one answer, which a busy server must give within the time-out
_UI = "--host 127.0.0.1 --port 5000"
_SECRET = r"(?i)\b((?:ssl)?password|passwd|pwd|token|odbc_connect)=[^&;\s'\"]*"


class LedgerError(ValueError):
    """The store cannot be used; one line with the remedy."""


class NothingYetError(LedgerError):
    """The store holds nothing: the first sweep makes its tables."""


@dataclass(frozen=True)
class Store:
    """`uri` as MLflow takes it; `artifacts` is where a new experiment's files go (None: the server
    decides)."""

    uri: str
    artifacts: str | None
    embedded: Path | None  # the database file of the embedded store
    ui: str = ""  # where browsers find MLflow, if that is not `uri`

    @property
    def is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def _browser(self) -> str:
        """Where browsers find MLflow; empty where no server is known."""
        return self.ui or (self.shown.rstrip("/") if self.is_server else "")

    @property
    def shown(self) -> str:
        """The address without a password in it."""
        return without_secrets(self.uri)

    def browse(self, experiment_id: str) -> str:
        """What to type, or to open, to see the experiment: a command for a database, an address for
        a server. Never a password: an address that was given is named by its variable."""
        if self._browser:
            return self._page(experiment_id)
        uri = shlex.quote(self.uri) if self.embedded else '"$MLFLOW_TRACKING_URI"'
        return f"mlflow ui --backend-store-uri {uri} {_UI}"

    def page(self, experiment_id: str, run_id: str) -> str:
        """The address of a run's page; empty where no server is known that shows it."""
        return self._page(f"{experiment_id}/runs/{run_id}") if self._browser else ""

    def _page(self, of: str) -> str:
        # without the last part a first visit shows MLflow's pages for language models
        return f"{self._browser}/#/experiments/{of}?workflowType=machine_learning"


def find_store(root: Path | None = None) -> Store:
    """The store to use from the folder `root` (default: the working folder). Touches nothing.

    Raises LedgerError for an address that MLflow cannot write to, or no browser can open."""
    try:
        ui, *_ = [browser_address(name) for name in (MLFLOW, RAY, DASHBOARDS)]
    except ValueError as error:
        raise LedgerError(str(error)) from None
    folder = (root or Path.cwd()).resolve() / "mlruns"
    artifacts = (folder / "artifacts").as_uri()
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        database = folder / "mlflow.db"
        # quoted, because MLflow unquotes it: a folder may have % or # in its name
        return Store(f"sqlite:///{quote(str(database))}", artifacts, database, ui)
    try:
        scheme = urlsplit(uri).scheme.partition("+")[0]
    except ValueError:  # [ without ]
        scheme = ""
    if scheme in ("http", "https"):
        return Store(uri, None, None, ui)
    if scheme in _DATABASES:
        return Store(uri, artifacts, None, ui)
    raise LedgerError(
        f"MLFLOW_TRACKING_URI: {without_secrets(uri)!r} is not a database or a server (MLflow no "
        "longer writes to plain folders); unset it for the embedded store, or give sqlite:///FILE, "
        "postgresql://... or http://HOST:PORT"
    )


def open_client(store: Store) -> MlflowClient:
    """A client of `store`. A database without MLflow's tables gets them: see `read_client`. Raises
    LedgerError when it cannot be opened."""
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
        return MlflowClient(store.uri)
    except Exception as error:
        raise LedgerError(_closed(store, error)) from error


def read_client(store: Store) -> MlflowClient:
    """A client that only reads `store`: neither a file nor a table is made, and tables of an older
    MLflow stay as they are. Raises LedgerError when there is no store, or it cannot be opened."""
    if not store.is_server:
        _check_tables(store)
    return open_client(store)


def experiments(client: MlflowClient, store: Store) -> list[str]:
    """The ids of all experiments that are not deleted. Raises LedgerError when the store does not
    answer."""
    ids: list[str] = []
    token: str | None = None
    try:
        while True:
            page = client.search_experiments(max_results=1000, page_token=token)
            ids += [str(e.experiment_id) for e in page]
            token = page.token
            if not token:
                return ids
    except Exception as error:
        raise LedgerError(unreachable(store, error)) from error


def search(
    client: MlflowClient,
    store: Store,
    query: str,
    within: Sequence[str] | None = None,
    deleted: bool = False,
) -> Iterator[Run]:
    """The runs that `query` (MLflow's filter language) finds in the experiments `within` (default:
    in all), newest first. With `deleted`, those that a user deleted instead.

    Raises LedgerError when the store does not answer."""
    from mlflow.entities import ViewType

    kind = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    ids = list(experiments(client, store) if within is None else within)
    order = ["attributes.start_time DESC"]
    token: str | None = None
    while ids:
        try:
            page = client.search_runs(ids, query, kind, PAGE, order, token)
        except Exception as error:
            raise LedgerError(unreachable(store, error)) from error
        yield from page
        token = page.token
        if not token:
            return


def artifact_text(client: MlflowClient, run_id: str, name: str) -> str | None:
    """An artifact as text; None when it is not there or cannot be read from here."""
    with tempfile.TemporaryDirectory(prefix="look-") as scratch:
        try:
            file = Path(client.download_artifacts(run_id, name, scratch))
            return file.read_text(encoding="utf-8", errors="replace")
        except Exception:
            return None


def unreachable(store: Store, error: Exception) -> str:
    """What to tell the user when the store did not answer."""
    if "Invalid Host header" in str(error):
        return (
            f"the MLflow server {store.shown} refuses to be called by that name; "
            f"start it with --allowed-hosts {urlsplit(store.shown).netloc}"
        )
    remedy = "start it, or unset MLFLOW_TRACKING_URI to use the embedded store"
    return f"the MLflow store {store.shown} does not answer: {one_line(error)}; {remedy}"


def one_line(error: BaseException, limit: int = 200) -> str:
    """The first line of an error without passwords; its kind when it says nothing."""
    text = " ".join(str(error).split("\n", 1)[0].split()) or type(error).__name__
    return cut(without_secrets(text), limit)


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters; a cut is visible. (MLflow cuts long values without a
    word.)"""
    if len(text) <= limit:
        return text
    mark = f" ... [{len(text)} characters]"
    return text[: limit - len(mark)] + mark


def without_secrets(text: str) -> str:
    """`text` without the user and password of addresses in it, and the values of what is called
    like one: drivers of databases take `?password=...` as well."""
    text = re.sub(r"://[^/\s]*@", "://", text)
    # SQLAlchemy takes a password with / in it
    text = re.sub(r"((?<!http)(?<!https)://)[^:/\s]*:[^@\s]*@", r"\1", text)
    return re.sub(_SECRET, r"\1=***", text)


# ---------------------------------------------------------------- inside


def _check_tables(store: Store) -> None:
    """MLflow's client makes the tables that a database lacks, also in one that a server uses.
    Raises LedgerError instead."""
    if absent := _absent(store):
        raise NothingYetError(
            f"no sweep is on record: {absent}; run a sweep (python -m orchestrator.run SWEEP.yaml),"
            " go to the folder that it was run in, or name its store with MLFLOW_TRACKING_URI"
        )
    have = _tables(store)
    if "experiments" not in have:
        raise (LedgerError if have else NothingYetError)(
            f"the database {store.shown} is no MLflow store: it lacks MLflow's tables"
        )
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels import models  # noqa: F401 (it fills Base)

    if not set(Base.metadata.tables) <= have:
        uri = shlex.quote(store.uri) if store.embedded else '"$MLFLOW_TRACKING_URI"'
        raise LedgerError(
            f"the MLflow store {store.shown} was made by an older MLflow; take a backup of it, then"
            f" run: mlflow db upgrade {uri}"
        )


def _absent(store: Store) -> str:
    """Why there is no database file; empty where there is, or none is needed."""
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(store.uri)
    except sqlalchemy.exc.ArgumentError as error:
        raise LedgerError(f"MLFLOW_TRACKING_URI: {one_line(error)}") from error
    if url.get_backend_name() != "sqlite":
        return ""
    file = store.embedded or Path(url.database or ":memory:")
    return "" if file.is_file() else f"there is no file {file}"


def _tables(store: Store) -> set[str]:
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(store.uri, poolclass=sqlalchemy.NullPool)
        return set(sqlalchemy.inspect(engine).get_table_names())
    except Exception as error:
        raise LedgerError(_closed(store, error)) from error


def _closed(store: Store, error: Exception) -> str:
    return f"the MLflow store {store.shown} cannot be opened: {one_line(error)}"
