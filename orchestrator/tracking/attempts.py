"""What MLflow knows of the attempts at cells, for commands that only look. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards.outcomes import SETTLED
from dashboards.store import (
    Store,
    artifact_text,
    experiments,
    find_store,
    search,
)
from orchestrator.tracking.provenance import owner_of
from orchestrator.tracking.runs import whole
from orchestrator.tracking.store import connect, find_experiment, search_cells
from orchestrator.tracking.table import RUNNING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class LastPoint:
    """The newest numbers of a curve. `time` is in seconds since the epoch."""

    step: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Attempt:
    """One try at a cell, as it is on record. Times are in seconds since the epoch."""

    run: Run = field(repr=False)

    @property
    def tags(self) -> dict[str, str]:
        tags: dict[str, str] = self.run.data.tags
        return tags

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def cell_id(self) -> str:
        return self.tags.get("cell.id", "")

    @property
    def label(self) -> str:
        return self.tags.get("cell.label", "")

    @property
    def sweep(self) -> str:
        return self.tags.get("sweep.name", "")

    @property
    def number(self) -> int:
        return whole(self.tags.get("cell.attempt")) or 1

    @property
    def folder(self) -> Path | None:
        folder = self.tags.get("cell.folder")
        return Path(folder) if folder else None

    @cached_property
    def owner(self) -> str:
        """Whose it is, see `owner_of`; asked once, as processes come and go."""
        return owner_of(self.tags)

    @property
    def is_orphan(self) -> bool:
        """Not closed, and its orchestrator is gone: the next start of the sweep closes it."""
        return self.tags.get("cell.outcome", RUNNING) == RUNNING and self.owner == "gone"

    @property
    def outcome(self) -> str:
        """How it ended, or `running`; `lost` when nobody is left to say."""
        return "lost" if self.is_orphan else self.tags.get("cell.outcome", RUNNING)

    @property
    def reason(self) -> str:
        if self.is_orphan:
            return "its orchestrator was killed; the next start of the sweep closes this attempt"
        return self.tags.get("cell.reason", "")

    @property
    def step(self) -> int | None:
        return whole(self.tags.get("cell.step"))

    @property
    def began(self) -> float:
        return float(self.run.info.start_time) / 1000

    @property
    def ended(self) -> float | None:
        """When it was closed; None while it is not."""
        end = self.run.info.end_time
        return float(end) / 1000 if end and self.outcome != RUNNING else None

    @cached_property
    def last_point(self) -> LastPoint | None:
        """The end of its curves; the numbers that are written on closing are none of them."""
        numbers = list(self.run.data.to_proto().metrics)
        curve = [m for m in numbers if self.outcome == RUNNING or m.key in ("loss/total", "lr")]
        if not curve:
            return None
        step = max(m.step for m in curve)
        values = {m.key: m.value for m in curve if m.step == step}
        return LastPoint(step, max(m.timestamp for m in curve) / 1000, values)

    @property
    def sign_of_life(self) -> float:
        """When it was last heard of: its last point, else its beginning."""
        return max(self.began, self.last_point.time if self.last_point else 0.0)


class Records:
    """A store to be read, see `open_records`. All methods raise LedgerError when it does not
    answer."""

    def __init__(self, store: Store, client: MlflowClient | None) -> None:
        self.store = store
        self._client = client

    def attempts(self, condition: str = "") -> Iterator[Attempt]:
        """The attempts at all cells of all sweeps, newest first; `condition` in MLflow's filter
        language."""
        if self._client:
            for run in search_cells(self._client, self.store, condition):
                yield Attempt(run)

    def attempt(self, run_id: str) -> Attempt | None:
        """The attempt that is the MLflow run `run_id`; None for no run, or one of a sweep."""
        query = f"attributes.run_id = '{run_id}'"
        return next(self.attempts(query), None)

    def sweeps(self, name: str | None = None) -> list[Run]:
        """The sweeps' own runs, newest first; with `name`, those of one sweep."""
        if self._client is None:
            return []
        if name is None:
            ids = experiments(self._client, self.store)
        else:
            found = find_experiment(self._client, self.store, name, create=False)
            ids = [found] if found else []
        return list(search(self._client, self.store, "tags.`run.kind` = 'sweep'", ids))

    def run(self, run_id: str) -> Run | None:
        """Any run; None when there is none of that id."""
        try:
            return self._client.get_run(run_id) if self._client and run_id else None
        except Exception:  # deleted, or of another store
            return None

    def files(self, run_id: str) -> list[str]:
        """The names of a run's artifacts; [] when they cannot be listed (they lie elsewhere)."""
        try:
            listed = self._client.list_artifacts(run_id) if self._client else []
        except Exception:
            return []
        return sorted(str(file.path) for file in listed if not file.is_dir)

    def text(self, run_id: str, name: str) -> str | None:
        """An artifact as text; None when it is not there or cannot be read from here."""
        return artifact_text(self._client, run_id, name) if self._client else None

    def page(self, run: Run) -> str:
        """The command or the address that shows a run."""
        experiment = run.info.experiment_id
        return self.store.page(experiment, run.info.run_id) or self.store.browse(experiment)


def open_records(root: Path | None = None) -> Records:
    """The store that `MLFLOW_TRACKING_URI` names, or the embedded one in `root`/mlruns; nothing is
    made when there is none. Raises LedgerError when it cannot be used."""
    store = find_store(root)
    if store.embedded and not store.embedded.exists():
        return Records(store, None)
    return Records(store, connect(store))


def deciding(attempts: list[Attempt]) -> Attempt:
    """The attempt that says how a cell stands: its newest result, else the newest attempt.
    `attempts` are newest first, at least one."""
    return next((a for a in attempts if a.outcome in SETTLED), attempts[0])
