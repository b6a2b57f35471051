"""How a cell reads from its MLflow runs: the names of DESIGN.md section 6."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dashboards.metrics import CLASS
from dashboards.outcomes import FAULTS, SETTLED
from dashboards.store import Store
from dashboards.study import Cell

if TYPE_CHECKING:
    from mlflow.entities import Run

RUNNING = "running"
UNHEARD = "its orchestrator ended without a word"
_INFINITE = 1.7e308  # MLflow stores infinities as the largest double
_TAGS = (
    *("git.", "data.", "code.", "version.", "gpu.", "cpu.", "threads.", "resources.", "tune."),
    *("ref.", "cell.arm", "cell.workload", "orchestrator.host"),
)
"""How the tags begin that are kept: where a result comes from."""


@dataclass(frozen=True)
class Attempt:
    """One try at a cell. `cell` is the cell as this attempt alone says it."""

    cell: Cell
    axes: Mapping[str, str] = field(default_factory=dict)
    role: str = "report"
    sweep_run: str = ""  # the run of the sweep whose start made it
    number: int = 1
    start_ms: int = 0
    is_open: bool = False  # in MLflow it still runs
    heard: float | None = None  # seconds since the epoch: the newest of its numbers, of an open one


def read_attempt(run: Run, store: Store) -> Attempt:
    """`run` is tagged `run.kind = cell`; whatever else it lacks is left at its default."""
    tags, info = run.data.tags, run.info
    is_open = info.status == "RUNNING"
    outcome, reason = _outcome(tags, is_open)
    workers, gpus = (_number(tags.get(f"resources.{n}")) for n in ("workers", "gpus_per_worker"))
    cell = Cell(
        seed=whole(tags.get("cell.seed")) or 0,
        outcome=outcome,
        id=tags.get("cell.id", ""),
        label=tags.get("cell.label", ""),
        metrics=_metrics(run),
        step=whole(tags.get("cell.step")),
        reason=reason,
        attempts=1,
        run_id=str(info.run_id),
        experiment_id=str(info.experiment_id),
        sweep=tags.get("sweep.name", ""),
        began=_seconds(info.start_time),
        ended=None if is_open else _seconds(info.end_time),
        folder=tags.get("cell.folder", ""),
        links=_links(run, store),
        tags={k: v for k, v in tags.items() if k.startswith(_TAGS)},
        gpus=workers * gpus,
    )
    return Attempt(
        cell,
        axes={k.removeprefix("axis."): v for k, v in tags.items() if k.startswith("axis.")},
        role=tags.get("cell.role", "report"),
        sweep_run=tags.get("sweep.run_id", ""),
        number=whole(tags.get("cell.attempt")) or 1,
        start_ms=info.start_time or 0,
        is_open=is_open,
        heard=_heard(run) if is_open else None,
    )


def deciding(attempts: Iterable[Attempt]) -> Cell:
    """The cell as the attempt has it that decides: the newest result, else the newest attempt.
    There is at least one."""
    newest = sorted(attempts, key=lambda a: (a.start_ms, a.number), reverse=True)
    says = next((a for a in newest if a.cell.settled), newest[0])
    count = max(len(newest), *(a.number for a in newest))
    return says.cell if says.cell.attempts == count else replace(says.cell, attempts=count)


def unheard(attempt: Attempt) -> Attempt:
    """The attempt, when nobody is left who could say how it ended."""
    links = {name: link for name, link in attempt.cell.links.items() if name != "ray"}
    cell = replace(attempt.cell, outcome="lost", reason=UNHEARD, links=links)
    return replace(attempt, cell=cell)


def whole(text: str | None) -> int | None:
    """A tag that holds a whole number; None for any other."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def finite(value: object) -> float | None:
    """A number as it was logged; None for none, NaN, and the infinities as MLflow has them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) and abs(number) < _INFINITE else None


def finite_only(numbers: Mapping[str, object]) -> dict[str, float]:
    return {str(k): v for k, given in numbers.items() if (v := finite(given)) is not None}


# ---------------------------------------------------------------- inside


def _outcome(tags: Mapping[str, str], is_open: bool) -> tuple[str, str]:
    """(outcome, reason); one that cannot be is told, and counts as lost."""
    outcome, reason = tags.get("cell.outcome", ""), tags.get("cell.reason", "")
    if outcome in (*SETTLED, *FAULTS, RUNNING):
        return outcome, reason
    if is_open:
        return RUNNING, reason
    what = f"the outcome {outcome!r}, which is none" if outcome else "no outcome"
    return "lost", f"its run in MLflow is closed with {what}"


def _metrics(run: Run) -> dict[str, float]:
    metrics = finite_only(run.data.metrics)
    try:
        classes = json.loads(run.data.tags.get("cell.class_AP", "{}"))
    except (ValueError, RecursionError):  # MLflow cuts what is too long
        classes = {}
    if isinstance(classes, dict):
        metrics |= {f"{CLASS}{name}": value for name, value in finite_only(classes).items()}
    return metrics


def _links(run: Run, store: Store) -> dict[str, str]:
    links = {"mlflow": store.page(run.info.experiment_id, run.info.run_id)}
    tags = run.data.tags
    ray = tags.get("ray.url", "")
    watched = run.info.status == "RUNNING" or tags.get("ray.stays") == "true"
    if watched and ray.startswith(("http://", "https://")):  # anyone can edit a tag
        links["ray"] = ray
    return {name: link for name, link in links.items() if link}


def _heard(run: Run) -> float | None:
    times: Sequence[int] = [m.timestamp for m in run.data.to_proto().metrics]
    return max(times) / 1000 if times else None


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def _number(text: str | None) -> float:
    try:
        return finite(float(text)) or 0.0 if text is not None else 0.0
    except ValueError:
        return 0.0
