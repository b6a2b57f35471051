"""The MLflow store as the orchestrator uses it: made on first use, with an experiment for each
sweep. Where it lies is known to `dashboards.store`."""

from __future__ import annotations

import fcntl
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards.store import LedgerError, Store, one_line, open_client, search, unreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def connect(store: Store) -> MlflowClient:
    """A client of `store`; the embedded store is made on first use. Raises LedgerError when it
    cannot be opened."""
    with _made_by_one(store.embedded):
        return open_client(store)


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
    query = " and ".join(part for part in ("tags.`run.kind` = 'cell'", condition) if part)
    return search(client, store, query, deleted=deleted)
