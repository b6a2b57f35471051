"""What happens to the cells, told to the ledger and to the screen. The only writer of both while a
sweep runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import gethostname
from typing import Any

from rich.console import Console

from dashboards.outcomes import SETTLED
from detcore.result import Point
from orchestrator.answers import to_json
from orchestrator.cluster.connect import Cluster
from orchestrator.cluster.gang import Job
from orchestrator.planning.plan import Plan, Planned
from orchestrator.planning.plan_table import table_of
from orchestrator.planning.tuning import tuning_json
from orchestrator.running.links import cell_note, watch_tags
from orchestrator.running.progress import Progress
from orchestrator.running.recovery import artifacts_of, close_lost, result_tags
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.render import to_csv, to_markdown, to_rich
from orchestrator.tracking.runs import OpenAttempt
from orchestrator.tracking.table import RUNNING, WAITING, Row, Table


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

    On leaving, cells that still run are closed as `cancelled`, and the sweep's own run gets the
    table of the whole sweep, also when `plan` is a part of it. `elsewhere` are open attempts of
    other hosts by cell: one is closed when an attempt at its cell starts here. With `began`, when
    the command was given, it is said how long the first step was in coming. `stored` says, after
    leaving, whether MLflow has everything.
    """

    def __init__(
        self,
        ledger: Ledger,
        plan: Plan,
        screen: Console,
        arguments: str = "",
        elsewhere: Mapping[str, list[OpenAttempt]] | None = None,
        words: Mapping[str, str] | None = None,
        began: float | None = None,
    ) -> None:
        self.ledger, self.plan, self.screen = ledger, plan, screen
        self.arguments = arguments
        self.elsewhere = dict(elsewhere or {})
        self.stored = True
        self._began = began
        self.planned = {p.id: p for p in plan.cells}
        self.attempts: dict[str, _Attempt] = {}
        self.ended_cells: dict[str, _Ended] = {}
        self.cluster: Cluster | None = None
        self.decided: Callable[[], dict[str, Any]] | None = None  # which arms got further seeds
        self._also: Callable[[], None] = lambda: None
        self._gpu_hours = 0.0
        reused = [plan.known[id].outcome for id in plan.ids if id in plan.known]
        metric = plan.sweep.metric.name
        self.progress = Progress(
            len(plan.cells), reused, console=screen, metric=metric, words=words
        )

    def __enter__(self) -> Recorder:
        whole = self.plan.whole()
        self.sweep_run = self.ledger.start_sweep(
            whole.sweep.file.read_text(encoding="utf-8"),
            whole.to_json(),
            self._note(),
            whole.axes,
            whole.variant,
            self.arguments,
        )
        self._said_before = self.ledger.say
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
        self.ledger.say = self._said_before  # the progress display has ended
        whole = self.plan.whole()
        table = {
            "table.md": to_markdown(self._table(whole)),
            "table.csv": to_csv(self._rows(whole), whole.axes),
        }
        table |= self._decisions(whole)
        status = "FINISHED" if kind is None else "KILLED" if stopped else "FAILED"
        self.stored = self.ledger.finish_sweep(self.sweep_run, table, status)
        if not self.stored:
            self.ledger.say(
                "MLflow does not have everything: the results are kept on disk, in "
                f"{self.plan.folder}; the same command stores them when MLflow answers again"
            )

    def _decisions(self, plan: Plan) -> dict[str, str]:
        """What was decided on the way, as artifacts."""
        texts = {}
        if plan.tuning:
            texts["tuning.json"] = to_json(tuning_json(plan))
        if self.decided:
            texts["decisions.json"] = to_json(self.decided())
            texts["plan.json"] = to_json(plan.to_json())  # with the further seeds
        return texts

    def watching(self, cluster: Cluster) -> None:
        """The cluster is up: from here on, progress is shown."""
        self.cluster = cluster
        self.progress.__enter__()

    # ------------------------------------------------------------ what the gangs say

    def started(self, job: Job, ray_tags: dict[str, str]) -> None:
        self._open(job, watch_tags(self.cluster, ray_tags))

    def points(self, job: Job, points: list[dict[str, Any]]) -> None:
        attempt = self.attempts.get(job["id"])
        if attempt is None:
            return
        self.ledger.log_points(attempt.handle, [Point(**p) for p in points])
        steps = [point for point in points if "loss/total" in point["values"]]
        if not steps:  # a score alone, of a step that is long past perhaps
            return
        if self._began is not None:  # by this machine's clock; the first point is not held back
            waited, self._began = time.time() - self._began, None
            self.message(f"first step {waited:.1f} s after the command")
        last = steps[-1]
        self.progress.cell_progress(
            job["id"],
            last["step"] + 1,
            job["config"]["train"]["steps"],
            last["values"]["loss/total"],
            last["values"].get("images_per_s"),
        )

    def ended(self, job: Job, end: dict[str, Any]) -> None:
        """`end` has a `result`, or a `fault`, with `again` when another attempt follows; also told
        of attempts that never began, which are on record as well, and of the death of processes
        that had given their result."""
        if job["id"] not in self.attempts:
            before = self.ended_cells.get(job["id"])
            if before and before.outcome in SETTLED:
                return
            self._open(job, {})
        if "fault" in end:
            fault = end["fault"]
            self._write_traceback(job, fault)
            ended = _Ended(fault["outcome"], fault["reason"], None)
            self._close(job["id"], ended, end.get("again", False))
        else:
            r = end["result"]
            self.ledger.tag(self.attempts[job["id"]].handle, result_tags(r))
            self._close(
                job["id"], _Ended(r["outcome"], r["reason"], r["step"], r["metrics"], r["values"])
            )

    def dropped(self, job: Job, reason: str) -> None:
        """A cell that waited was cancelled: no attempt was made, and none is on record."""
        self.ended_cells[job["id"]] = _Ended("cancelled", reason, None)
        self.progress.cell_finished(job["id"], "cancelled", label=job["label"])

    def every_tick(self, do: Callable[[], None]) -> None:
        """What else is done whenever the campaign has looked around."""
        self._also = do

    def tick(self) -> None:
        self.progress.tick()
        self._also()

    def message(self, text: str) -> None:
        self.progress.message(text)

    def add(self, cells: Iterable[Planned]) -> None:
        """Further cells of the sweep, as far as they are not known yet."""
        before = len(self.plan.cells)
        self.plan = self.plan.extended(cells)
        self.planned = {p.id: p for p in self.plan.cells}
        known = [p.id for p in self.plan.cells[before:] if p.id in self.plan.known]
        self.progress.add(
            len(self.plan.cells) - before, [self.plan.known[id].outcome for id in known]
        )

    # ------------------------------------------------------------ what it costs

    def gpu_hours(self) -> float:
        """Of the attempts of this start so far, also of those that run."""
        now = time.time()
        running = (self._hours(id, now - a.began) for id, a in self.attempts.items())
        return self._gpu_hours + sum(running)

    def costs(self, cells: Iterable[Planned]) -> float:
        """The GPU-hours that `cells` will take, by what other seeds of their arms took."""
        hours: dict[str, list[float]] = {}
        for planned, row in zip(self.plan.cells, self.rows, strict=True):
            if "gpu_hours" in row.values:
                hours.setdefault(planned.cell.arm_label, []).append(row.values["gpu_hours"])
        means = {arm: sum(each) / len(each) for arm, each in hours.items()}
        return sum(means.get(planned.cell.arm_label, 0.0) for planned in cells)

    def _hours(self, cell: str, seconds: float) -> float:
        return self.planned[cell].cell.resources.gpus * seconds / 3600

    # ------------------------------------------------------------ the end

    @property
    def rows(self) -> list[Row]:
        """Of every cell how it stands."""
        return self._rows()

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

    def _open(self, job: Job, tags: dict[str, str]) -> None:
        planned, folder = self.planned[job["id"]], Path(job["folder"])
        for other in self.elsewhere.pop(planned.id, []):
            close_lost(self.ledger, other, f"not heard of; started again by {gethostname()}")
        with suppress(OSError):
            (folder / "traceback.txt").unlink()  # an earlier attempt's
        handle = self.ledger.start_attempt(
            self.plan.info(planned),
            self.sweep_run,
            self.ledger.next_attempt(planned.id),
            folder,
        )
        note = cell_note(
            self.ledger.name, self.ledger.experiment_id, self.sweep_run, planned.id, tags
        )
        self.ledger.tag(handle, {**tags, "mlflow.note.content": note})
        self.attempts[planned.id] = _Attempt(handle, time.time())
        self.ended_cells.pop(planned.id, None)
        self.progress.cell_started(planned.id, job["label"], job["ranks"])

    def _close(self, cell: str, ended: _Ended, again: bool = False) -> None:
        attempt = self.attempts.pop(cell)
        self.ended_cells[cell] = ended
        seconds = time.time() - attempt.began
        ended.values["gpu_hours"] = self._hours(cell, seconds)
        self._gpu_hours += ended.values["gpu_hours"]
        folder = self.plan.folder / cell
        self.ledger.finish(
            attempt.handle,
            ended.outcome,
            ended.reason,
            ended.step,
            ended.metrics,
            ended.values,
            artifacts=artifacts_of(folder, ended.outcome, ended.metrics),
            metrics_file=folder / "metrics.jsonl",
        )
        if again:
            self.progress.cell_again(cell, ended.outcome)
            return
        metric = ended.metrics.get(self.plan.sweep.metric.name)
        self.progress.cell_finished(cell, ended.outcome, metric, seconds)

    def _write_traceback(self, job: Job, fault: dict[str, Any]) -> None:
        if fault.get("traceback"):
            folder = Path(job["folder"])
            with suppress(OSError):  # on a full disk the reason alone must do
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "traceback.txt").write_text(fault["traceback"])

    def _rows(self, plan: Plan | None = None) -> list[Row]:
        return [self._row(p) for p in (plan or self.plan).cells]

    def _row(self, planned: Planned) -> Row:
        """Says nothing of when the cell was trained: the same results print the same table."""
        cell = planned.cell
        before = self.plan.known.get(planned.id)
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

    def _table(self, plan: Plan | None = None) -> Table:
        plan = plan or self.plan
        return table_of(plan, self._rows(plan))

    def _note(self) -> str:
        plan = self.plan.whole()
        return (
            f"{plan.sweep.question}\n\n{len(plan.cells)} cells; table.md among the "
            "artifacts is the result, the view *COCO table* lists the cells.\n\n"
            f"File: `{plan.sweep.file}`"
            + (f", profile `{plan.sweep.profile}`" if plan.sweep.profile else "")
            + (f"\n\nArguments: `{self.arguments}`" if self.arguments else "")
        )
