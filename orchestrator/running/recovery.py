"""What earlier starts left behind: attempts that no one closed, and results that are on disk and
not in MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from dashboards.outcomes import SETTLED
from orchestrator.planning.plan import Plan, Planned
from orchestrator.sweep.spec import SweepError
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.runs import OpenAttempt

STORED_DETECTIONS = 20e6  # bytes; a larger file stays in the cell's folder
LONGEST_TAG = 5000  # characters


@dataclass
class Recovered:
    """`changed`: something was closed. `elsewhere`: open attempts by cell, of other hosts."""

    changed: bool = False
    elsewhere: dict[str, list[OpenAttempt]] = field(default_factory=dict)


def close_orphans(ledger: Ledger, plan: Plan, screen: Console) -> Recovered:
    """Close what an orchestrator that was killed left running: with the result its gang wrote, if
    it got that far, else as `lost`. Raises SweepError when a living orchestrator is at one of this
    plan's cells.
    """
    ours = set(plan.ids)
    recovered = Recovered()
    for attempt in ledger.open_attempts():
        if attempt.owner == "alive" and attempt.cell_id in ours:
            raise SweepError(
                f"another orchestrator on this machine is running {attempt.label} "
                f"(sweep {attempt.sweep}); wait for it, or stop it first"
            )
        if attempt.owner == "elsewhere" and attempt.cell_id in ours:
            recovered.elsewhere.setdefault(attempt.cell_id, []).append(attempt)
            screen.print(
                f"{attempt.label} is marked as running on host {attempt.host}; "
                "it is started here as well",
                markup=False,
            )
        if attempt.owner != "gone":
            continue
        if not close_with_result(ledger, attempt):
            close_lost(ledger, attempt, "its orchestrator was killed")
        recovered.changed = True
    return recovered


def close_with_result(ledger: Ledger, attempt: OpenAttempt) -> bool:
    """Close `attempt` with the result in its folder, if there is a settled one."""
    result = result_of(attempt.folder)
    if not result or not attempt.folder:
        return False
    hours = gpu_hours(attempt.gpus, attempt.began, attempt.folder / "result.json")
    _finish(ledger, attempt.run_id, attempt.folder, result, hours)
    return True


def close_lost(ledger: Ledger, attempt: OpenAttempt, reason: str) -> None:
    """Close `attempt` as `lost`; what it cost is counted up to its last point."""
    hours = {}
    if attempt.folder:
        hours = gpu_hours(attempt.gpus, attempt.began, attempt.folder / "metrics.jsonl")
    ledger.finish(attempt.run_id, "lost", reason, values=hours)


def unrecorded(ledger: Ledger, plan: Plan) -> list[tuple[Planned, dict[str, Any]]]:
    """Results that are in the cells' folders and not in MLflow, which was down when they came. A
    folder is named by its cell's id, and an attempt begins by removing the result of the one
    before, so what is there is the cell's result.

    A result whose run a user deleted in MLflow is none of them: its cell is trained anew.
    """
    there = [(p, result) for p in plan.todo if (result := result_of(plan.folder / p.id))]
    deleted = ledger.deleted_results(p.id for p, _ in there) if there else {}
    return [
        (p, result)
        for p, result in there
        if (_modified(plan.folder / p.id / "result.json") or 0.0) > deleted.get(p.id, -1.0)
    ]


def store_unrecorded(ledger: Ledger, plan: Plan, screen: Console) -> bool:
    """Record what is `unrecorded`; whether there was anything."""
    found = unrecorded(ledger, plan)
    ledger.set_levels(plan.whole().axes)
    for planned, result in found:
        folder, r = plan.folder / planned.id, planned.cell.resources
        began = _modified(folder / "config.yaml")  # written when an attempt begins
        handle = ledger.start_attempt(
            plan.info(planned), "", ledger.next_attempt(planned.id), folder, began
        )
        ledger.tag(handle, {"cell.recorded": "from the files in its folder"})
        hours = gpu_hours(r.workers * r.gpus_per_worker, began, folder / "result.json")
        _finish(ledger, handle, folder, result, hours)
    if found:
        cells = "1 cell was" if len(found) == 1 else f"{len(found)} cells were"
        screen.print(
            f"the results of {cells} on disk and not in MLflow; stored now "
            f"({', '.join(p.cell.label for p, _ in found[:3])}{', ...' if found[3:] else ''})",
            markup=False,
            soft_wrap=True,
        )
    return bool(found)


def result_of(folder: Path | None) -> dict[str, Any] | None:
    """The settled result in a cell's folder; None for any other, and for none."""
    try:
        result: Any = json.loads((folder / "result.json").read_text()) if folder else {}
    except (OSError, ValueError):
        return None
    there = isinstance(result, dict) and {"reason", "step", "metrics", "values"} <= result.keys()
    return result if there and result.get("outcome") in SETTLED else None


def artifacts_of(folder: Path, outcome: str, metrics: Iterable[str]) -> list[Path]:
    """The files of a cell that go into MLflow. Detections belong to an attempt that was evaluated:
    without metrics, a file of that name is an earlier attempt's."""
    names = ["traceback.txt"]
    if outcome in SETTLED:
        scored = ["detections.json", "matches.npz"] if list(metrics) else []
        names = ["result.json", *scored]
    files = [folder / name for name in names]
    return [f for f in files if f.exists() and f.stat().st_size <= STORED_DETECTIONS]


def result_tags(result: Mapping[str, Any]) -> dict[str, str]:
    """What a result says beside its numbers: `cell.class_AP`, the AP of each class as JSON, unless
    it is too long for a tag (result.json has it in any case)."""
    by_class = {name: round(ap, 4) for name, ap in (result.get("class_AP") or {}).items()}
    text = json.dumps(by_class)
    return {"cell.class_AP": text} if by_class and len(text) <= LONGEST_TAG else {}


def gpu_hours(gpus: float, began: float | None, last: Path) -> dict[str, float]:
    """What an attempt that began at `began` (seconds) has cost until its file `last` was written;
    {} when that is not known."""
    ended = _modified(last)
    if began is None or ended is None:
        return {}
    return {"gpu_hours": gpus * max(ended - began, 0.0) / 3600}


def _finish(
    ledger: Ledger, handle: str, folder: Path, result: dict[str, Any], hours: dict[str, float]
) -> None:
    ledger.tag(handle, result_tags(result))
    ledger.finish(
        handle,
        result["outcome"],
        result["reason"],
        result["step"],
        result["metrics"],
        result["values"] | hours,
        artifacts=artifacts_of(folder, result["outcome"], result["metrics"]),
        metrics_file=folder / "metrics.jsonl",
    )


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None
