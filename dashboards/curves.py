"""The curves of a study's cells, thinned to what a chart can show."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dashboards.runs import finite
from dashboards.store import LedgerError, Store, unreachable
from dashboards.study import Cell, Study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

Points = list[list[float | None]]
"""[step, value] in the order of steps; None for a value that is not finite."""

MOST = 200  # points of one curve, about
THREADS = 8
KEPT = 5000  # curves of cells that have ended, kept in memory: more while they are in use
IN_USE_S = 300.0  # what was asked for so short a time ago will be asked for again


class Curves:
    """Reads curves; those of cells that have ended are asked for once. For any number of
    threads."""

    def __init__(self) -> None:
        # the points and when they were last asked for, the longest ago first
        self._kept: OrderedDict[tuple[str, str], tuple[Points, float]] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self, client: MlflowClient, store: Store, study: Study, keys: Sequence[str] | None = None
    ) -> dict[str, dict[str, Points]]:
        """For the id of every cell that was begun its points by metric, as far as it has any.
        Raises LedgerError when the store does not answer."""
        names = list(dict.fromkeys(keys if keys is not None else ("loss/total", study.target.name)))
        cells = [cell for cell in study.cells if cell.run_id and cell.id]
        wanted = [(cell, name) for cell in cells for name in names]

        def read(what: tuple[Cell, str]) -> Points:
            return self._read(client, store, *what)

        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(read, wanted))
        self._forget()
        out: dict[str, dict[str, Points]] = {cell.id: {} for cell in cells}
        for (cell, name), points in zip(wanted, found, strict=True):
            if points:
                out[cell.id][name] = points
        return out

    def _read(self, client: MlflowClient, store: Store, cell: Cell, name: str) -> Points:
        key = (cell.run_id, name)
        with self._lock:
            if key in self._kept:
                points = self._kept[key][0]
                self._keep(key, points)
                return points
        points = thinned(in_order(_history(client, store, *key)))
        if cell.ended is not None:  # one that is only judged lost may still be heard of
            with self._lock:
                self._keep(key, points)
        return points

    def _keep(self, key: tuple[str, str], points: Points) -> None:
        self._kept[key] = points, time.monotonic()
        self._kept.move_to_end(key)

    def _forget(self) -> None:
        """Drops what exceeds KEPT, but nothing that is in use: a page asks for all curves of its
        sweep in turn, so that with fewer kept each would be gone just before it is asked for."""
        with self._lock:
            while len(self._kept) > KEPT:
                _, asked = next(iter(self._kept.values()))
                if time.monotonic() - asked < IN_USE_S:
                    return
                self._kept.popitem(last=False)


def in_order(history: Iterable[Metric]) -> Points:
    """One point a step. A step that was trained again after a restart counts as it was last."""
    newest = sorted(history, key=lambda m: (m.step, m.timestamp))
    return [[step, value] for step, value in {m.step: finite(m.value) for m in newest}.items()]


def thinned(points: Points, most: int = MOST) -> Points:
    """About `most` of `points`: the first and the last, of each stretch between them the lowest,
    the highest and the first that is not finite, and where the values last turn finite or not."""
    if len(points) <= most:
        return points
    keep = {0, len(points) - 1}
    stretches = max(1, most // 2 - 2)
    for i in range(stretches):
        first, end = (len(points) * j // stretches for j in (i, i + 1))
        numbers = [(v, k) for k in range(first, end) if (v := points[k][1]) is not None]
        if numbers:
            keep |= {min(numbers)[1], max(numbers)[1]}
        keep |= set([k for k in range(first, end) if points[k][1] is None][:1])
    turn = len(points) - 1
    while turn and (points[turn - 1][1] is None) == (points[-1][1] is None):
        turn -= 1
    return [points[k] for k in sorted(keep | {turn, max(0, turn - 1)})]


def _history(client: MlflowClient, store: Store, run_id: str, name: str) -> list[Metric]:
    from mlflow.exceptions import MlflowException

    try:
        return list(client.get_metric_history(run_id, name))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # deleted since
            return []
        raise LedgerError(unreachable(store, error)) from error
    except Exception as error:
        raise LedgerError(unreachable(store, error)) from error
