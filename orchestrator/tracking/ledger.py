"""The record of every sweep in MLflow (DESIGN.md section 6). Only the orchestrator writes here;
what has settled is asked here.

A run is named by a handle: its MLflow run id, or a stand-in while a dead server keeps us from
learning it.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.addresses import sweep_page
from dashboards.outcomes import FAULTS, SETTLED
from dashboards.store import LedgerError, Store, cut, find_store, one_line, unreachable
from detcore.result import Point
from orchestrator.tracking.provenance import code_diff, code_tags, diff_id, owner_of, process_tags
from orchestrator.tracking.runs import (
    STATUS,
    CellInfo,
    OpenAttempt,
    Settled,
    as_yaml,
    cell_params,
    cell_tags,
    colour_of,
    log_params,
    open_sweep_run,
    read_attempt,
    read_settled,
    whole,
)
from orchestrator.tracking.spool import Outbox, Record, numbers, read_points
from orchestrator.tracking.store import connect, find_experiment, search_cells
from orchestrator.tracking.views import save_views

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REPORT = "report.html"  # an artifact of the sweep's run, see orchestrator.running.publish

__all__ = ["CellInfo", "Ledger", "LedgerError", "OpenAttempt", "Settled", "open_ledger"]


class Ledger:
    """See `open_ledger`. `say` takes lines for the user; set it to show them, by default they are
    kept in `messages`. For one thread."""

    def __init__(
        self, name: str, store: Store, client: MlflowClient | None, experiment: str
    ) -> None:
        self.name = name
        self.store = store
        self.experiment_id = experiment
        self.messages: list[str] = []
        self.say: Callable[[str], None] = self.messages.append
        self._client = client
        self._axes: dict[str, list[str]] = {}
        self._attempts: dict[str, int] = {}
        self._faults: dict[str, Settled] = {}
        self._warned: set[str] = set()
        self._outbox = Outbox(client, lambda text: self.say(text)) if client else None

    # ------------------------------------------------------------ asking

    def settled(self, ids: Iterable[str]) -> dict[str, Settled]:
        """The newest result of each of `ids` that has one, over all sweeps in the store; faults are
        no results."""
        missing, found = set(ids), {}
        unseen = set(missing)
        self._faults = {id: fault for id, fault in self._faults.items() if id not in unseen}
        for run in self._cells():
            if not missing:
                break
            tags = run.data.tags
            cell_id = tags.get("cell.id", "")
            if cell_id in unseen and tags.get("cell.outcome") in FAULTS:
                self._faults[cell_id] = read_settled(run)
            unseen.discard(cell_id)
            if cell_id in missing:
                before = self._attempts.get(cell_id, 0)
                self._attempts[cell_id] = max(before, whole(tags.get("cell.attempt")) or 0)
                if tags.get("cell.outcome") in SETTLED:
                    found[cell_id] = read_settled(run)
                    missing.remove(cell_id)
        return found

    def newest_faults(self, ids: Iterable[str]) -> dict[str, Settled]:
        """Those of `ids` whose newest attempt ended in a fault, as `settled` last saw them."""
        return {id: self._faults[id] for id in ids if id in self._faults}

    def deleted_results(self, ids: Iterable[str]) -> dict[str, float]:
        """Those of `ids` that had a result which a user deleted in MLflow, and when the newest of
        them ended (seconds since the epoch)."""
        wanted = set(ids)
        ends: dict[str, float] = {}
        for run in self._cells(deleted=True):
            tags = run.data.tags
            cell_id = tags.get("cell.id", "")
            if cell_id in wanted and tags.get("cell.outcome") in SETTLED:
                # MLflow cuts times to milliseconds; the file was written within that one
                ended = ((run.info.end_time or 0) + 1) / 1000
                ends[cell_id] = max(ends.get(cell_id, 0.0), ended)
        return ends

    def next_attempt(self, cell_id: str) -> int:
        """The number of the next attempt at a cell that `settled` was asked about, from 1."""
        return self._attempts.get(cell_id, 0) + 1

    def open_attempts(self) -> list[OpenAttempt]:
        """Attempts left running by other orchestrators, in all sweeps. One that had said its
        outcome, but died before it could close its run, is closed here and not returned."""
        found = []
        for run in self._cells("attributes.status = 'RUNNING'"):
            tags = run.data.tags
            owner = owner_of(tags)
            if owner == "us":
                continue
            if owner == "gone" and tags.get("cell.outcome") in STATUS:
                self._live.set_terminated(run.info.run_id, STATUS[tags["cell.outcome"]])
                continue
            found.append(read_attempt(run, owner))
        return found

    def ui_command(self) -> str:
        """The command that shows the results, or the address where a server shows them."""
        return self.store.browse(self.experiment_id)

    # ------------------------------------------------------------ the sweep's own run

    def set_levels(self, axes: Mapping[str, Sequence[Any]]) -> None:
        """The levels of each axis in the order of the sweep file: what colours and views follow."""
        self._axes = {name: [str(level) for level in levels] for name, levels in axes.items()}

    def start_sweep(
        self,
        spec_text: str,
        plan: Any,
        note: str,
        axes: Mapping[str, Sequence[Any]],
        variant: str = "",
        arguments: str = "",
    ) -> str:
        """Open the sweep's run (the one of the last start of the same `variant`, if there is one)
        and write what is known beforehand. `axes`: see `set_levels`; `plan`: anything JSON
        takes; `arguments`: those of the command."""
        self.set_levels(axes)
        tags = {
            "run.kind": "sweep",
            "sweep.name": self.name,
            "sweep.variant": variant or "default",
            "sweep.arguments": cut(arguments, 5000),
            "sweep.sha256": hashlib.sha256(spec_text.encode()).hexdigest(),
        }
        tags |= code_tags() | process_tags()
        try:
            run_id = open_sweep_run(self._live, self.experiment_id, self.name, tags)
            # within MLflow's page; links first, as it folds a note after some lines
            page = f"#/experiments/{self.experiment_id}/runs/{run_id}/artifacts/{REPORT}"
            link = f"[Report]({page}), written at the end: intervals, curves, failures."
            if live := sweep_page(self.name, run_id):
                link += f" [The same, live]({live})."
            self._live.set_tag(run_id, "mlflow.note.content", f"{link}\n\n{cut(note, 7500)}")
        except Exception as error:
            raise LedgerError(unreachable(self.store, error)) from error
        texts = {"sweep.yaml": spec_text, "plan.json": json.dumps(plan, indent=2)}
        if diff := code_diff():  # a later start may have another: cells name theirs (`git.diff`)
            name = f"diffs/{diff_id(diff)}.diff"
            texts |= {"code.diff": diff, name: diff}
        self.write(run_id, texts)
        try:
            save_views(self._live, self.experiment_id, self._axes)
        except Exception as error:  # not a public format: no sweep fails for it
            self._warn(f"the saved views were not written: {one_line(error)}")
        return run_id

    def finish_sweep(
        self, run_id: str, artifacts: Mapping[str, str], status: str = "FINISHED"
    ) -> bool:
        """Send all that is left, write `artifacts` (file name -> text: table.md, table.csv, ...)
        and close the sweep's run. False when the server did not take it; then the next start of the
        sweep does."""
        if not self.flush():
            return False
        try:
            self.write(run_id, artifacts)
            self._live.set_terminated(run_id, status)
        except Exception as error:
            self._warn(f"the sweep's run in MLflow was not closed: {one_line(error)}")
            return False
        return True

    def write(self, run_id: str, texts: Mapping[str, str]) -> None:
        """Store texts as artifacts by file name; what MLflow does not take is said."""
        for name, text in texts.items():
            try:
                self._live.log_text(run_id, text, name)
            except Exception as error:
                self._warn(f"{name} was not stored in MLflow: {one_line(error)}")

    # ------------------------------------------------------------ cells

    def start_attempt(
        self,
        cell: CellInfo,
        sweep_run_id: str,
        attempt: int,
        folder: Path,
        began: float | None = None,
    ) -> str:
        """Open a run for one attempt, outcome `running`; returns its handle. `folder` is the
        cell's, with `metrics.jsonl`; `began` is in seconds since the epoch (default: now);
        `sweep_run_id` is empty when no start of a sweep is at it."""
        token = uuid.uuid4().hex
        tags = cell_tags(cell) | code_tags() | process_tags()
        tags |= {
            "sweep.name": self.name,
            **({"sweep.run_id": sweep_run_id} if sweep_run_id else {}),
            "cell.attempt": str(attempt),
            "cell.folder": str(folder.resolve()),
            "mlflow.runColor": colour_of(cell, self._axes),
            "attempt.token": token,
        }
        config, params = as_yaml(cell.config), cell_params(cell)
        started = int((began or time.time()) * 1000)
        tries = 0

        def create() -> str:
            nonlocal tries
            tries += 1
            if tries > 1:  # the answer may have been lost, not the request
                known = self._live.search_runs(
                    [self.experiment_id], f"tags.`attempt.token` = '{token}'", max_results=1
                )
                if known:
                    return str(known[0].info.run_id)
            run = self._live.create_run(self.experiment_id, started, tags, run_name=cell.label)
            return str(run.info.run_id)

        record = Record(cell.label, create=create)
        record.opening.append(lambda run_id: log_params(self._live, run_id, params))
        record.opening.append(lambda run_id: self._store_config(run_id, config))
        records = self._records
        records[token] = record
        self._attempts[cell.id] = max(self._attempts.get(cell.id, 0), attempt)
        self._pump()
        if record.run_id is None:
            return token
        records[record.run_id] = records.pop(token)
        return record.run_id

    def tag(self, handle: str, tags: Mapping[str, Any]) -> None:
        """Add tags to a run: `ray.job_id`, `ray.actor_ids`, `ray.url` ..."""
        self._record(handle).tags.update({key: cut(str(v), 5000) for key, v in tags.items()})
        self._pump()

    def log_points(self, handle: str, points: Iterable[Point]) -> None:
        """Take points of a curve. They are sent in batches; a point given twice is stored once.
        Never raises for a dead server, and never waits for one longer than its time-out."""
        for key in self._record(handle).add(points):
            self._warn(
                f"the value {key!r} is not recorded: MLflow takes letters, digits, _-./: and space"
            )
        self._pump()

    def finish(
        self,
        handle: str,
        outcome: str,
        reason: str = "",
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        values: Mapping[str, float] | None = None,
        artifacts: Iterable[Path] = (),
        metrics_file: Path | None = None,
    ) -> bool:
        """Close an attempt: the points of `metrics_file` that were not sent yet, the final numbers,
        files, outcome, status (in this order: until the outcome is written the attempt counts as
        running). Whether MLflow has it all by now."""
        if outcome not in STATUS:
            raise ValueError(f"outcome: {outcome!r} is none of {', '.join(STATUS)}")
        record = self._record(handle)
        if metrics_file:
            record.add(read_points(metrics_file))
        last = Point(step or 0, time.time(), {**(values or {}), **(metrics or {})})
        record.waiting.extend(numbers(last))
        ended, files = int(last.time * 1000), list(artifacts)

        def close(run_id: str) -> None:
            for file in files:
                self._store_file(run_id, file)
            if step is not None:
                self._live.set_tag(run_id, "cell.step", str(step))
            self._live.set_tag(run_id, "cell.reason", cut(reason, 500))
            self._live.set_tag(run_id, "cell.outcome", outcome)
            self._live.set_terminated(run_id, STATUS[outcome], ended)

        record.ending = close
        record.seen.clear()  # a late point may come twice: the store keeps it once
        self._pump()
        return record.is_clear and not record.refused

    def flush(self) -> bool:
        """Send everything now; whether nothing is left."""
        return self._outbox.pump(force=True) if self._outbox else True

    # ------------------------------------------------------------ inside

    @property
    def _live(self) -> MlflowClient:
        assert self._client is not None, "opened with create=False and there is no store"
        return self._client

    @property
    def _records(self) -> dict[str, Record]:
        assert self._outbox is not None, "opened with create=False and there is no store"
        return self._outbox.records

    def _record(self, handle: str) -> Record:
        """The record of a handle; one of an earlier process is known by its run id alone."""
        return self._records.setdefault(handle, Record(handle, run_id=handle))

    def _pump(self) -> None:
        assert self._outbox is not None
        self._outbox.pump()

    def _cells(self, condition: str = "", deleted: bool = False) -> Iterator[Run]:
        if self._client:
            yield from search_cells(self._client, self.store, condition, deleted)

    def _store_config(self, run_id: str, config: str) -> None:
        self._store(
            run_id, "config.yaml", lambda: self._live.log_text(run_id, config, "config.yaml")
        )

    def _store_file(self, run_id: str, file: Path) -> None:
        log = self._live.log_artifacts if file.is_dir() else self._live.log_artifact
        self._store(run_id, file.name, lambda: log(run_id, str(file)))

    def _store(self, run_id: str, name: str, log: Callable[[], None]) -> None:
        """A file that cannot be stored is said; only a server that is down makes this raise."""
        try:
            log()
        except Exception as error:
            self._live.get_run(run_id)
            self._warn(f"{name} was not stored in MLflow: {one_line(error)}")

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self.say(text)


def open_ledger(sweep_name: str, root: Path | None = None, create: bool = True) -> Ledger:
    """The ledger of one sweep, in the store that `MLFLOW_TRACKING_URI` names or embedded in
    `root`/mlruns.

    With `create=False` (a dry run) nothing is made: with no embedded store yet, nothing is settled.
    Raises LedgerError when the store cannot be reached or written, or when the sweep's experiment
    was deleted.
    """
    store = find_store(root)
    if not create and store.embedded and not store.embedded.exists():
        return Ledger(sweep_name, store, None, "")
    client = connect(store)
    experiment = find_experiment(client, store, sweep_name, create)
    return Ledger(sweep_name, store, client, experiment or "")
