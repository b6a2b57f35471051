"""What happens to the cells, told to the ledger and to the screen. The only writer of both while a
sweep runs."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from detcore.result import Point
from orchestrator.cluster import Cluster
from orchestrator.gang import Job
from orchestrator.ledger import SETTLED, Ledger
from orchestrator.plan import Plan, Planned
from orchestrator.progress import Progress
from orchestrator.render import to_csv, to_markdown, to_rich
from orchestrator.table import RUNNING, WAITING, Row, Table, make_table

STORED_DETECTIONS = 20e6  # bytes; a larger file stays in the cell's folder


@dataclass
class _Attempt:
    handle: str
    began: float


@dataclass
class _Ended:
    """How a cell ended in this start of the sweep."""

    outcome: str
    reason: str
    step: int | None
    metrics: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)


class Recorder:
    """`with Recorder(ledger, plan, screen) as recorder: run_cells(jobs, recorder, ...)`

    On leaving, cells that still run are closed as `cancelled`, and the sweep's own run gets its
    table.
    """

    def __init__(self, ledger: Ledger, plan: Plan, screen: Console) -> None:
        self.ledger, self.plan, self.screen = ledger, plan, screen
        self.planned = {p.id: p for p in plan.cells}
        self.attempts: dict[str, _Attempt] = {}
        self.ended_cells: dict[str, _Ended] = {}
        self.cluster: Cluster | None = None
        reused = [s.outcome for s in plan.settled.values()]
        metric = plan.sweep.metric.name
        self.progress = Progress(len(plan.cells), reused, console=screen, metric=metric)

    def __enter__(self) -> Recorder:
        plan = self.plan
        self.sweep_run = self.ledger.start_sweep(
            plan.sweep.file.read_text(encoding="utf-8"), plan.to_json(), self._note(), plan.axes
        )
        self.ledger.say = self.progress.message
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *_: object
    ) -> None:
        self.progress.__exit__()
        stopped = kind is None or issubclass(kind, KeyboardInterrupt)
        reason = "the sweep was interrupted" if stopped else f"the orchestrator failed: {error}"
        for cell in list(self.attempts):
            self._close(cell, _Ended("cancelled", reason, None))
        table = self._table()
        status = "FINISHED" if kind is None else "KILLED" if stopped else "FAILED"
        self.ledger.finish_sweep(
            self.sweep_run,
            {"table.md": to_markdown(table), "table.csv": to_csv(self._rows(), self.plan.axes)},
            status,
        )

    def watching(self, cluster: Cluster) -> None:
        """The cluster is up: from here on, progress is shown."""
        self.cluster = cluster
        self.progress.__enter__()

    # ------------------------------------------------------------ what the gangs say

    def started(self, job: Job, ray_tags: dict[str, str]) -> None:
        planned = self.planned[job["id"]]
        handle = self.ledger.start_attempt(
            self.plan.info(planned),
            self.sweep_run,
            self.ledger.next_attempt(planned.id),
            Path(job["folder"]),
        )
        if self.cluster and self.cluster.dashboard:
            first_rank = ray_tags["ray.actor_ids"].split(",")[1]
            ray_tags["ray.url"] = f"{self.cluster.dashboard}/#/actors/{first_rank}"
        self.ledger.tag(handle, ray_tags)
        self.attempts[planned.id] = _Attempt(handle, time.time())
        self.ended_cells.pop(planned.id, None)
        self.progress.cell_started(planned.id, job["label"], job["ranks"])

    def points(self, job: Job, points: list[dict[str, Any]]) -> None:
        attempt = self.attempts.get(job["id"])
        if attempt is None:
            return
        self.ledger.log_points(attempt.handle, [Point(**p) for p in points])
        last = points[-1]
        self.progress.cell_progress(
            job["id"],
            last["step"] + 1,
            job["config"]["train"]["steps"],
            last["values"].get("loss/total"),
            last["values"].get("images_per_s"),
        )

    def ended(self, job: Job, end: dict[str, Any]) -> None:
        """`end` has a `result`, or a `fault`; also told of attempts that never began."""
        if "fault" in end:
            fault = end["fault"]
            self._write_traceback(job, fault)
            self._close(job["id"], _Ended(fault["outcome"], fault["reason"], None))
        else:
            r = end["result"]
            self._close(
                job["id"], _Ended(r["outcome"], r["reason"], r["step"], r["metrics"], r["values"])
            )

    def tick(self) -> None:
        self.progress.tick()

    # ------------------------------------------------------------ the end

    @property
    def all_settled(self) -> bool:
        return all(row.outcome in SETTLED for row in self._rows())

    def report(self) -> str:
        """The table as text for the terminal."""
        console = Console(highlight=False)
        with console.capture() as capture:
            console.print(to_rich(self._table()))
        faults = [r for r in self._rows() if r.outcome not in (*SETTLED, RUNNING, WAITING)]
        lines = [f"{r.label}: {r.outcome}: {r.reason}" for r in faults]
        return "\n".join([capture.get().rstrip(), *lines])

    def _close(self, cell: str, ended: _Ended) -> None:
        attempt = self.attempts.pop(cell, None)
        self.ended_cells[cell] = ended
        if attempt is None:
            return
        planned = self.planned[cell]
        seconds = time.time() - attempt.began
        r = planned.cell.resources
        ended.values["gpu_hours"] = r.workers * r.gpus_per_worker * seconds / 3600
        folder = self.plan.folder / cell
        self.ledger.finish(
            attempt.handle,
            ended.outcome,
            ended.reason,
            ended.step,
            ended.metrics,
            ended.values,
            artifacts=_artifacts(folder, ended.outcome),
            metrics_file=folder / "metrics.jsonl",
        )
        metric = ended.metrics.get(self.plan.sweep.metric.name)
        self.progress.cell_finished(cell, ended.outcome, metric, seconds)

    def _write_traceback(self, job: Job, fault: dict[str, Any]) -> None:
        if fault.get("traceback"):
            folder = Path(job["folder"])
            with suppress(OSError):  # on a full disk the reason alone must do
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "traceback.txt").write_text(fault["traceback"])

    def _rows(self) -> list[Row]:
        return [self._row(p) for p in self.plan.cells]

    def _row(self, planned: Planned) -> Row:
        """Says nothing of when the cell was trained: the same results print the same table."""
        cell = planned.cell
        before = self.plan.settled.get(planned.id)
        now = self.ended_cells.get(planned.id)
        known = before or now
        return Row(
            axes=cell.axes,
            seed=cell.seed,
            outcome=known.outcome if known else RUNNING if planned.id in self.attempts else WAITING,
            metrics=known.metrics if known else {},
            values=known.values if known else {},
            step=known.step if known else None,
            reason=known.reason if known else "",
            id=planned.id,
            label=cell.label,
            run_id=before.run_id if before else "",
            cpus=cell.resources.workers * cell.resources.cpus_per_worker,
        )

    def _table(self) -> Table:
        sweep = self.plan.sweep
        return make_table(
            self._rows(), self.plan.axes, sweep.metric.name, sweep.baseline, sweep.name
        )

    def _note(self) -> str:
        plan = self.plan
        return (
            f"{plan.sweep.question}\n\n{len(plan.cells)} cells; table.md among the "
            "artifacts is the result, the view *COCO table* lists the cells.\n\n"
            f"File: `{plan.sweep.file}`"
            + (f", profile `{plan.sweep.profile}`" if plan.sweep.profile else "")
        )


def close_orphans(ledger: Ledger, plan: Plan, screen: Console) -> bool:
    """Close what an orchestrator that was killed left running: with the result its gang wrote, if
    it got that far, else as `lost`. Whether anything was closed. Raises SweepError when a living
    orchestrator is at one of this plan's cells.
    """
    from orchestrator.spec import SweepError

    ours = set(plan.ids)
    closed = False
    for attempt in ledger.open_attempts():
        if attempt.owner == "alive" and attempt.cell_id in ours:
            raise SweepError(
                f"another orchestrator on this machine is running {attempt.label} "
                f"(sweep {attempt.sweep}); wait for it, or stop it first"
            )
        if attempt.owner == "elsewhere" and attempt.cell_id in ours:
            screen.print(
                f"{attempt.label} is marked as running on host {attempt.host}; "
                "it is started here as well",
                markup=False,
            )
        if attempt.owner != "gone":
            continue
        result = _result_of(attempt.folder)
        if result:
            ledger.finish(
                attempt.run_id,
                result["outcome"],
                result["reason"],
                result["step"],
                result["metrics"],
                result["values"],
                artifacts=_artifacts(attempt.folder, result["outcome"]),
                metrics_file=attempt.folder / "metrics.jsonl" if attempt.folder else None,
            )
        else:
            ledger.finish(attempt.run_id, "lost", "its orchestrator was killed")
        closed = True
    return closed


def _result_of(folder: Path | None) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text()) if folder else {}
    except (OSError, ValueError):
        return None
    return result if result.get("outcome") in SETTLED else None


def _artifacts(folder: Path | None, outcome: str) -> list[Path]:
    if folder is None:
        return []
    names = ["result.json", "detections.json"] if outcome in SETTLED else ["traceback.txt"]
    files = [folder / name for name in names]
    return [f for f in files if f.exists() and f.stat().st_size <= STORED_DETECTIONS]
