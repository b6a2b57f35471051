"""Whether MLflow answers, how fast, and which version it is. It is asked as a sweep would ask, but
is given seconds and not minutes to answer."""

from __future__ import annotations

import os
import socket
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dashboards.store import (
    LedgerError,
    NothingYetError,
    Store,
    find_store,
    one_line,
    read_client,
    unreachable,
)
from orchestrator.findings import Finding

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE_S = 5  # for each answer
CALLS = 5
SLOW_S = 0.5
HASTY = {  # over the patience that a sweep has (dashboards.store)
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE_S),
    "PGCONNECT_TIMEOUT": str(PATIENCE_S),  # libpq's own
}
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def mlflow_findings(root: Path | None = None) -> list[Finding]:
    """The store that a sweep from the folder `root` (default: the working folder) would use. Sets
    MLflow's time-outs in this process's environment, and writes nothing else."""
    try:
        store = find_store(root)
    except LedgerError as error:
        return [_failure(str(error))]
    if store.embedded and not store.embedded.exists():
        return [_not_made_yet(store.embedded)]
    os.environ.update(HASTY)
    try:
        _knock(store)
        client = read_client(store)
        seconds = _latency(client, store)
    except NothingYetError:
        return [
            Finding("mlflow", "ok", f"MLflow at {store.shown}: the first sweep makes its tables")
        ]
    except LedgerError as error:
        return [_failure(str(error))]
    ms = statistics.median(seconds) * 1000
    what = f"MLflow at {store.shown} answers in {ms:.0f} ms (median of {CALLS})"
    if ms > SLOW_S * 1000:
        remedy = "a server nearer to this machine, or over PostgreSQL; cells do not wait for it"
        return [Finding("mlflow", "warning", what, remedy), *_version(store)]
    return [Finding("mlflow", "ok", what), *_version(store)]


def _knock(store: Store) -> None:
    """Raise LedgerError soon when no machine or port is there; drivers of databases wait for
    minutes."""
    try:
        parts = urlsplit(store.uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise LedgerError(f"MLFLOW_TRACKING_URI: {store.shown}: {one_line(error)}") from None
    port = port or PORTS.get(parts.scheme.partition("+")[0])
    if host and port:
        try:
            socket.create_connection((host, port), timeout=PATIENCE_S).close()
        except OSError as error:
            raise LedgerError(unreachable(store, error)) from None


def _latency(client: MlflowClient, store: Store) -> list[float]:
    """Seconds of a few small questions; the first, which opens the connection, does not count."""
    seconds = []
    for _ in range(CALLS + 1):
        began = time.monotonic()
        try:
            client.search_experiments(max_results=1)
        except Exception as error:
            raise LedgerError(unreachable(store, error)) from None
        seconds.append(time.monotonic() - began)
    return seconds[1:]


def _version(store: Store) -> list[Finding]:
    """A server of another version may not know what this client asks."""
    if not store.is_server:
        return []
    import requests

    try:
        answer = requests.get(f"{store.uri.rstrip('/')}/version", timeout=PATIENCE_S)
    except requests.RequestException:
        return []
    server, ours = answer.text.strip(), metadata.version("mlflow")
    if not answer.ok or not server[:1].isdigit():
        return []  # a proxy that lets the API through alone
    if server.split(".")[:2] == ours.split(".")[:2]:
        return [Finding("mlflow", "ok", f"MLflow {server} there, {ours} here")]
    remedy = f"run the server with mlflow=={ours}, or pip install mlflow=={server} here"
    return [Finding("mlflow", "warning", f"MLflow {server} there, {ours} here", remedy)]


def _not_made_yet(database: Path) -> Finding:
    place = database.parent
    while not place.exists():
        place = place.parent
    if os.access(place, os.W_OK):
        return Finding("mlflow", "ok", f"MLflow: {database} is made by the first sweep")
    return _failure(
        f"{database}: cannot be made; run from a folder you can write to, or set "
        "MLFLOW_TRACKING_URI"
    )


def _failure(line: str) -> Finding:
    """From an error's line, which may end with its remedy."""
    what, _, remedy = line.rpartition("; ")
    if not what:
        what, remedy = remedy, "mend the address in MLFLOW_TRACKING_URI, or unset it"
    return Finding("mlflow", "failure", what, remedy)
